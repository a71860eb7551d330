"""Grids and paths in latent space: codes z for a decoder."""

import numpy as np


def manifold(n):
    """A grid over two latent dimensions with equal prior probability between its lines: z = Φ⁻¹(u)
    for n×n equally spaced u in (0, 1)². Row by row from the top: (n·n, 2), float32."""
    from scipy.special import ndtri  # Φ⁻¹; imported here: SciPy's special functions load slowly
    u = (np.arange(n) + 0.5) / n
    z = ndtri(u).astype(np.float32)  # eq: vae-2d-manifold
    return np.stack([np.tile(z, n), np.repeat(z[::-1], n)], axis=1)


def traversal(z, dims, values):
    """Codes in which each dimension k of `dims` is varied alone, the others held fixed: z (d_z,), K
    dims and V values give (K · V, d_z), one dimension after the other."""
    rows = np.tile(z, (len(dims), len(values), 1))
    rows = rows.astype(np.result_type(rows, np.float32))  # an integer z would truncate the values
    for row, k in zip(rows, dims, strict=True):
        row[:, k] = values  # eq: vae-latent-traversal
    return rows.reshape(-1, len(z))


def interpolation(z0, z1, n):
    """n codes z(λ) on the straight line from z0 to z1, ends included: (n, d_z)."""
    lam = np.linspace(0, 1, n, dtype=np.result_type(z0, np.float32))[:, None]
    return (1 - lam) * z0 + lam * z1  # eq: latent-interpolation

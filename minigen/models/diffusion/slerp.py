"""Spherical interpolation (Shoemake 1985): from one code to another along an arc.

    slerp(z₁, z₂, λ) = (sin((1 − λ) Ω) z₁ + sin(λ Ω) z₂) / sin Ω,      cos Ω = z₁·z₂ / (‖z₁‖ ‖z₂‖)

Samples of N(0, I) in d dimensions have lengths near √d. So do those on the arc between two of them,
while those on the line are shorter, and so improbable that a decoder has never seen their like.
"""

import numpy as np

from minigen.tensor import as_array


def slerp(z_1, z_2, lam):
    """The codes at shares λ (n,) of the angle from z_1 to z_2, (n, d) or (1, d): an array (n, d).
    ValueError for opposite codes, between which no path is the shortest, and for codes of 0."""
    z_1, z_2 = as_array(z_1), as_array(z_2)
    length_1, length_2 = (np.linalg.norm(z, axis=-1, keepdims=True) for z in (z_1, z_2))
    if not (length_1.all() and length_2.all()):
        raise ValueError("slerp: a code is 0 and has no direction")
    cos = (z_1 * z_2).sum(-1, keepdims=True) / (length_1 * length_2)
    if (cos < -1 + 1e-6).any():
        raise ValueError("slerp: the codes are opposite: no path between them is the shortest")
    half_turns = np.arccos(np.clip(cos, -1, 1)) / np.pi  # Ω / π; sinc, so that Ω may be 0
    lam = np.atleast_1d(np.asarray(lam, np.result_type(z_1, np.float32)))[:, None]
    a, b = (s * np.sinc(s * half_turns) / np.sinc(half_turns) for s in (1 - lam, lam))
    return a * z_1 + b * z_2  # eq: dalle2-interpolation


def arcs(z, n=10):
    """n codes on the arc between the first two of z (N, d), then between the next two, and so on:
    (N / 2 · n, d). ValueError for an odd N."""
    if len(z) % 2:
        raise ValueError(f"arcs: {len(z)} codes came, expected an even number")
    lam = np.linspace(0, 1, n)
    pairs = zip(z[::2], z[1::2], strict=True)
    return np.concatenate([slerp(a[None], b[None], lam) for a, b in pairs])

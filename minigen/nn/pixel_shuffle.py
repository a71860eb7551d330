"""Pixel shuffle (Shi et al. 2016): channels become pixels, and back.

    y[n, c, r i + a, r j + b] = x[n, r² c + r a + b, i, j]        0 ≤ a, b < r
"""


def pixel_shuffle(x, r):
    """x (N, r² C, H, W) → y (N, C, r H, r W)."""
    N, C, H, W = x.shape
    if C % r**2:
        raise ValueError(f"pixel_shuffle: {C} channels, expected a multiple of {r**2}")
    x = x.reshape(N, C // r**2, r, r, H, W)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(N, C // r**2, r * H, r * W)  # eq: pixel-shuffle


def pixel_unshuffle(y, r):
    """y (N, C, r H, r W) → x (N, r² C, H, W)."""
    N, C, H, W = y.shape
    if H % r or W % r:
        raise ValueError(f"pixel_unshuffle: {H}×{W} pixels, expected multiples of {r}")
    y = y.reshape(N, C, H // r, r, W // r, r)
    y = y.transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(N, C * r**2, H // r, W // r)  # eq: pixel-shuffle

"""Metrics for comparing models, computed in the same way everywhere.

Likelihoods are in nats per image, over held-out images; noise comes from ``default_rng(0)``. The
scores of generated images are computed from a classifier's outputs: `minigen.ruler` has one.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minigen.ops import interpolate
from minigen.tensor import no_grad, tensor, xp


def binarise(x, rng):
    """Images in [0, 1] as zeros and ones (float32): a pixel's value is its probability of 1."""
    if x.dtype.kind != "f":
        raise TypeError(f"binarise: expected values in [0, 1], got {x.dtype}: divide by 255 first")
    return (xp(x).asarray(rng.random(x.shape)) < x).astype(np.float32)


def neg_elbo(vae, x, *cond, batch=500):
    """−ELBO, its reconstruction part and its KL part, averaged over all images x (N, C, H, W), with
    one sample of z per image: three numbers, the first of which is the sum of the other two."""
    rng, totals = np.random.default_rng(0), np.zeros(3)
    for i in range(0, len(x), batch):
        with no_grad():
            parts = vae.elbo(tensor(x[i:i + batch]), rng, *(y[i:i + batch] for y in cond))
        totals += [-parts[0].numpy().sum(dtype=np.float64),
                   -parts[1].numpy().sum(dtype=np.float64), parts[2].numpy().sum(dtype=np.float64)]
    return tuple((totals / len(x)).tolist())


def iw_nll(vae, x, *cond, K=50, batch=500):
    """−log p(x), bounded from above by K importance-weighted samples, averaged over x."""
    rng, total = np.random.default_rng(0), 0.0
    for i in range(0, len(x), batch):
        y = (y[i:i + batch] for y in cond)
        total -= vae.log_prob(tensor(x[i:i + batch]), rng, *y, K=K).numpy().sum(dtype=np.float64)
    return float(total / len(x))


def nll(model, x, *cond, batch=100):
    """−log p(x) in nats, averaged over all images x, of a model with an exact likelihood:
    `model.log_prob(x, *cond)` gives log p for each image of a batch."""
    total = 0.0
    for i in range(0, len(x), batch):
        with no_grad():
            log_p = model.log_prob(x[i:i + batch], *(y[i:i + batch] for y in cond))
        total -= log_p.numpy().sum(dtype=np.float64)
    return float(total / len(x))


def bits_per_dim(nats, dims):
    """Nats per image of `dims` values (C·H·W) as bits per value: nats / (dims ln 2)."""
    return nats / (dims * math.log(2))  # eq: bits-per-dim


# ---------------------------------------------------------------------------------- sets of images

def inception_score(p):
    """How confident a classifier is of its labels, and how varied they are (Salimans et al. 2016):

        IS = exp(E_x KL(p(y|x) ‖ p(y)))        p(y) = E_x p(y|x)

    p: p(y|x) of n images, (n, K). The score is between 1 (all rows alike) and K (each label
    certain, all labels equally frequent).
    """
    p = _check_features("inception_score", p)
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError("inception_score: rows of p must be probabilities that sum to one "
                         "(softmax of the logits)")
    ratio = np.divide(p, p.mean(0), out=np.ones_like(p), where=p > 0)  # 0 log 0 = 0
    return float(np.exp((p * np.log(ratio)).sum(1).mean()))  # eq: inception-score


def class_shares(p):
    """The share of images whose most probable label is 0, 1, …: (K,), from p(y|x) (n, K)."""
    p = _check_features("class_shares", p)
    return np.bincount(p.argmax(1), minlength=p.shape[1]) / len(p)


def codebook_usage(k, K):
    """How many of the codewords 0 … K − 1 occur among integers k of any shape, and their perplexity

        exp(−Σ_k p_k log p_k)        p_k: the share of codeword k

    which is how many equally frequent codewords would be as hard to guess. ValueError for integers
    out of range and for none."""
    k = np.ravel(k)
    if not k.size or k.min() < 0 or k.max() >= K:
        raise ValueError(f"codebook_usage: expected integers from 0 to {K - 1}, got "
                         + (f"{k.min()} to {k.max()}" if k.size else "none"))
    p = np.bincount(k, minlength=K) / k.size
    p = p[p > 0]
    return len(p), float(np.exp(-(p * np.log(p)).sum()))


def frechet_distance(a, b):
    """The squared Fréchet distance between two normal distributions with the means and covariances
    of features a (n, d) and b (m, d), n and m at least 2 (Heusel et al. 2017):

        ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½)

    With Σ = RᵀR, R from the QR decomposition of the centred features, tr Σ is the sum of R's
    squared entries, and tr (Σ_a Σ_b)^½ the sum of the singular values of R_a R_bᵀ: no matrix square
    root is needed, and singular covariances (n ≤ d) do no harm.
    """
    a, b = _check_features("frechet_distance", a), _check_features("frechet_distance", b)
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"frechet_distance: features are {a.shape} and {b.shape}, expected (n, d) "
                         "and (m, d), n and m at least 2")
    mu_a, mu_b = a.mean(0), b.mean(0)
    R_a = np.linalg.qr((a - mu_a) / math.sqrt(len(a) - 1), mode="r")
    R_b = np.linalg.qr((b - mu_b) / math.sqrt(len(b) - 1), mode="r")
    root = np.linalg.svd(R_a @ R_b.T, compute_uv=False).sum()  # tr (Σ_a Σ_b)^½
    traces = (R_a ** 2).sum() + (R_b ** 2).sum()
    return float(max(((mu_a - mu_b) ** 2).sum() + traces - 2 * root, 0))  # eq: fid


def crop_boxes(images, boxes, size):
    """The contents of the boxes, cropped and resized: (M, C, size, size).

    images: (N, C, H, W); boxes: integers (M, 5), each the index of an image, then top, left, bottom
    and right, the last two exclusive. ValueError for a box that is empty or not inside its image.
    """
    x, crops = tensor(images), []
    for n, top, left, bottom, right in np.asarray(boxes):
        inside = 0 <= top < bottom <= x.shape[2] and 0 <= left < right <= x.shape[3]
        if not (inside and 0 <= n < len(x)):
            raise ValueError(f"crop_boxes: the box {top}…{bottom}, {left}…{right} of image {n} is "
                             f"not inside images {x.shape}")
        crops.append(interpolate(x[n:n + 1, :, top:bottom, left:right], size=(size, size),
                                 mode="bilinear").data)
    return np.concatenate(crops or [np.empty((0, x.shape[1], size, size), x.dtype)])


def scene_fid(features, real, generated, size):
    """SceneFID (Sylvain et al. 2021): the Fréchet distance between objects, not whole images.

    features: maps images (n, C, size, size) to arrays (n, d); real, generated: pairs of images and
    boxes, as in `crop_boxes`
    """
    a, b = (features(crop_boxes(*pair, size)) for pair in (real, generated))
    return frechet_distance(a, b)  # eq: scenefid


def nearest(images, train, block=2000):
    """For each image (n, ...), the Euclidean distance to the nearest image in `train` (m, ...), and
    the index of that: float32 (n,), int64 (n,). Pixels are bytes or floats in [0, 1]; the distance
    is on the scale of [0, 1].
    """
    x = _to_unit_range(images)
    if x.shape[1:] != train.shape[1:] or not len(x) or not len(train):
        raise ValueError(f"nearest: images are {x.shape}, training images {train.shape}: expected "
                         "one or more of both, of one shape")
    x = x.reshape(len(x), -1).astype(np.float64)  # float32 would lose a difference of 1/255
    best, index = np.full(len(x), np.inf), np.zeros(len(x), np.int64)
    for i in range(0, len(train), block):
        y = _to_unit_range(train[i:i + block]).reshape(-1, x.shape[1]).astype(np.float64)
        rest = (y * y).sum(1) - 2 * x @ y.T  # ‖x − y‖² − ‖x‖², (n, block)
        j = rest.argmin(1)
        closer = np.flatnonzero((smallest := rest[np.arange(len(x)), j]) < best)
        best[closer], index[closer] = smallest[closer], i + j[closer]
    y = _to_unit_range(train[index]).reshape(x.shape)
    return np.sqrt(((x - y) ** 2).sum(1), dtype=np.float32), index  # eq: nearest-neighbour-check


def sharpness(x):
    """The mean |difference| of horizontal and of vertical neighbours in images x (N, C, H, W)."""
    x = _check_images("sharpness", x, 2).astype(np.float64)  # differences of bytes wrap around
    return float(np.abs(np.diff(x, axis=2)).mean() + np.abs(np.diff(x, axis=3)).mean()) / 2


def patches(x, side, step=None):
    """Squares of images x, `step` pixels apart, by default side by side: (n, C · side²)."""
    step = side if step is None else step
    x = _check_images("patches", x, 1)
    if side < 1 or step < 1 or any(n < side or (n - side) % step for n in x.shape[2:]):
        raise ValueError(f"patches: images are {x.shape}, expected sides of {side} + k · {step}")
    y = sliding_window_view(x, (side, side), (2, 3))[:, :, ::step, ::step]  # (N, C, P, Q, ., .)
    return y.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * side ** 2)


# ---------------------------------------------------------------------------------- pairs of images

def psnr(x, y, peak):
    """Peak signal-to-noise ratio of images x and y (N, C, H, W) in decibels, averaged over N:

        10 log₁₀(peak² / MSE)

    peak: the largest value a pixel can have, 1 or 255. Infinite if an image equals its partner.
    """
    x, y = _check_pair("psnr", x, y)
    mse = ((x - y) ** 2).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return float((10 * np.log10(peak ** 2 / mse)).mean())  # eq: psnr


def ssim(x, y, peak):
    """Structural similarity of images x and y (N, C, H, W), at most 1 (Wang et al. 2004):

        (2 μ_x μ_y + c₁)(2 σ_xy + c₂) / ((μ_x² + μ_y² + c₁)(σ_x² + σ_y² + c₂))

    c₁ = (0.01 peak)², c₂ = (0.03 peak)². Means and (co)variances are weighted by a Gaussian window
    of 11×11 with σ = 1.5; the result is averaged over all windows inside the image, channels and
    images. `peak` is the largest value a pixel can have, 1 or 255.
    """
    x, y = _check_pair("ssim", x, y)
    if min(x.shape[2:]) < 11:
        raise ValueError(f"ssim: images are {x.shape}, smaller than the window of 11×11")
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    w = np.exp(-np.arange(-5, 6) ** 2 / (2 * 1.5 ** 2))
    w /= w.sum()

    def mean(a):  # in every window: rows, then columns
        for axis in (2, 3):
            a = sliding_window_view(a, 11, axis) @ w
        return a

    mu_x, mu_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mu_x ** 2, mean(y * y) - mu_y ** 2
    cov = mean(x * y) - mu_x * mu_y
    similar = ((2 * mu_x * mu_y + c1) * (2 * cov + c2)
               / ((mu_x ** 2 + mu_y ** 2 + c1) * (var_x + var_y + c2)))  # eq: ssim
    return float(similar.mean())


# ---------------------------------------------------------------------------------- images, texts

def visual_similarity(t, x):
    """The cosine similarity of each text's embedding t (n, d) and each image's x (m, d), from
    encoders that were trained together: (n, m).

        VS = t · x / (‖t‖₂ ‖x‖₂)
    """
    t, x = _check_features("visual_similarity", t), _check_features("visual_similarity", x)
    if t.shape[1] != x.shape[1]:
        raise ValueError(f"visual_similarity: codes are {t.shape} and {x.shape}, expected (n, d) "
                         "and (m, d)")
    norms = np.linalg.norm(t, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    if not norms.all():
        raise ValueError("visual_similarity: a code is 0 and has no direction")
    return t @ x.T / norms  # eq: visual-similarity


def r_precision(t, x, r, rng, others=99):
    """The share of images whose own text is among the r nearest by cosine similarity, out of that
    text and `others` random other ones (Xu et al. 2018); r / (others + 1) by chance.

    t, x: embeddings (n, d) of the texts and of the images, in the same order. Texts that are
    equally near, such as identical ones, are ranked in random order: the image then counts with the
    probability that its own text is among the r.
    """
    n, hits = len(t), 0.0
    if len(x) != n or not 1 <= r <= others + 1 <= n:
        raise ValueError(f"r_precision: {n} texts and {len(x)} images came, r = {r}: expected one "
                         f"text for each image, at least {others + 1}, and r at most that")
    for i in range(n):
        j = rng.choice(n - 1, others, replace=False)
        similarity = visual_similarity(t[[i, *(j + (j >= i))]], x[i:i + 1])[:, 0]
        tied = np.isclose(similarity, similarity[0], rtol=0, atol=1e-6)  # equal up to rounding
        nearer = (similarity[~tied] > similarity[0]).sum()
        hits += np.clip((r - nearer) / tied.sum(), 0, 1)  # eq: r-precision
    return float(hits / n)


# ---------------------------------------------------------------------------------- checks

def _to_unit_range(images):
    """Bytes as float32 in [0, 1], floats as float32. TypeError for other integers."""
    x = tensor(images).numpy()
    if x.dtype != np.uint8 and x.dtype.kind in "iu":
        raise TypeError(f"metrics: images are {x.dtype}, expected uint8 or floats in [0, 1]")
    return x / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)


def _check_images(name, x, side):
    x = tensor(x).numpy()
    if x.ndim != 4 or not x.size or min(x.shape[2:]) < side:
        raise ValueError(f"{name}: images are {x.shape}, expected (N, C, H, W), H, W ≥ {side}")
    return x


def _check_features(name, a):
    a = tensor(a).numpy().astype(np.float64)
    if a.ndim != 2 or not a.size:
        raise ValueError(f"{name}: expected one row for each image, (n, d), got {a.shape}")
    if not np.isfinite(a).all():
        raise ValueError(f"{name}: a value is not finite")
    return a


def _check_pair(name, x, y):
    x, y = (tensor(a).numpy().astype(np.float64) for a in (x, y))
    if x.ndim != 4 or x.shape != y.shape or not x.size:
        raise ValueError(f"{name}: expected two sets of images of one shape (N, C, H, W), got "
                         f"{x.shape} and {y.shape}")
    return x, y

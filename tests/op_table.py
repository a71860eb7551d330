"""The table that test_ops.py runs through. Each row has the name of an operation, a function that
calls it, its inputs, and an independent expression for the result in NumPy or SciPy."""

import math

import numpy as np
import scipy.ndimage
import scipy.signal
import scipy.special

import minigen as mg
from minigen import tensor
from minigen.autodiff import alias, sum_to

rng = np.random.default_rng(7)


def real(*shape):
    return rng.standard_normal(shape)


def positive(*shape):
    return rng.uniform(0.5, 1.5, shape)


def apart(*shape):
    """Numbers at least 0.1 from each other and from 0, away from the kinks of max, relu and abs."""
    n = math.prod(shape)
    values = (np.arange(n) - n // 2 + 0.5) * 0.3 + rng.uniform(-0.05, 0.05, n)
    return rng.permutation(values).reshape(shape)


def np_conv2d(x, w, b=0, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Convolution as a sum, over input channels, of SciPy's correlations with the dilated filter at
    stride 1, of which every stride-th result is kept."""
    N, K = len(x), len(w)
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    spread = np.zeros((*w.shape[:2], *((k - 1) * d + 1 for k, d in
                                       zip(w.shape[2:], dilation, strict=True))))
    spread[:, :, ::dilation[0], ::dilation[1]] = w
    per_in, per_out = w.shape[1], K // groups
    y = np.stack([[sum(scipy.signal.correlate(x[n, k // per_out * per_in + c], spread[k, c],
                                              "valid") for c in range(per_in))
                   for k in range(K)] for n in range(N)])
    return y[:, :, ::stride[0], ::stride[1]] + np.reshape(b, (1, -1, 1, 1))


def np_conv_transpose2d(x, w, b=0, size=None, **kw):
    """Multiplies by the transpose of `np_conv2d`'s matrix, built from unit images."""
    shape = (1, w.shape[1] * kw.get("groups", 1), *size)
    eye = np.eye(math.prod(shape)).reshape(-1, *shape)
    columns = np.stack([np_conv2d(e[None] if e.ndim == 3 else e, w, **kw).ravel() for e in eye])
    y = np.stack([(columns @ v.ravel()).reshape(shape[1:]) for v in x])
    return y + np.reshape(b, (1, -1, 1, 1))


def windows(x, k, s):
    v = np.lib.stride_tricks.sliding_window_view(x, k, (2, 3))
    return v[:, :, ::s[0], ::s[1]]


def np_attention(q, k, v, mask=None, causal=False, scale=None):
    s = q @ np.swapaxes(k, -1, -2) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    blind = np.isneginf(s).all(-1, keepdims=True)  # queries with every key masked
    return np.where(blind, 0, scipy.special.softmax(np.where(blind, 0, s), -1)) @ v


def np_silu(x):
    return x * scipy.special.expit(x)


def np_norm(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def np_nll(logits, t, w=None, ignore=-100, smooth=0.0):
    """Cross-entropy, one example at a time; logits (N, C), integer targets t (N,)."""
    total = weight = 0
    for row, i in zip(logits, t, strict=True):
        if i == ignore:
            continue
        logp, ws = row - np.log(np.exp(row).sum()), np.ones(len(row)) if w is None else w
        total -= (1 - smooth) * ws[i] * logp[i] + smooth / len(row) * (ws * logp).sum()
        weight += ws[i]
    return total / weight


def np_bilinear(x, P, Q):
    """SciPy's linear interpolation at the positions (i + ½)/r − ½, clamped at the border."""
    H, W = x.shape[2:]
    i = np.clip((np.arange(P) + 0.5) * H / P - 0.5, 0, H - 1)
    j = np.clip((np.arange(Q) + 0.5) * W / Q - 0.5, 0, W - 1)
    at = np.meshgrid(i, j, indexing="ij")
    return np.stack([[scipy.ndimage.map_coordinates(c, at, order=1) for c in n] for n in x])


def np_pixel_shuffle(x, r):
    """Channel c r² + r i + j written to every r-th pixel from (i, j) on."""
    N, K, H, W = x.shape
    y = np.empty((N, K // r ** 2, r * H, r * W))
    for c, i, j in np.ndindex(K // r ** 2, r, r):
        y[:, c, i::r, j::r] = x[:, c * r ** 2 + r * i + j]
    return y


MASK = rng.random((3, 4)) < 0.5
LOWER = np.tri(4, 5, dtype=bool)
TWO = np.array([True, False, True])
LOWER[2] = False  # one query with every key masked
FLOAT_MASK = rng.standard_normal((2, 1, 4, 5))
INDEX = np.array([[2, 0, 2], [1, -1, 2]])
TARGET = np.array([2, 0, 3, 1, 2])
SEEN = np.array([2, -100, 3, 1, 2])
BITS = (rng.random((3, 4)) < 0.5).astype(float)
CLASS_WEIGHT = np.array([0.5, 2.0, 1.0, 0.7])
PROBS = rng.dirichlet(np.ones(4), 5)
KEEP = np.random.default_rng(3).random((3, 4), dtype=np.float32) >= 0.4
BN = dict(running_mean=np.array([0.1, -0.2, 0.3]), running_var=np.array([1.1, 0.5, 2.0]))


def bn(dtype):
    return {k: v.astype(dtype) for k, v in BN.items()}


A, B, V = real(3, 4), real(3, 4), real(4)
APART, POSITIVE, CUBE, IMAGE = apart(3, 4), positive(3, 4), real(2, 3, 4), real(2, 4, 6, 5)

# name, function of tensors, input arrays, the same function in NumPy
TABLE = [
    ("add", mg.add, (A, V), np.add),
    ("add", lambda x: 2 + x + 1, (A,), lambda x: x + 3),
    ("subtract", mg.subtract, (A, V), np.subtract),
    ("subtract", lambda x: 1 - x, (A,), lambda x: 1 - x),
    ("multiply", mg.multiply, (A, real(3, 1)), np.multiply),
    ("multiply", lambda x: mg.multiply(x, x), (A,), np.square),
    ("divide", mg.divide, (A, positive(4)), np.divide),
    ("divide", lambda x: 2 / x, (POSITIVE,), lambda x: 2 / x),
    ("negative", mg.negative, (A,), np.negative),
    ("reciprocal", mg.reciprocal, (POSITIVE,), np.reciprocal),
    ("power", mg.power, (POSITIVE, real(4)), np.power),
    ("power", lambda x: x ** 3, (A,), lambda x: x * x * x),
    ("power", lambda x: x ** 2, (A,), np.square),
    ("power", lambda x: x ** -0.5, (POSITIVE,), lambda x: 1 / np.sqrt(x)),
    ("power", lambda x: 2 ** x, (A,), np.exp2),
    ("exp", mg.exp, (A,), np.exp),
    ("expm1", mg.expm1, (A,), np.expm1),
    ("log", mg.log, (POSITIVE,), np.log),
    ("log1p", mg.log1p, (POSITIVE,), np.log1p),
    ("wrightomega", mg.wrightomega, (A,), scipy.special.wrightomega),
    ("wrightomega", lambda x: mg.wrightomega(100 * x), (POSITIVE,),
     lambda x: scipy.special.wrightomega(100 * x)),
    ("sqrt", mg.sqrt, (POSITIVE,), np.sqrt),
    ("square", mg.square, (A,), np.square),
    ("sin", mg.sin, (A,), np.sin),
    ("cos", mg.cos, (A,), np.cos),
    ("tan", mg.tan, (A / 3,), np.tan),
    ("arctan", mg.arctan, (A,), np.arctan),
    ("tanh", mg.tanh, (A,), np.tanh),
    ("erf", mg.erf, (A,), scipy.special.erf),
    ("log_ndtr", mg.log_ndtr, (A,), scipy.special.log_ndtr),
    ("abs", mg.abs, (APART,), np.abs),
    ("maximum", mg.maximum, (APART, APART[::-1] + 0.07), np.maximum),
    ("maximum", lambda x: mg.maximum(x, 0.0), (APART,), lambda x: np.maximum(x, 0)),
    ("minimum", mg.minimum, (APART, APART[::-1] + 0.07), np.minimum),
    ("clip", lambda x: mg.clip(x, -1, 0.5), (APART,), lambda x: np.clip(x, -1, 0.5)),
    ("clip", lambda x: mg.clip(x, max=0.5), (APART,), lambda x: np.minimum(x, 0.5)),
    ("where", lambda a, b: mg.where(MASK, a, b), (A, V), lambda a, b: np.where(MASK, a, b)),
    ("where", lambda a: mg.where(MASK, 1.0, a), (V,), lambda a: np.where(MASK, 1, a)),

    ("relu", mg.relu, (APART,), lambda x: np.maximum(x, 0)),
    ("leaky_relu", mg.leaky_relu, (APART,), lambda x: np.maximum(x, 0.01 * x)),
    ("leaky_relu", lambda x: mg.leaky_relu(x, 0.2), (APART,), lambda x: np.maximum(x, 0.2 * x)),
    ("elu", mg.elu, (APART,), lambda x: np.where(x > 0, x, np.exp(x) - 1)),
    ("elu", lambda x: mg.elu(x, 2.0), (APART,), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    ("gelu", mg.gelu, (A,), lambda x: x * scipy.special.ndtr(x)),
    ("gelu", lambda x: mg.gelu(x, "tanh"), (A,),
     lambda x: x * scipy.special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))),
    ("sigmoid", mg.sigmoid, (A,), scipy.special.expit),
    ("logsigmoid", mg.logsigmoid, (A,), lambda x: np.log(scipy.special.expit(x))),
    ("silu", mg.silu, (A,), np_silu),
    ("softplus", mg.softplus, (A,), lambda x: np.logaddexp(0, x)),
    ("softplus", lambda x: mg.softplus(x, 2.0, 1.0), (APART,),
     lambda x: np.where(2 * x > 1, x, np.logaddexp(0, 2 * x) / 2)),

    ("sum", mg.sum, (A,), np.sum),
    ("sum", lambda x: mg.sum(x, (0, -1)), (CUBE,), lambda x: np.einsum("ijk->j", x)),
    ("sum", lambda x: x.sum(1, keepdims=True), (CUBE,), lambda x: x.sum(1, keepdims=True)),
    ("mean", mg.mean, (A,), np.mean),
    ("mean", lambda x: mg.mean(x, (-1, 0)), (CUBE,), lambda x: np.einsum("ijk->j", x) / 8),
    ("var", mg.var, (A,), np.var),
    ("var", lambda x: x.var(-1, ddof=1, keepdims=True), (A,),
     lambda x: x.var(-1, ddof=1, keepdims=True)),
    ("std", lambda x: mg.std(x, (0, 2)), (CUBE,), lambda x: np.std(x, (0, 2))),
    ("norm", mg.norm, (A,), np.linalg.norm),
    ("norm", lambda x: mg.norm(x, (1, 2)), (CUBE,), lambda x: np.sqrt((x ** 2).sum((1, 2)))),
    ("norm", lambda x: mg.norm(x, -1, True), (A,), lambda x: np.linalg.norm(x, axis=-1)[:, None]),
    ("prod", mg.prod, (A,), np.prod),
    ("prod", lambda x: mg.prod(x, -2), (A * (np.arange(4) != 1),), lambda x: np.prod(x, 0)),
    ("prod", lambda x: x.prod((0, -1), keepdims=True), (CUBE,),
     lambda x: x.prod((0, -1), keepdims=True)),
    ("max", mg.max, (APART,), np.max),
    ("max", lambda x: mg.max(x, (0, -1)), (apart(2, 3, 4),), lambda x: np.max(x, (0, 2))),
    ("min", lambda x: mg.min(x, -1, keepdims=True), (APART,), lambda x: np.sort(x)[:, :1]),
    ("min", mg.min, (APART,), np.min),
    ("sort", mg.sort, (APART,), np.sort),
    ("sort", lambda x: mg.sort(x, 0), (APART,), lambda x: np.sort(x, 0)),
    ("sort", lambda x: mg.sort(x, None), (APART,), lambda x: np.sort(x, None)),
    ("cumsum", mg.cumsum, (A,), np.cumsum),
    ("cumsum", lambda x: mg.cumsum(x, -2), (A,), lambda x: np.tri(3) @ x),
    ("logsumexp", mg.logsumexp, (A,), scipy.special.logsumexp),
    ("logsumexp", lambda x: mg.logsumexp(x, (0, -1)), (CUBE,),
     lambda x: scipy.special.logsumexp(x, (0, 2))),
    ("softmax", mg.softmax, (A,), lambda x: scipy.special.softmax(x, -1)),
    ("softmax", lambda x: mg.softmax(x, 1), (CUBE,), lambda x: scipy.special.softmax(x, 1)),
    ("log_softmax", mg.log_softmax, (A,), lambda x: scipy.special.log_softmax(x, -1)),
    ("log_softmax", lambda x: mg.log_softmax(x, 0), (A,),
     lambda x: scipy.special.log_softmax(x, 0)),

    ("astype", lambda x: x.astype(x.dtype), (A,), np.copy),
    ("broadcast_to", lambda x: mg.broadcast_to(x, (2, 3, 4)), (real(3, 1),),
     lambda x: np.broadcast_to(x, (2, 3, 4))),
    ("sum_to", lambda x: sum_to(x, shape=(3, 1)), (CUBE,), lambda x: x.sum((0, 2))[:, None]),
    ("alias", alias, (A,), np.copy),
    ("concatenate", lambda a, b: mg.concatenate([a, b, a], -1), (A, B),
     lambda a, b: np.hstack([a, b, a])),
    ("concatenate", lambda a: mg.concatenate([np.array([1, 2]), a]), (V,),
     lambda a: np.r_[1, 2, a]),
    ("concatenate", lambda a, b: mg.concatenate([a, b], None), (A, V),
     lambda a, b: np.r_[a.ravel(), b]),
    ("stack", lambda a, b: mg.stack([a, b], -1), (A, B), lambda a, b: np.stack([a, b], -1)),
    ("split", lambda x: mg.split(x, 2, -1)[1] * 2, (A,), lambda x: x[:, 2:] * 2),
    ("split", lambda x: mg.split(x, [1, 3], 1)[1] * 2, (A,), lambda x: x[:, 1:3] * 2),
    ("expand_dims", lambda x: mg.expand_dims(x, (0, -1)), (A,), lambda x: x[None, ..., None]),
    ("squeeze", lambda x: mg.squeeze(x), (real(1, 3, 1),), np.squeeze),
    ("squeeze", lambda x: x.squeeze(-1), (real(1, 3, 1),), lambda x: x[..., 0]),
    ("flatten", lambda x: mg.flatten(x, 1), (CUBE,), lambda x: x.reshape(2, 12)),
    ("pixel_shuffle", lambda x: mg.pixel_shuffle(x, 2), (IMAGE,),
     lambda x: np_pixel_shuffle(x, 2)),
    ("pixel_unshuffle", lambda x: mg.pixel_unshuffle(x[..., :3], 3), (IMAGE[:, :3],),
     lambda x: np.stack([x[:, c, i:6:3, j:j + 1] for c, i, j in np.ndindex(3, 3, 3)], 1)),
    ("reshape", lambda x: x.reshape(4, -1), (CUBE,), lambda x: x.reshape(4, 6)),
    ("transpose", mg.transpose, (CUBE,), np.transpose),
    ("transpose", lambda x: x.transpose(1, -1, 0), (CUBE,), lambda x: np.einsum("ijk->jki", x)),
    ("swapaxes", lambda x: mg.swapaxes(x, 0, -1), (CUBE,), lambda x: np.einsum("ijk->kji", x)),
    ("moveaxis", lambda x: mg.moveaxis(x, -1, 0), (CUBE,), lambda x: np.einsum("ijk->kij", x)),
    ("moveaxis", lambda x: mg.moveaxis(x, (0, 1), (-1, 0)), (CUBE,),
     lambda x: np.moveaxis(x, (0, 1), (-1, 0))),
    ("flip", mg.flip, (A,), np.flip),
    ("flip", lambda x: mg.flip(x, (0, -1)), (CUBE,), lambda x: x[::-1, :, ::-1]),
    ("roll", lambda x: mg.roll(x, 2), (A,), lambda x: np.roll(x, 2)),
    ("roll", lambda x: mg.roll(x, (1, -2), (0, 1)), (A,), lambda x: np.roll(x, (1, -2), (0, 1))),
    ("tril", lambda x: mg.tril(x, -1), (A,), lambda x: np.tril(x, -1)),
    ("triu", mg.triu, (CUBE,), np.triu),
    ("getitem", lambda x: x[1:, ::-2], (A,), lambda x: x[1:, ::-2]),
    ("getitem", lambda x: x[..., None, -1], (A,), lambda x: x[..., None, -1]),
    ("getitem", lambda x: x[INDEX], (A,), lambda x: x[INDEX]),
    ("getitem", lambda x: x[tensor(INDEX)], (V,), lambda x: x[INDEX]),
    ("getitem", lambda x: x[:, INDEX, None, ::2], (CUBE,), lambda x: x[:, INDEX, None, ::2]),
    ("getitem", lambda x: x[MASK], (A,), lambda x: x[MASK]),
    ("getitem", lambda x: x[[0, 2, 2], 1:], (A,), lambda x: x[[0, 2, 2], 1:]),
    ("getitem", lambda x: x[[0, 0], ..., [1, 1]], (CUBE,), lambda x: x[[0, 0], ..., [1, 1]]),
    ("getitem", lambda x: x[:, TWO, [1, 1]], (CUBE,), lambda x: x[:, TWO, [1, 1]]),
    ("getitem", lambda x: x[:, (1, 1)], (A,), lambda x: x[:, (1, 1)]),
    ("getitem", lambda x: x[np.uint64([2, 0]), 1:], (A,), lambda x: x[[2, 0], 1:]),
    ("getitem", lambda x: x[[-1, 0, 2]], (A,), lambda x: x[[-1, 0, 2]]),
    ("take", lambda x: mg.take(x, INDEX, -1), (real(2, 3),), lambda x: np.take(x, INDEX, -1)),
    ("take", lambda x: mg.take(x, [0, -1, 5, 5]), (A,), lambda x: x.ravel()[[0, -1, 5, 5]]),
    ("take_along_axis", lambda x: mg.take_along_axis(x, INDEX, 0), (real(3, 3),),
     lambda x: np.take_along_axis(x, INDEX, 0)),
    ("take_along_axis", lambda x: mg.take_along_axis(x, np.array([[2, -1]]), 1), (A,),
     lambda x: x[:, [2, -1]]),
    ("repeat", lambda x: mg.repeat(x, 2, 1), (A,), lambda x: np.repeat(x, 2, 1)),
    ("repeat", lambda x: mg.repeat(x, [2, 0, 1], 0), (A,), lambda x: x[[0, 0, 2]]),
    ("repeat", lambda x: mg.repeat(x, 2), (A,), lambda x: np.repeat(x, 2)),
    ("tile", lambda x: mg.tile(x, (2, 1, 3)), (A,), lambda x: np.tile(x, (2, 1, 3))),
    ("tile", lambda x: mg.tile(x, 2), (A,), lambda x: np.hstack([x, x])),
    ("pad", lambda x: mg.pad(x, ((1, 0), (2, 3)), constant_values=0.5), (A,),
     lambda x: np.pad(x, ((1, 0), (2, 3)), constant_values=0.5)),
    *[("pad", lambda x, mode=mode: mg.pad(x, ((1, 2), (0, 5)), mode), (A,),
       lambda x, mode=mode: np.pad(x, ((1, 2), (0, 5)), mode))
      for mode in ("edge", "reflect", "symmetric", "wrap")],

    ("matmul", mg.matmul, (A, real(4, 2)), np.matmul),
    ("matmul", mg.matmul, (V, real(4, 2)), np.matmul),
    ("matmul", mg.matmul, (A, V), np.matmul),
    ("matmul", mg.matmul, (V, real(4)), np.dot),
    ("matmul", mg.matmul, (real(2, 1, 3, 4), real(3, 4, 2)), np.matmul),
    ("matmul", mg.matmul, (CUBE, real(4, 2)), np.matmul),
    ("matmul", mg.matmul, (V, real(2, 4, 3)), np.matmul),
    ("matmul", mg.matmul, (CUBE, V), np.matmul),
    ("linear", mg.linear, (CUBE, real(2, 4), real(2)), lambda x, w, b: x @ w.T + b),
    ("linear", mg.linear, (V, real(2, 4)), lambda x, w: w @ x),
    *[("einsum", lambda a, b, s=s: mg.einsum(s, a, b), ab, lambda a, b, s=s: np.einsum(s, a, b))
      for s, ab in [("ij,jk->ik", (A, real(4, 2))), ("ij, kj", (A, B)), ("ij,ij->", (A, B)),
                    ("bij,bjk->bik", (CUBE, real(2, 4, 2))), ("ij,k->k", (A, real(2))),
                    ("i,j->ji", (V, real(3))), (",i->i", (real(), V)),
                    ("ijk,j->", (CUBE, real(3)))]],

    ("mse_loss", mg.mse_loss, (A, B), lambda a, b: ((a - b) ** 2).mean()),
    ("mse_loss", lambda a, b: mg.mse_loss(a, b, "none"), (A, B), lambda a, b: (a - b) ** 2),
    ("l1_loss", lambda a, b: mg.l1_loss(a, b, "sum"), (APART, APART[::-1] + 0.07),
     lambda a, b: np.abs(a - b).sum()),
    ("binary_cross_entropy_with_logits", mg.binary_cross_entropy_with_logits, (A, positive(3, 4)),
     lambda x, t: (np.logaddexp(0, x) - t * x).mean()),
    ("binary_cross_entropy_with_logits",
     lambda x: mg.binary_cross_entropy_with_logits(
         x, BITS.astype(int), weight=V.astype(x.dtype), pos_weight=3.0, reduction="sum"), (A,),
     lambda x: -(V * np.where(BITS, 3, 1) * np.log(scipy.special.expit(x * (2 * BITS - 1)))).sum()),
    ("cross_entropy", lambda x: mg.cross_entropy(x, TARGET), (real(5, 4),),
     lambda x: np_nll(x, TARGET)),
    ("cross_entropy", lambda x: mg.cross_entropy(x, SEEN, CLASS_WEIGHT, label_smoothing=0.3),
     (real(5, 4),), lambda x: np_nll(x, SEEN, CLASS_WEIGHT, smooth=0.3)),
    ("cross_entropy", lambda x: mg.cross_entropy(x, TARGET[:, None], ignore_index=2),
     (real(5, 4, 1),), lambda x: np_nll(x[..., 0], TARGET, ignore=2)),
    ("cross_entropy", lambda x, p: mg.cross_entropy(x, p, reduction="none"), (real(5, 4), PROBS),
     lambda x, p: -(p * scipy.special.log_softmax(x, 1)).sum(1)),
    ("cross_entropy", lambda x: mg.cross_entropy(x, 2), (real(4),), lambda x: np_nll(x[None], [2])),
    ("embedding", lambda w: mg.embedding(INDEX % 3, w), (A,), lambda w: w[INDEX]),
    ("dropout", lambda x: mg.dropout(x, 0.4, rng=np.random.default_rng(3)), (A,),
     lambda x: x * KEEP / 0.6),

    ("conv2d", mg.conv2d, (IMAGE, real(3, 4, 3, 2), real(3)), np_conv2d),
    ("conv2d", lambda x, w: mg.conv2d(x, w, None, (2, 1), (1, 0), (1, 2), 2),
     (IMAGE, real(6, 2, 3, 2)),
     lambda x, w: np_conv2d(x, w, 0, (2, 1), (1, 0), (1, 2), 2)),
    ("conv2d", lambda x, w, b: mg.conv2d(x, w, b, padding="same", dilation=2),
     (IMAGE, real(2, 4, 3, 3), real(2)),
     lambda x, w, b: np_conv2d(x, w, b, padding=(2, 2), dilation=(2, 2))),
    ("conv_transpose2d", mg.conv_transpose2d, (real(2, 3, 3, 4), real(3, 2, 3, 2), real(2)),
     lambda x, w, b: np_conv_transpose2d(x, w, b, (5, 5))),
    ("conv_transpose2d", lambda x, w: mg.conv_transpose2d(x, w, None, 2, (1, 0), (1, 0), 2, (2, 1)),
     (real(2, 4, 2, 3), real(4, 1, 2, 3)),
     lambda x, w: np_conv_transpose2d(x, w, 0, (4, 7), stride=(2, 2), padding=(1, 0),
                                      dilation=(2, 1), groups=2)),
    ("conv2d_weight", lambda g, x: mg.conv2d_weight(g, x, (2, 3), 2, 1), (real(2, 3, 4, 3), IMAGE),
     lambda g, x: np.stack([(np_conv2d(x, e, 0, (2, 2), (1, 1)) * g).sum() for e in
                            np.eye(72).reshape(72, 3, 4, 2, 3)]).reshape(3, 4, 2, 3)),
    ("max_pool2d", lambda x: mg.max_pool2d(x, 2), (apart(2, 3, 4, 6),),
     lambda x: x.reshape(2, 3, 2, 2, 3, 2).max((3, 5))),
    ("max_pool2d", lambda x: mg.max_pool2d(x, (3, 2), (1, 2), (1, 1)), (apart(2, 2, 4, 4),),
     lambda x: windows(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf),
                       (3, 2), (1, 2)).max((-1, -2))),
    ("avg_pool2d", lambda x: mg.avg_pool2d(x, 2), (IMAGE,),
     lambda x: windows(x, (2, 2), (2, 2)).mean((-1, -2))),
    ("avg_pool2d", lambda x: mg.avg_pool2d(x, 3, 2, 1), (IMAGE,),
     lambda x: windows(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 2)).mean((-1, -2))),
    ("interpolate", lambda x: mg.interpolate(x, scale_factor=(2, 3)), (IMAGE,),
     lambda x: x.repeat(2, 2).repeat(3, 3)),
    ("interpolate", lambda x: mg.interpolate(x, (4, 7)), (IMAGE,),
     lambda x: x[:, :, np.arange(4) * 6 // 4][..., np.arange(7) * 5 // 7]),
    ("interpolate", lambda x: mg.interpolate(x, (9, 4), mode="bilinear"), (IMAGE,),
     lambda x: np_bilinear(x, 9, 4)),

    ("batch_norm", lambda x, w, b: mg.batch_norm(x, None, None, w, b, training=True),
     (real(4, 3, 2, 2), real(3), real(3)),
     lambda x, w, b: np_norm(x, (0, 2, 3)) * w[:, None, None] + b[:, None, None]),
    ("batch_norm", lambda x: mg.batch_norm(x, training=True, eps=0.1), (real(5, 3),),
     lambda x: np_norm(x, 0, 0.1)),
    ("batch_norm", lambda x, w: mg.batch_norm(x, **bn(x.dtype), weight=w), (real(4, 3), real(3)),
     lambda x, w: (x - BN["running_mean"]) / np.sqrt(BN["running_var"] + 1e-5) * w),
    ("group_norm", lambda x, w, b: mg.group_norm(x, 2, w, b), (IMAGE, real(4), real(4)),
     lambda x, w, b: np_norm(x.reshape(2, 2, 60), 2).reshape(x.shape) * w[:, None, None]
     + b[:, None, None]),
    ("batch_norm", lambda x, b: mg.batch_norm(x, bias=b), (real(5, 3), real(3)),
     lambda x, b: np_norm(x, 0) + b),
    ("group_norm", lambda x, b: mg.group_norm(x, 4, None, b), (IMAGE, real(4)),
     lambda x, b: np_norm(x, (2, 3)) + b[:, None, None]),
    ("layer_norm", lambda x, b: mg.layer_norm(x, (4,), bias=b), (CUBE, real(4)),
     lambda x, b: np_norm(x, -1) + b),
    ("group_norm", lambda x: mg.group_norm(x, 1), (IMAGE,), lambda x: np_norm(x, (1, 2, 3))),
    ("group_norm", lambda x, w: mg.group_norm(x, 4, w), (IMAGE, real(2, 4)),
     lambda x, w: np_norm(x, (2, 3)) * w[..., None, None]),
    ("group_norm", lambda x, w, b: mg.group_norm(x, 4, w, b), (IMAGE, real(4), real(1, 4)),
     lambda x, w, b: np_norm(x, (2, 3)) * w[:, None, None] + b[..., None, None]),
    ("group_norm", lambda x, w, b: mg.group_norm(x, 4, w, b), (IMAGE, real(2, 4), real(2, 4)),
     lambda x, w, b: np_norm(x, (2, 3)) * w[..., None, None] + b[..., None, None]),
    ("group_norm_silu", lambda x, w, b: mg.group_norm_silu(x, 4, w, b),
     (IMAGE, real(2, 4), real(2, 4)),
     lambda x, w, b: np_silu(np_norm(x, (2, 3)) * w[..., None, None] + b[..., None, None])),
    ("group_norm_silu", lambda x: mg.group_norm_silu(x, 1), (IMAGE,),
     lambda x: np_silu(np_norm(x, (1, 2, 3)))),
    ("layer_norm", lambda x, w, b: mg.layer_norm(x, 4, w, b), (CUBE, real(4), real(4)),
     lambda x, w, b: np_norm(x, -1) * w + b),
    ("layer_norm", lambda x, w: mg.layer_norm(x, (3, 4), w), (CUBE, real(3, 4)),
     lambda x, w: np_norm(x, (1, 2)) * w),
    ("scaled_dot_product_attention", mg.scaled_dot_product_attention,
     (real(2, 3, 4, 3), real(2, 3, 5, 3), real(2, 3, 5, 2)), np_attention),
    ("scaled_dot_product_attention",
     lambda q, k, v: mg.scaled_dot_product_attention(q, k, v, LOWER, scale=0.7),
     (real(2, 4, 3), real(5, 3), real(2, 5, 2)),
     lambda q, k, v: np_attention(q, k, v, LOWER, scale=0.7)),
    ("scaled_dot_product_attention",
     lambda q, k, v: mg.scaled_dot_product_attention(
         q, k, v, FLOAT_MASK.astype(q.dtype), is_causal=True),
     (real(2, 3, 4, 3), real(2, 3, 5, 3), real(2, 3, 5, 2)),
     lambda q, k, v: np_attention(q, k, v, FLOAT_MASK, True)),
]

# Operations without a useful derivative. For the first kind, `grad` raises an error that names the
# operation; the second kind returns integers or booleans, which carry no history.
STEPS = {"sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round}
UNTRACKED = {
    "argmax": (mg.argmax, np.argmax), "argmin": (mg.argmin, np.argmin),
    "argsort": (mg.argsort, np.argsort), "equal": (lambda x: x == x, lambda x: x == x),
    "not_equal": (lambda x: x != 0, lambda x: x != 0), "less": (lambda x: x < 0, lambda x: x < 0),
    "less_equal": (lambda x: x <= 0, lambda x: x <= 0),
    "greater": (lambda x: x > 0, lambda x: x > 0),
    "greater_equal": (lambda x: x >= 0, lambda x: x >= 0),
    "logical_and": (lambda x: (x > -1) & (x < 0.5), lambda x: (x > -1) & (x < 0.5)),
    "logical_or": (lambda x: (x < -1) | (x > 0.5), lambda x: (x < -1) | (x > 0.5)),
    "logical_not": (lambda x: ~(x > 0), lambda x: ~(x > 0)),
    "any": (lambda x: (x > 1).any(-1), lambda x: (x > 1).any(-1)),
    "all": (lambda x: (x < 1).all(0, keepdims=True), lambda x: (x < 1).all(0, keepdims=True)),
    "one_hot": (lambda x: mg.one_hot([2, 0], 3) + 0 * x.detach().sum(),
                lambda x: np.eye(3)[[2, 0]]),
}
ARITHMETIC_ON_SIZES = {"conv_output_size", "conv_transpose_output_size"}

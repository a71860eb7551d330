"""Scaled dot-product attention, and its adjoint

    s[t,j] = scale · Σ_d q[t,d]·k[j,d] + mask[t,j];  −∞ where mask is False, or is_causal and j > t
    lse[t] = log Σ_j exp s[t,j]
    o[t]   = Σ_j p[t,j]·v[j],   p[t,j] = exp(s[t,j] − lse[t])      t < T, j < S, for each of B

    q (B, T, D), k (B, S, D), v (B, S, E), mask None or (1 or B, T, S), boolean (True: allowed) or
    float (added) → o (B, T, E), lse (B, T).  A row that may attend to no key gives o = 0, lse = −∞.

With g = ∂/∂o, δ[t] = Σ_e g[t,e]·o[t,e] and ds = p ∘ (g·vᵀ − δ):

    gv = pᵀ·g,   gq = scale · ds·k,   gk = scale · dsᵀ·q

2·B·T·S·(D + E) FLOPs forward, 2.5 times that backward; q, k, v and o pass through memory at least
once. The fast versions (FlashAttention, arXiv:2205.14135) hold blocks of ROWS × KEYS scores in
cache. In the forward pass each row keeps a running maximum and sum, and rescales its partial o when
the maximum grows; the backward pass recomputes p from lse. On the CPU vectors run along rows of sᵀ.
"""

import math

import numpy as np

from .common import buffer, chunks, empty, kernel
from .cuda import blocks, input_macros, is_hopper, launch, per_output, xp
from .exponential import exp_shifted, larger
from .once import num_threads, once, threaded
from .product import panel, product

ROWS, KEYS = 128, 128


def check(q, k, v, mask, is_causal, scale):
    if mask is not None and mask.shape[:-2] not in ((1,), (len(q),)):
        raise ValueError(f"attention: mask has shape {mask.shape}, expected 1 or {len(q)}, T, S")


@kernel(check, q="B T D", k="B S D", v="B S E", mask="* T S mask or None")
def attention(q, k, v, mask, is_causal, scale):
    s = _masked(scale * q @ k.swapaxes(1, 2), mask, is_causal)
    top = np.maximum(s.max(-1, initial=-np.inf), np.finfo(s.dtype).min)  # finite, not −∞
    p = np.exp(s - top[..., None])
    total = p.sum(-1)
    with np.errstate(divide="ignore"):
        lse = np.where(total == 0, -np.inf, top + np.log(total))
    return p @ v / np.where(total == 0, 1, total)[..., None], lse


def _masked(s, mask, is_causal):
    """Scores s (B, T, S) with −∞ where attention is not allowed."""
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    return np.where(np.tri(*s.shape[1:], dtype=bool), s, -np.inf) if is_causal else s


@attention.version("cpu")
def attention(q, k, v, mask, is_causal, scale):
    (B, T), E = q.shape[:2], v.shape[2]
    o, lse = empty((B, T, E), q.dtype), np.empty((B, T), q.dtype)
    _forward(B * -(-T // ROWS), q, k, v, _attn_bias(mask, q), is_causal, q.dtype.type(scale), o,
             lse)
    return o, lse


def _attn_bias(mask, q):
    """The mask as numbers to add to the scores; an empty array if there is no mask."""
    if mask is None:
        return xp(q).empty((0, 0, 0), q.dtype)
    return mask if mask.dtype != bool else xp(q).where(
        mask, q.dtype.type(0), q.dtype.type(-np.inf))


@once
def _transpose(q, t0, t1, scale):
    """scale · qᵀ for the rows t0 to t1 of q (T, D), in a buffer of D·ROWS elements."""
    D = q.shape[1]
    qt = buffer(D * ROWS, q)
    panel(q, True, 0, t0, D, t1 - t0, qt, ROWS)
    for d in range(D):
        for i in range(d * ROWS, d * ROWS + t1 - t0):
            qt[i] *= scale
    return qt


@once
def _scores(qt, k, mask, n, rows, keys, is_causal, s):
    """Write sᵀ of some keys and rows of sequence n to s (KEYS, ROWS); qt: the rows' qᵀ."""
    (t0, t1), (s0, s1), (S, D) = rows, keys, k.shape[1:]
    product(s1 - s0, t1 - t0, D, k, (n * S + s0) * D, D, 1, qt, 0, ROWS, False, s, 0, ROWS)
    for j in range(s1 - s0):
        if len(mask):
            for i in range(t1 - t0):
                s[j, i] += mask[n % len(mask), t0 + i, s0 + j]
        if is_causal:
            s[j, :max(0, s0 + j - t0)] = -np.inf


@once
def _online_softmax(s, keys, top, total, out):
    """One step of the online softmax over blocks of keys: s (keys, rows) becomes exp(s − top), with
    top the maximum so far; total and out, relative to the old maximum, are scaled down."""
    shift = top.copy()
    for j in range(keys):
        row = s[j, :len(top)]
        for i in range(len(top)):
            shift[i] = larger(shift[i], row[i])
    for i in range(len(top)):
        top[i], old = shift[i], top[i]
        shift[i] = shift[i] if shift[i] > -np.inf else 0  # no key allowed so far
        rescale = np.exp(old - shift[i])
        total[i] *= rescale
        for e in range(out.shape[1]):
            out[i, e] *= rescale
    for j in range(keys):
        row = s[j, :len(top)]
        exp_shifted(row, shift)
        for i in range(len(top)):
            total[i] += row[i]


@threaded
def _forward(item, items, q, k, v, mask, is_causal, scale, o, lse):
    """ROWS queries of one sequence."""
    (B, T, E), S = o.shape, k.shape[1]
    blocks = items // B
    n, t0 = item // blocks, item % blocks * ROWS
    t1 = min(t0 + ROWS, T)
    s, qt = buffer(KEYS * ROWS, q).reshape(KEYS, ROWS), _transpose(q[n], t0, t1, scale)
    top, total = np.full(t1 - t0, -np.inf, q.dtype), np.zeros(t1 - t0, q.dtype)
    out = o[n, t0:t1]
    out[:] = 0
    for s0 in range(0, min(S, t1) if is_causal else S, KEYS):
        s1 = min(s0 + KEYS, S)
        _scores(qt, k, mask, n, (t0, t1), (s0, s1), is_causal, s)
        _online_softmax(s, s1 - s0, top, total, out)
        product(t1 - t0, E, s1 - s0, s, 0, 1, ROWS, v, (n * S + s0) * E, E, True, out, 0, E)
    for i in range(t1 - t0):
        lse[n, t0 + i] = top[i] + np.log(total[i])
        if total[i] > 0:
            for e in range(E):
                out[i, e] /= total[i]


@attention.version("numba_cuda")
def attention(q, k, v, mask, is_causal, scale):
    (B, T), S, E = q.shape[:2], *v.shape[1:]
    s, lse, o = (xp(q).empty(shape, q.dtype) for shape in ((B, T, S), (B, T), (B, T, E)))
    mask = xp(q).zeros((1, T, S), q.dtype) if mask is None else _attn_bias(mask, q)
    _score(s, q, k, mask, is_causal, scale)
    _log_sum(lse, s)
    _output(o, s, lse, v)
    return o, lse


@per_output
def _score(i, q, k, mask, is_causal, scale):
    (T, S), sum = mask.shape[1:], 0.0
    n, t, j = i // (T * S), i // S % T, i % S
    if is_causal and j > t:
        return -math.inf
    for d in range(q.shape[2]):
        sum += q[n, t, d] * k[n, j, d]
    return scale * sum + mask[n % mask.shape[0], t, j]


@per_output
def _log_sum(i, s):
    n, t, top, sum = i // s.shape[1], i % s.shape[1], -math.inf, 0.0
    for j in range(s.shape[2]):
        top = max(top, s[n, t, j])
    if top == -math.inf:
        return top
    for j in range(s.shape[2]):
        sum += math.exp(s[n, t, j] - top)
    return top + math.log(sum)


@per_output
def _output(i, s, lse, v):
    (T, E), sum = (s.shape[1], v.shape[2]), 0.0
    n, t, e = i // (T * E), i // E % T, i % E
    if lse[n, t] == -math.inf:
        return sum
    for j in range(s.shape[2]):
        sum += math.exp(s[n, t, j] - lse[n, t]) * v[n, j, e]
    return sum


@attention.version("cuda")
def attention(q, k, v, mask, is_causal, scale):
    (B, T), E, run = q.shape[:2], v.shape[2], _Cuda(q, k, v, mask, is_causal, scale)
    o, lse = xp(q).empty((B, T, E), q.dtype), xp(q).empty((B, T), q.dtype)
    run("attention", T, 1, *run.packed, run.mask, o, lse)
    return o, lse


class _Cuda:
    """Packs q, k and v, and launches the kernels of attention.cu; sizes as in attention.cuh."""

    def __init__(self, q, k, v, mask, is_causal, scale):
        (B, T, D), (S, E), scale = q.shape, v.shape[1:], q.dtype.type(scale)
        step = T * S if mask is not None and len(mask) > 1 else 0
        self.macros, self.bytes = input_macros(q.dtype)
        self.head = next((h for h in (16, 32, 64, 128) if h >= max(D, E)), math.inf)
        if self.head * q.itemsize > 512:
            raise ValueError(f"attention: heads of {max(D, E)} {q.dtype} numbers; on CUDA at most "
                             f"{512 // q.itemsize}")
        self.mask = None if mask is None else _attn_bias(mask, q)
        self.options = T, S, D, E, np.int64(step), bool(is_causal), scale
        self.packed = [self.rows(a) for a in (q, k, v)]
        self.pack("attention_pack", B * max(T, S), q, k, v, *self.packed, B * T, B * S, D, E,
                  scale)

    def rows(self, a):
        return xp(a).empty((*a.shape[:2], self.head), f"u{self.bytes}")

    def pack(self, name, rows, *args):
        chunks = rows * self.head * self.bytes // 16
        launch("attention.cu", name, blocks(chunks, 256), 256, args, HEAD=self.head, **self.macros)

    def __call__(self, name, rows, own, *arrays):
        """Launch a kernel whose blocks split `rows` queries or keys, rows of `own` matrices."""
        size, tensor = self.head * self.bytes, self.macros["INPUT"] in ("tf32", "bf16")
        warps, columns = 4 - 2 * (size > 256), min(64, max(16, (4096 << tensor) // size))
        block, wide, macros = 16 * warps * (1 + (tensor and size <= 128)), size + 16, self.macros
        if self.bytes == 2 and self.head == 64 and is_hopper(self.packed[0]):
            block, wide, macros = 64, size, {**macros, "WGMMA": 1}
        part = 0 if tensor else columns * self.bytes + 16
        shared = own * block * (wide + part) + 4 * columns * (wide + self.options[-1].itemsize)
        launch("attention.cu", name, len(self.packed[0]) * blocks(rows, block), 32 * warps,
               (*arrays, *self.options), shared, HEAD=self.head, **macros)


@kernel(lambda g, o, lse, *args: check(*args), g="B T E", o="B T E", lse="B T", q="B T D",
        k="B S D", v="B S E", mask="* T S mask or None")
def attention_backward(g, o, lse, q, k, v, mask, is_causal, scale):
    s = _masked(scale * q @ k.swapaxes(1, 2), mask, is_causal)
    p = np.exp(s - np.maximum(lse, np.finfo(lse.dtype).min)[..., None])
    ds = p * (g @ v.swapaxes(1, 2) - (g * o).sum(-1, keepdims=True))
    return scale * ds @ k, scale * ds.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ g


@attention_backward.version("cpu")
def attention_backward(g, o, lse, q, k, v, mask, is_causal, scale):
    B, S = k.shape[:2]
    threads = num_threads()  # with fewer sequences than that, split their keys
    parts = 1 if B >= threads else chunks(-(-S // KEYS))
    gq, gk, gv = np.zeros((parts, *q.shape), q.dtype), np.zeros_like(k), np.zeros_like(v)
    _backward(parts * B, g, o, lse, q, k, v, _attn_bias(mask, q), is_causal, q.dtype.type(scale),
              gq, gk, gv)
    return gq.sum(0) if parts > 1 else gq[0], gk, gv


@attention_backward.version("cuda")
def attention_backward(g, o, lse, q, k, v, mask, is_causal, scale):
    (B, T), (S, E), run = q.shape[:2], v.shape[1:], _Cuda(q, k, v, mask, is_causal, scale)
    whole = 64 * blocks(T, 64)
    rounded, inits = run.rows(g), xp(q).empty((B, whole, 2), q.dtype)
    run.pack("attention_init", B * whole, g, o, lse, rounded, inits, B * whole, T, E)
    given = inits, *run.packed, rounded, run.mask
    gq, gk, gv = (xp(a).empty_like(a) for a in (q, k, v))
    run("attention_queries", T, 2, *given, gq)
    run("attention_keys", S, 2, *given, gk, gv)
    return gq, gk, gv


@threaded
def _backward(item, items, g, o, lse, q, k, v, mask, is_causal, scale, gq, gk, gv):
    (parts, _, T, D), (S, E) = gq.shape, v.shape[1:]
    n, part = item // parts, item % parts
    begin, end = part * S // parts, (part + 1) * S // parts
    p, ds = (buffer(KEYS * ROWS, q).reshape(KEYS, ROWS),
             buffer(KEYS * ROWS, q).reshape(KEYS, ROWS))
    delta, shift = np.zeros(T, q.dtype), np.empty(T, q.dtype)
    for t in range(T):
        shift[t] = lse[n, t] if lse[n, t] != -np.inf else np.inf  # p = 0: no key was allowed
        for e in range(E):
            delta[t] += g[n, t, e] * o[n, t, e]
    for t0 in range(begin // ROWS * ROWS if is_causal else 0, T, ROWS):
        t1 = min(t0 + ROWS, T)
        qt, gt = _transpose(q[n], t0, t1, scale), _transpose(g[n], t0, t1, q.dtype.type(1))
        for s0 in range(begin, min(end, t1) if is_causal else end, KEYS):
            s1 = min(s0 + KEYS, end)
            _scores(qt, k, mask, n, (t0, t1), (s0, s1), is_causal, p)
            product(s1 - s0, t1 - t0, E, v, (n * S + s0) * E, E, 1, gt, 0, ROWS, False, ds, 0, ROWS)
            for j in range(s1 - s0):
                row, ds_row = p[j, :t1 - t0], ds[j]
                exp_shifted(row, shift[t0:])
                for i in range(len(row)):
                    ds_row[i] = row[i] * (ds_row[i] - delta[t0 + i]) * scale
            at, key = n * T + t0, n * S + s0
            product(s1 - s0, E, t1 - t0, p, 0, ROWS, 1, g, at * E, E, True, gv, key * E, E)
            product(s1 - s0, D, t1 - t0, ds, 0, ROWS, 1, q, at * D, D, True, gk, key * D, D)
            product(t1 - t0, D, s1 - s0, ds, 0, 1, ROWS, k, key * D, D, True, gq[part], at * D, D)

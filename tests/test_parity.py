"""Ops against PyTorch, float64: value, first derivative and, where PyTorch has one, second."""

import numpy as np
import pytest

import minigen as mg
from minigen import grad, tensor

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity
rng = np.random.default_rng(11)


def real(*shape):
    return rng.standard_normal(shape)


X, T, W = real(6, 4, 3), rng.integers(0, 4, (6, 3)), rng.uniform(0.5, 2, 4)
P, SEEN = rng.dirichlet(np.ones(4), (6, 3)).transpose(0, 2, 1), np.where(T == 1, -100, T)
BITS = (rng.random((6, 4)) < 0.5).astype(float)
IMAGE = real(2, 4, 7, 6)
QKV = real(2, 3, 5, 4), real(2, 3, 6, 4), real(2, 3, 6, 2)
MASK, FLOATS = rng.random((3, 5, 6)) < 0.7, real(5, 6)
MASK[..., 0] = True
MEAN, VAR = real(4), rng.uniform(0.5, 2, 4)
sdpa = mg.scaled_dot_product_attention


def t(a):
    return torch.from_numpy(np.array(a, order="C"))


# name, ours, PyTorch's, arrays
TABLE = [
    *[(name, getattr(mg, name), getattr(F, name), (X,)) for name in
      ("relu", "leaky_relu", "elu", "silu", "gelu", "softplus", "logsigmoid", "sigmoid", "tanh")],
    ("gelu tanh", lambda x: mg.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), (X,)),
    ("elu alpha", lambda x: mg.elu(x, 0.5), lambda x: F.elu(x, 0.5), (X,)),
    ("softplus beta", lambda x: mg.softplus(x, 3, 2), lambda x: F.softplus(x, 3, 2), (X,)),
    ("softplus far", mg.softplus, F.softplus, (X * 100,)),
    ("logsigmoid far", mg.logsigmoid, F.logsigmoid, (X * 100,)),
    ("softmax", lambda x: mg.softmax(x, 1), lambda x: F.softmax(x, 1), (X,)),
    ("log_softmax", lambda x: mg.log_softmax(x, 1), lambda x: F.log_softmax(x, 1), (X * 50,)),
    ("logsumexp", lambda x: mg.logsumexp(x, (0, 2)), lambda x: torch.logsumexp(x, (0, 2)), (X,)),
    ("norm", lambda x: mg.norm(x, 1), lambda x: torch.linalg.vector_norm(x, dim=1), (X,)),
    ("norm of 0", mg.norm, torch.linalg.vector_norm, (np.zeros(3),)),
    ("std", lambda x: mg.std(x, 0, ddof=1), lambda x: x.std(0), (X,)),
    ("prod", lambda x: mg.prod(x, 1), lambda x: x.prod(1), (X * (np.arange(4) != 2)[:, None],)),
    ("power", mg.power, torch.pow, (np.abs(X), real(4, 1))),
    ("max", mg.max, torch.amax, (np.round(X),)),
    ("maximum", mg.maximum, torch.maximum, (np.round(X), np.round(X[::-1]))),
    ("clip", lambda x: mg.clip(x, -1, 1), lambda x: x.clamp(-1, 1), (np.round(X),)),
    ("cumsum", lambda x: mg.cumsum(x, 1), lambda x: x.cumsum(1), (X,)),
    ("sort", lambda x: mg.sort(x, 1), lambda x: x.sort(1).values, (X,)),
    ("einsum", lambda a, b: mg.einsum("nct,cd->ntd", a, b),
     lambda a, b: torch.einsum("nct,cd->ntd", a, b), (X, real(4, 5))),
    ("matmul", mg.matmul, torch.matmul, (real(2, 1, 3, 4), real(5, 4, 2))),
    ("linear", mg.linear, F.linear, (real(2, 5, 3), real(4, 3), real(4))),
    ("getitem", lambda x: x[:, [0, 0, 3], None, ::2], lambda x: x[:, [0, 0, 3], None, ::2], (X,)),
    ("embedding", lambda w: mg.embedding(T, w), lambda w: F.embedding(t(T), w), (real(4, 3),)),
    ("mse_loss", mg.mse_loss, F.mse_loss, (X, X[::-1])),
    ("l1_loss", mg.l1_loss, F.l1_loss, (X, X[::-1])),
    ("bce", lambda x: mg.binary_cross_entropy_with_logits(x, BITS),
     lambda x: F.binary_cross_entropy_with_logits(x, t(BITS)), (real(6, 4) * 30,)),
    *[(f"bce {r}", lambda x, p, r=r: mg.binary_cross_entropy_with_logits(x, p, W, W + 1, r),
       lambda x, p, r=r: F.binary_cross_entropy_with_logits(x, p, t(W), None, None, r, t(W + 1)),
       (real(6, 4), rng.random((6, 4)))) for r in ("mean", "sum", "none")],
    *[(f"cross_entropy {r} {s} {w is not None}",
       lambda x, r=r, s=s, w=w: mg.cross_entropy(x, SEEN, w, reduction=r, label_smoothing=s),
       lambda x, r=r, s=s, w=w: F.cross_entropy(
           x, t(SEEN), None if w is None else t(w), reduction=r, label_smoothing=s), (X,))
      for r in ("mean", "sum", "none") for s in (0.0, 0.2) for w in (None, W)],
    *[(f"cross_entropy probabilities {r} {s} {w is not None}",
       lambda x, p, r=r, s=s, w=w: mg.cross_entropy(x, p, w, reduction=r, label_smoothing=s),
       lambda x, p, r=r, s=s, w=w: F.cross_entropy(
           x, p, None if w is None else t(w), reduction=r, label_smoothing=s), (X, P))
      for r in ("mean", "none") for s in (0.0, 0.2) for w in (None, W)],
    ("conv2d", lambda x, w, b: mg.conv2d(x, w, b, (2, 1), (1, 2), (2, 1), 2),
     lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2), (2, 1), 2),
     (IMAGE, real(6, 2, 3, 2), real(6))),
    ("conv2d same", lambda x, w: mg.conv2d(x, w, padding="same", dilation=2),
     lambda x, w: F.conv2d(x, w, padding="same", dilation=2), (IMAGE, real(3, 4, 3, 5))),
    ("conv_transpose2d", lambda x, w, b: mg.conv_transpose2d(x, w, b, (2, 3), 1, (1, 2), 2, 2),
     lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 3), 1, (1, 2), 2, 2),
     (IMAGE, real(4, 3, 3, 2), real(6))),
    ("max_pool2d", lambda x: mg.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1),
     (IMAGE,)),
    ("avg_pool2d", lambda x: mg.avg_pool2d(x, (3, 2), (2, 1), 1),
     lambda x: F.avg_pool2d(x, (3, 2), (2, 1), 1), (IMAGE,)),
    ("nearest", lambda x: mg.interpolate(x, (5, 9)), lambda x: F.interpolate(x, (5, 9)), (IMAGE,)),
    ("bilinear", lambda x: mg.interpolate(x, scale_factor=2, mode="bilinear"),
     lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (IMAGE,)),
    ("bilinear down", lambda x: mg.interpolate(x, (3, 11), mode="bilinear"),
     lambda x: F.interpolate(x, (3, 11), mode="bilinear"), (IMAGE,)),
    ("pixel_shuffle", lambda x: mg.pixel_shuffle(x, 2), lambda x: F.pixel_shuffle(x, 2), (IMAGE,)),
    ("batch_norm", lambda x, w, b: mg.batch_norm(x, None, None, w, b, True),
     lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (IMAGE, real(4), real(4))),
    ("batch_norm eval", lambda x, w, b: mg.batch_norm(x, MEAN, VAR, w, b),
     lambda x, w, b: F.batch_norm(x, t(MEAN), t(VAR), w, b), (IMAGE, real(4), real(4))),
    ("group_norm", lambda x, w, b: mg.group_norm(x, 2, w, b, 1e-3),
     lambda x, w, b: F.group_norm(x, 2, w, b, 1e-3), (IMAGE, real(4), real(4))),
    ("group_norm_silu", lambda x, w, b: mg.group_norm_silu(x, 2, w, b),
     lambda x, w, b: F.silu(F.group_norm(x, 2, w, b)), (IMAGE, real(4), real(4))),
    ("layer_norm", lambda x, w, b: mg.layer_norm(x, (4, 3), w, b),
     lambda x, w, b: F.layer_norm(x, (4, 3), w, b), (X, real(4, 3), real(4, 3))),
    ("attention", sdpa, F.scaled_dot_product_attention, QKV),
    ("attention causal", lambda *a: sdpa(*a, is_causal=True, scale=0.3),
     lambda *a: F.scaled_dot_product_attention(*a, is_causal=True, scale=0.3), QKV),
    ("attention mask", lambda *a: sdpa(*a, MASK),
     lambda *a: F.scaled_dot_product_attention(*a, t(MASK)), QKV),
    ("attention bias", lambda *a: sdpa(*a, FLOATS),
     lambda *a: F.scaled_dot_product_attention(*a, t(FLOATS)), QKV),
    ("pad", lambda x: mg.pad(x, ((0, 0), (0, 0), (2, 1), (1, 3)), "reflect"),
     lambda x: F.pad(x, (1, 3, 2, 1), "reflect"), (IMAGE,)),
]


@pytest.mark.parametrize("name, ours, theirs, arrays", TABLE, ids=[row[0] for row in TABLE])
def test_parity(name, ours, theirs, arrays):
    xs = [tensor(a, requires_grad=True) for a in arrays]
    ts = [t(a.copy()).requires_grad_() for a in arrays]
    y, z = ours(*xs), theirs(*ts)
    c = np.random.default_rng(0).standard_normal(y.shape)
    close(y, z)
    gs = grad(y, xs, create_graph=True, cotangent=c)
    hs = torch.autograd.grad(z, ts, t(c), create_graph=True)
    for ours_g, plain, theirs_g in zip(gs, grad(y, xs, cotangent=c), hs, strict=True):
        close(ours_g, theirs_g)
        close(plain, theirs_g)
    if name == "norm of 0" or not any(h.requires_grad for h in hs):
        return
    tops = sum((mg.sin(g) * (i + 1)).sum() for i, g in enumerate(gs))
    tops_t = sum((torch.sin(h) * (i + 1)).sum() for i, h in enumerate(hs))
    for a, b in zip(grad(tops, xs, allow_unused=True),
                    torch.autograd.grad(tops_t, ts, allow_unused=True), strict=True):
        close(a, torch.zeros(a.shape, dtype=torch.float64) if b is None else b)


def close(a, b):
    assert a.shape == tuple(b.shape)
    np.testing.assert_allclose(a.numpy(), b.detach().numpy(force=True), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("f", [lambda m, x: m.softmax(x, -1), lambda m, x: m.log_softmax(x, -1),
                               lambda m, x: m.logsumexp(x, -1), lambda m, x: m.sigmoid(x),
                               lambda m, x: m.tanh(x)])
@pytest.mark.parametrize("values", [(1e3, -1e3, 0.0), (-np.inf, 0.0, 1.0), (1e300, 1.0, -1e300),
                                    (np.nan, 0.0, 1.0)])
def test_parity_at_extremes(f, values):
    x, z = tensor(np.array(values), requires_grad=True), torch.tensor(values, requires_grad=True,
                                                                      dtype=torch.float64)
    y, w = f(mg, x), f(torch, z)
    close(y, w)
    close(grad(y, x, cotangent=np.ones(y.shape)), torch.autograd.grad(w.sum(), z)[0])

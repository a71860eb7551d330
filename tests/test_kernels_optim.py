"""The updates of the optimisers: against references and PyTorch, and for many arrays at once."""

import numpy as np
import pytest
from kernel_checks import DTYPES, OPTIMISERS, close, normal, steps
from minigen.kernels import many

from minigen import kernels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3, 5), (257, 100)])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name, shape, dtype):
    rng, (states, cases) = np.random.default_rng(0), OPTIMISERS[name]
    kernel = getattr(kernels, name)
    for options in cases:
        p, *grads = (normal(rng, dtype, *shape) for _ in range(4))
        p = np.asarray(p, dtype)
        grads = [np.asarray(g, dtype) for g in grads]
        close(steps(kernel, options, states, p, grads),
              steps(kernel.reference, options, states, p, grads))


@pytest.mark.parity
@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_optimisers_are_torchs(name):
    torch = pytest.importorskip("torch")
    rng, (states, cases) = np.random.default_rng(0), OPTIMISERS[name]
    for options in cases:
        p, *grads = (normal(rng, np.float64, 50, 7) for _ in range(6))
        tp = torch.tensor(p, requires_grad=True)
        if name == "adam":
            _, lr, beta1, beta2, eps, decay, decoupled = options
            make = torch.optim.AdamW if decoupled else torch.optim.Adam
            opt = make([tp], lr, (beta1, beta2), eps, decay)
        else:
            opt = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}[name]([tp], *options[1:])
        for g in grads:
            tp.grad = options[0] * torch.tensor(g)
            opt.step()
        ours = steps(getattr(kernels, name), options, states, p, grads)[0]
        assert np.allclose(ours, tp.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_optimisers_write_through_views():
    p, g = np.ones((4, 6), np.float32), np.ones((6, 4), np.float32)
    kernels.sgd(p.T, g, None, (1.0, 1.0, 1), 0.0, 0.0, 0.0, False)
    assert not p.any()


@pytest.mark.parametrize("chunks", [1, 2, 5])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_many_arrays_at_once(name, dtype, chunks, monkeypatch):
    """Bit for bit the result for each array alone, however they are cut into chunks."""
    (states, cases), rng = OPTIMISERS[name], np.random.default_rng(0)
    kernel = getattr(kernels, name)
    shapes = (), (3, 5), (0, 4), (257, 100), (64,), (33, 100), (1,)
    ps, *grads = ([np.asarray(normal(rng, dtype, *shape)) for shape in shapes] for _ in range(4))
    alone = [[steps(kernel, options, states, *one) for one in
              zip(ps, zip(*grads, strict=True), strict=True)] for options in cases]
    monkeypatch.setattr(many, "chunks", lambda items: chunks)
    for options, expected in zip(cases, alone, strict=True):
        found = zip(*steps(kernel, options, states, ps, grads), strict=True)
        for one, other in zip(expected, found, strict=True):
            assert [a.tobytes() for a in one] == [a.tobytes() for a in other]


def test_many_arrays_of_other_kinds(monkeypatch):
    rng = np.random.default_rng(0)
    one = lambda dtype=np.float32: normal(rng, dtype, 4, 6)
    fixed = one()
    fixed.flags.writeable = False
    scalars, options = (0.5, 0.1, 3), (0.9, 0.99, 1e-8, 0.1, False)

    def taken(rows):
        """Whether all were updated in one call; the result must be right in either case."""
        copies = [[a.copy() for a in row] for row in rows]
        for row in copies:
            kernels.adam.reference(*row, scalars, *options)
        calls = []
        with monkeypatch.context() as m:
            m.setattr(kernels.adam, "run_all", lambda *args, run=kernels.adam.run_all:
                      calls.append(len(args[0])) or run(*args))
            kernels.adam(*map(list, zip(*rows, strict=True)), scalars, *options)
        for row, copy in zip(rows, copies, strict=True):
            [close(a, b) for a, b in zip(row, copy, strict=True)]
        return calls == [len(rows)]

    plain = lambda dtype=np.float32: [one(dtype), one(dtype), one(dtype), one(dtype) ** 2]
    assert taken([plain(), plain()]) and taken([plain(np.float64)])
    assert not taken([plain(), plain(np.float64)])
    assert not taken([plain(), [a.T for a in plain()]])
    assert not taken([[one(), fixed, one(), one() ** 2], plain()])
    with kernels.version("reference"):
        assert not taken([plain(), plain()])
    with kernels.version("cpu"):
        assert taken([plain(), plain()])
    with pytest.raises(ValueError, match="read-only"):
        kernels.ema([one(), fixed], [one(), one()], 0.9)
    with pytest.raises(ValueError, match=r"ema: p has shape \(3, 6\), expected \(...\) with"):
        kernels.ema([one(), one()], [one(), one()[:3]], 0.9)
    with pytest.raises(TypeError, match="ema: p is float64, expected float32 like a"):
        kernels.ema([one()], [one(np.float64)], 0.9)
    with pytest.raises(ValueError, match="shorter"):
        kernels.ema([one(), one()], [one()], 0.9)


def test_a_factor_that_is_not_a_number_writes_nothing():
    arrays = [[np.ones(n) for n in (3, 20_000)] for _ in range(4)]
    scalars = (np.nan, 0.1, 1)
    kernels.adam(*arrays, scalars, 0.9, 0.99, 1e-8, 0.1, True)
    kernels.sgd(*arrays[:3], scalars, 0.9, 0.0, 0.1, False)
    kernels.rmsprop(*arrays, scalars, 0.99, 1e-8, 0.1, 0.9)
    assert all((a == 1).all() for one in arrays for a in one)

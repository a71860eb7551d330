"""Optimisers, clipping, schedules and the moving average of weights."""

import numpy as np
import pytest

from minigen import grad, nn, optim, tensor
from minigen.tensor import write

RNG = np.random.default_rng


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, 0.02), lambda p: optim.SGD(p, 0.02, momentum=0.9),
    lambda p: optim.SGD(p, 0.02, momentum=0.9, nesterov=True), lambda p: optim.RMSprop(p, 0.01),
    lambda p: optim.Adam(p, 0.05), lambda p: optim.AdamW(p, 0.05, weight_decay=0)])
def test_optimisers_find_the_minimum(make):
    params = {"w": tensor(np.array([-1.0, 2.0]), requires_grad=True)}
    scales, at = np.array([1.0, 20.0]), np.array([1.0, -0.5])
    opt = make(params)
    for _ in range(400):
        opt.step(grad((scales * (params["w"] - at) ** 2).sum(), params))
    assert np.abs(params["w"].numpy() - at).max() < 0.02 and opt.t == 400


def test_adam_written_out():
    rng = RNG(0)
    p = tensor(rng.normal(size=5), requires_grad=True)
    theta, m, v = p.numpy().copy(), np.zeros(5), np.zeros(5)
    opt = optim.Adam({"p": p}, lr=0.1, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01)
    for t in range(1, 6):
        g = rng.normal(size=5)
        opt.step({"p": tensor(g)})
        g = g + 0.01 * theta
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        theta = theta - 0.1 * (m / (1 - 0.8 ** t)) / (np.sqrt(v / (1 - 0.95 ** t)) + 1e-6)
    assert np.allclose(p.numpy(), theta, rtol=1e-12)
    assert np.allclose(opt.state["p"]["m"], m) and np.allclose(opt.state["p"]["v"], v)


def test_optimisers_refuse_what_does_not_fit():
    p = {"w": tensor(np.ones(3, np.float32), requires_grad=True)}
    with pytest.raises(ValueError, match="expected a dict or list .* got dict without any"):
        optim.Adam({}, 1e-3)
    with pytest.raises(TypeError, match="w is not a tensor that requires grad"):
        optim.Adam({"w": tensor(np.ones(3))})
    with pytest.raises(ValueError, match="differ at 'v'"):
        optim.Adam(p).step({"w": tensor(np.ones(3)), "v": tensor(np.ones(3))})
    with pytest.raises(ValueError, match=r"w is \(3,\) float32, its gradient \(2,\) float32"):
        optim.Adam(p).step({"w": tensor(np.ones(2, np.float32))})
    with pytest.raises(ValueError, match="given twice"):
        optim.SGD([p["w"], p["w"]])
    both = {"a": tensor(np.ones(2), True), "b": tensor(np.ones(2), True)}
    opt = optim.SGD(both, 0.1)
    with pytest.raises(ValueError, match="b is .* its gradient a ndarray: nothing was changed"):
        opt.step({"a": tensor(np.ones(2)), "b": np.ones(2)})
    assert np.array_equal(both["a"].numpy(), [1, 1]) and opt.t == 0
    with pytest.raises(ValueError, match="betas"):
        optim.Adam(p, betas=(0.9, 1.0))
    for betas, came in (((0.9,), r"\(0.9,\)"), (0.9, "0.9")):
        with pytest.raises(ValueError, match=f"two betas .*, got {came} and"):
            optim.Adam(p, betas=betas)
    with pytest.raises(ValueError, match=r"RMSprop: alpha must lie in \[0, 1\) .*, got 2 and"):
        optim.RMSprop(p, alpha=2)
    for make in (optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW):
        with pytest.raises(ValueError, match=f"{make.__name__}: weight_decay must not .* nan"):
            make(p, weight_decay=np.nan)
    for make in (optim.SGD, optim.RMSprop):
        with pytest.raises(ValueError, match=f"{make.__name__}: momentum must not .* -1"):
            make(p, momentum=-1)
    with pytest.raises(ValueError, match="SGD.step: 0 gradients for 1 parameters"):
        optim.SGD(p).step([])
    with pytest.raises(ValueError, match="nesterov needs momentum"):
        optim.SGD(p, nesterov=True)
    for lr in (-0.1, np.nan):
        with pytest.raises(ValueError, match=f"SGD: lr must not be negative, got {lr}"):
            optim.SGD(p, lr)


def test_clipping():
    grads = {"a": tensor(np.array([3.0, 0.0])), "b": tensor(np.array([[4.0]]))}
    clipped, norm = optim.clip_grad_norm(grads, 1.0)
    assert norm == pytest.approx(5)
    assert clipped["a"].numpy()[0] == pytest.approx(0.6) and clipped["b"].item() == pytest.approx(
        0.8)
    same, _ = optim.clip_grad_norm(grads, 10.0)
    assert same["b"].item() == 4
    grads["c"] = tensor(np.array(np.nan))
    assert np.isnan(optim.clip_grad_norm(grads, 1.0)[0]["a"].numpy()).all()
    assert optim.clip_grad_value(grads, 2.0)["b"].item() == 2
    for clip in (optim.clip_grad_norm, optim.clip_grad_value):
        with pytest.raises(TypeError, match=f"{clip.__name__}: expected a dict of gradients"):
            clip(list(grads.values()), 1.0)
    single = {"w": tensor(np.ones(3, np.float32))}
    assert optim.clip_grad_value(single, np.float64(0.5))["w"].dtype == np.float32
    for limit in (0.1, 10.0):
        clipped, _ = optim.clip_grad_norm({"w": tensor(np.ones(3, np.float32))}, limit)
        assert clipped["w"].dtype == np.float32
    for limit in (-1.0, np.nan):
        with pytest.raises(ValueError, match=f"max_norm must not be negative, got {limit}"):
            optim.clip_grad_norm(grads, limit)


def test_schedules():
    assert [optim.warmup(t, 4) for t in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert optim.cosine(0, 10) == 1 and optim.cosine(10, 10) == pytest.approx(0)
    assert optim.cosine(5, 10, floor=0.2) == pytest.approx(0.6)
    assert optim.step_decay(25, 10, 0.5) == 0.25
    halfway = optim.warmup_cosine(35, 30, 40, warmup_steps=4, floor=0.2)
    one = optim.warmup_cosine(31, 30, 40, 4)
    assert optim.warmup_cosine(10, 30, 40) == 0  # before it begins
    assert halfway == pytest.approx(0.6) and one == pytest.approx(0.5 * optim.cosine(1, 10))
    stages = [optim.stage_at(t, (0, 0.25, 0.8, 1), 10) for t in range(10)]
    assert stages == 2 * [(1, 0, 2)] + 6 * [(2, 2, 8)] + 2 * [(3, 8, 10)]
    assert optim.stage_at(1, (0, 0.4, 0.6, 1), 2) == (3, 1, 2)  # the second has no step
    for schedule, steps in ((optim.warmup, -1), (optim.cosine, 0), (optim.step_decay, 0)):
        with pytest.raises(ValueError, match=f"{schedule.__name__}: .* must .*, got {steps}"):
            schedule(0, steps)


def test_ema_takes_a_dict():
    with pytest.raises(TypeError, match="EMA: expected a dict of parameters.*got a list"):
        nn.EMA([tensor([1.0], True)])


def test_ema_warms_up_and_puts_the_weights_back():
    p = {"w": tensor(np.zeros(2), requires_grad=True)}
    ema, average = nn.EMA(p, decay=0.9), np.zeros(2)
    for t in range(1, 30):
        write(p["w"], lambda a, t=t: a.fill(t))
        ema.update()
        d = min(0.9, (1 + t) / (10 + t))
        average = d * average + (1 - d) * t
    with ema.applied():
        assert np.allclose(p["w"].numpy(), average)
    assert np.array_equal(p["w"].numpy(), [29, 29])

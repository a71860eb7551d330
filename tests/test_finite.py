"""One training step, and how it reports numbers that are not finite: which, and their origin."""

import numpy as np
import pytest
import tiny_demo
from tiny_demo import Tiny, go

import minigen as mg
from minigen import nn, optim, train
from minigen.demo import cli
from minigen.train import UserError

disturb = tiny_demo.disturb  # a fixture


@pytest.fixture
def net():
    params = {"net.0.weight": mg.tensor(np.full((3, 2), 2.0, np.float32), requires_grad=True),
              "net.0.bias": mg.tensor(np.zeros(3, np.float32), requires_grad=True)}
    return params, optim.SGD(params, 0.1)


def test_descend(net):
    params, opt = net
    loss = (params["net.0.weight"] ** 2).sum() + params["net.0.bias"].sum() * 0
    numbers = train.descend(opt, loss, {"half": loss / 2}, name="d_loss", max_norm=1.0)
    assert numbers == {"d_loss": 24.0, "half": 12.0}
    assert all(type(value) is float for value in numbers.values())
    moved = np.linalg.norm(2 - params["net.0.weight"].data)
    assert abs(moved - 0.1) < 1e-6  # lr times the clipped norm


# ------------------------------------------------------------------------------------------- a step

def overflow(params, x):
    return mg.exp(mg.linear(x, *params.values())).sum()


def huge_weight(params, x):
    return (mg.linear(x * 1e38, *params.values()) * 0).sum()


def twice(params, x):
    y = mg.linear(x, *params.values())
    return mg.exp(y).sum() + mg.log(y - y).sum()


def mask(params, x):
    """A deliberate −∞, which is harmless; then log 0, which is not."""
    y = mg.linear(x, *params.values())
    e = mg.exp(mg.where(np.arange(3) < 2, y, -np.inf) - y)
    return (mg.log(e) * e).sum()


@pytest.mark.parametrize("loss, x, words", [
    (overflow, 100.0, ("the loss is inf", "from exp:", "12 of 12 values", "inputs reach 400")),
    (huge_weight, 2.0, ("the loss is nan", "12 of 12", "reach 2e+38",
                        "from linear with parameter net.0.weight and net.0.bias:")),
    (mask, 1.0, ("the loss is nan", "from log:", "4 of 12 values", "reach 1")),
    (twice, 100.0, ("the loss is nan", "from exp:")),
    (overflow, np.nan, ("an input of shape (4, 2) has 8 of 8 values",)),
])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_loss_not_finite_names_the_operation(net, loss, x, words):
    params, opt = net
    before = nn.state_dict(params)
    with pytest.raises(FloatingPointError) as e:
        train.descend(opt, loss(params, mg.tensor(np.full((4, 2), x, np.float32))))
    assert all(word in str(e.value) for word in words), e.value
    assert opt.t == 0
    assert all(np.array_equal(a, before[key]) for key, a in nn.state_dict(params).items())


def test_loss_without_history_says_so(net):
    with pytest.raises(FloatingPointError, match="the loss is nan: it has no history"):
        train.descend(net[1], mg.tensor(np.nan))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameter_not_finite_is_named(net):
    params, opt = net
    params["net.0.bias"].data[1] = np.inf
    with pytest.raises(FloatingPointError, match=r"net.0.bias of shape \(3,\) has 1 of 3"):
        train.descend(opt, overflow(params, mg.tensor(np.ones((4, 2), np.float32))))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gradient_not_finite_names_the_operation(net):
    params, opt = net
    y = mg.linear(mg.tensor(np.zeros((4, 2), np.float32)), *params.values())
    with pytest.raises(FloatingPointError, match="discriminator is 0 but its gradient by net.0.wei"
                       ".* is not finite: .*derivative .* of sqrt: 12 of 12 .* from 0 to 0"):
        train.descend(opt, mg.sqrt(y).sum(), name="discriminator")
    # the backward pass meets power first
    with pytest.raises(FloatingPointError, match="derivative .* of power"):
        train.descend(opt, mg.sqrt(y).sum() + (y ** 0.5).sum())
    assert opt.t == 0


def test_finite_numbers_with_an_infinite_sum_pass(net):
    params, opt = net
    loss = params["net.0.weight"].sum() * 0 + params["net.0.bias"].sum() * 3e38
    train.descend(opt, loss)  # the gradient of the bias is three times 3e38
    assert opt.t == 1


# -------------------------------------------------------------------------------------------- a run

def test_run_stops_at_a_number_that_is_not_finite(tmp_path, disturb, monkeypatch, capsys):
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    disturb[5] = lambda model: model.decoder.weight.data.fill(3e38)  # noticed in step 7
    with pytest.raises(SystemExit) as e:
        cli(lambda: go(tmp_path))
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.count("\n") == 1 and err.startswith("error: step 7: the loss")
    assert "come from power:" in err and "last.safetensors keeps step 6" in err
    assert nn.load_arrays(tmp_path / "last.safetensors")[1]["step"] == "6"


def test_every_number_a_step_returns_must_be_finite(tmp_path):
    with pytest.raises(UserError, match="step 2: kl is inf; .* keeps step 0"):
        train.fit(lambda t, rng: {"loss": 1.0, "kl": 1.0 if t < 1 else np.inf}, 3, seed=0,
                  out=tmp_path, model=Tiny(2))


def test_loss_of_several_elements_is_refused(net):
    params, opt = net
    with pytest.raises(ValueError, match=r"the loss has shape \(3,\), not one element: take its"):
        train.descend(opt, params["net.0.bias"] * 2)
    before = params["net.0.bias"].numpy().copy()
    with pytest.raises(ValueError, match=r"the kl has shape \(3,\), not one element: take its"):
        train.descend(opt, mg.mean(params["net.0.bias"]), {"kl": params["net.0.bias"]})
    with pytest.raises(TypeError, match="descend: the loss is a float, expected a tensor"):
        train.descend(opt, 1.0)
    assert np.array_equal(params["net.0.bias"].numpy(), before)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_norm_too_large_for_its_dtype_is_no_step(net):
    params, opt = net
    loss = params["net.0.bias"].sum() * 1e25 + params["net.0.weight"].sum()
    with pytest.raises(FloatingPointError, match="gradient's norm is inf: its square is too large"):
        train.descend(opt, loss, max_norm=1.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameter_used_twice_and_options_are_named(net):
    params, opt = net
    w = params["net.0.weight"]
    loss = (w / (w - w)).sum()
    with mg.no_grad(), pytest.raises(FloatingPointError, match="divide with parameter net.0.wei"):
        train.descend(opt, loss)
    loss = (w / (w * 0) * w / w).sum()
    with pytest.raises(FloatingPointError, match="come from divide with parameter net.0.weight:"):
        train.descend(opt, loss)
    mask = np.full((3, 3), np.nan, np.float32)
    loss = mg.scaled_dot_product_attention(w, w, w, attn_mask=mask).sum()
    with pytest.raises(FloatingPointError, match="it comes from a constant that is not finite"):
        train.descend(opt, loss)

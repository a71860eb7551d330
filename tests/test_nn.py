"""Layers and parameters."""

import copy
import gc
import weakref
from collections import deque

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

import minigen
from minigen import grad, nn, tensor
from minigen.random import Philox
from minigen.tensor import write

RNG = np.random.default_rng


def net(rng=None):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, rng=rng), nn.BatchNorm2d(4), minigen.relu,
                         nn.Dropout(0.5), lambda x: x.flatten(1), nn.Linear(4 * 16, 3, rng=rng))


# ---------------------------------------------------------------------------- parameters and files

def test_keys_are_pytorchs():
    assert list(nn.parameters(net())) == ["0.weight", "0.bias", "1.weight", "1.bias", "5.weight",
                                          "5.bias"]
    assert set(nn.buffers(net())) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_walk_finds_tensors_in_attributes_lists_dicts_and_counts_each_once():
    class Model:
        def __init__(self):
            self.shared = nn.Linear(2, 2)
            self.again = self.shared
            self.layers = [nn.Linear(2, 2), {"x": nn.Linear(2, 2, bias=False)}]
            self.schedule = np.ones(3)
            self.itself = self

    assert list(nn.parameters(Model())) == ["shared.weight", "shared.bias", "layers.0.weight",
                                            "layers.0.bias", "layers.1.x.weight"]
    assert not nn.buffers(Model())


def test_walk_finds_tensors_in_slots_and_in_any_sequence():
    class Base:
        __slots__ = "first"

    class Middle(Base):
        __slots__ = {"second": "described", "__hidden": ""}

        def __init__(self):
            self.__hidden = nn.Linear(2, 2, bias=False)

    class Block(Middle):
        __slots__ = ("inner", "unset", "__dict__")

        def __init__(self):
            super().__init__()
            self.first, self.second, self.inner, self.last = (
                nn.Linear(2, 2, bias=False) for _ in range(4))

    assert set(nn.parameters(deque([Block(), range(3), bytearray(3)]))) == {
        f"0.{name}.weight" for name in ("first", "second", "inner", "last", "_Middle__hidden")}


def test_results_that_a_layer_keeps_are_no_part_of_the_model():
    class Keeps:
        def __init__(self):
            self.layer = nn.Linear(2, 1)

        def __call__(self, x):
            self.seen = [self.layer(x)]
            return self.seen[0]

    model, x = Keeps(), np.ones((3, 2), np.float32)
    before = nn.state_dict(model)
    assert grad(model(x).sum(), nn.parameters(model)).keys() == before.keys()
    assert nn.state_dict(model).keys() == before.keys() == {"layer.weight", "layer.bias"}
    nn.astype(model, np.float64)
    assert model.seen[0].dtype == np.float32


def test_two_tensors_of_one_key_are_refused():
    model = {1: tensor([1.0], requires_grad=True), "1": tensor([2.0], requires_grad=True)}
    with pytest.raises(ValueError, match="two tensors of the model have the key '1'"):
        nn.parameters(model)


def test_load_state_dict_is_strict_and_changes_nothing_when_it_refuses():
    model = net(RNG(0))
    before = nn.state_dict(model)
    arrays = {**before, "5.weight": np.zeros((3, 5), np.float32), "6.bias": np.zeros(3, np.float32)}
    del arrays["0.bias"]
    with pytest.raises(ValueError, match=r"0\.bias is missing; 5\.weight is \(3, 5\), the model's "
                                         r"\(3, 64\); 6\.bias is unexpected"):
        nn.load_state_dict(model, arrays)
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), nn.state_dict(model).values(),
                                                    strict=True))


@pytest.mark.parametrize("bias, words", [
    (np.array(["a", "b"]), "expected real numbers, got <U1"), ("ab", "got str"),
    (np.array([1e300, 0]), "overflow"), (np.array([1j, 0]), "expected real"),
    ([[1], [1, 2]], "setting"), ([1.0], r"is \(1,\), the model's \(2,\)"),
])
def test_load_state_dict_converts_everything_before_it_writes(bias, words):
    layer = nn.Linear(2, 2, rng=RNG(0))
    before = nn.state_dict(layer)
    with pytest.raises(ValueError, match=f"load_state_dict: bias:? .*{words}"):
        nn.load_state_dict(layer, {"weight": np.ones((2, 2)), "bias": bias})
    assert all(np.array_equal(a, before[key]) for key, a in nn.state_dict(layer).items())
    nn.load_state_dict(layer, {"weight": np.ones((2, 2)), "bias": [1, 2.5]})
    assert np.array_equal(layer.bias.numpy(), [1, 2.5]) and layer.weight.dtype == np.float32
    with pytest.raises(ValueError, match="load_state_dict: steps: Cannot cast .*float64"):
        nn.load_state_dict({"steps": tensor(np.array(1))}, {"steps": np.array(2.7)})


def test_save_and_load(tmp_path):
    a, b = net(RNG(0)), net(RNG(1))
    nn.save(a, tmp_path / "m.safetensors")
    nn.load(b, tmp_path / "m.safetensors")
    for key, value in nn.state_dict(a).items():
        assert np.array_equal(value, nn.state_dict(b)[key])
    (tmp_path / "cut").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-50])
    size = (tmp_path / "cut").stat().st_size
    with pytest.raises(ValueError, match="cut is not a complete safetensors file"):
        nn.load(b, tmp_path / "cut")
    assert (tmp_path / "cut").stat().st_size == size
    with pytest.raises(ValueError, match="is of another model: .*weight is missing"):
        nn.load(nn.Linear(2, 2), tmp_path / "m.safetensors")
    with pytest.raises(FileNotFoundError, match="no such file"):
        nn.load(b, tmp_path / "nowhere")
    (tmp_path / "other").touch()  # with the permissions of any new file
    assert (tmp_path / "other").stat().st_mode == (tmp_path / "m.safetensors").stat().st_mode


def test_loading_makes_old_graphs_stale():
    layer = nn.Linear(2, 1)
    y = layer(np.ones((1, 2), np.float32)).sum()
    nn.load_state_dict(layer, nn.state_dict(layer))
    with pytest.raises(RuntimeError, match="stale graph"):
        grad(y, layer.weight)


def test_conversion_makes_old_graphs_stale():
    layer = nn.Linear(2, 1)
    y = layer(np.ones((1, 2), np.float32)).sum()
    nn.astype(layer, np.float64)
    with pytest.raises(RuntimeError, match="stale graph"):
        grad(y, layer.weight)


def test_init_draws_everything_again():
    a, b = net(RNG(0)), net(RNG(1))
    a(RNG(2).random((4, 1, 4, 4), np.float32), rng=RNG(0))  # updates the running statistics
    nn.init(a, RNG(7))
    nn.init(b, RNG(7))
    for key, value in nn.state_dict(a).items():
        assert np.array_equal(value, nn.state_dict(b)[key]), key


def test_init_gives_what_the_constructor_gives():
    for make in (lambda rng: nn.Conv2d(2, 3, 3, rng=rng), lambda rng: nn.Embedding(4, 3, rng),
                 lambda rng: nn.MultiheadAttention(8, 2, rng=rng)):
        made, drawn = make(RNG(3)), make(RNG(4))
        nn.init(drawn, RNG(3))
        for key, value in nn.state_dict(made).items():
            assert np.array_equal(value, nn.state_dict(drawn)[key]), key
    assert not made.out_proj.bias.numpy().any()


def test_attention_to_other_keys_and_values_by_hand():
    layer, rng = nn.MultiheadAttention(6, 2, rng=RNG(0)), RNG(1)
    write(layer.in_proj_bias, lambda b: np.copyto(b, rng.normal(size=18)))
    query, key, value = (rng.normal(size=(2, T, 6)).astype(np.float32) for T in (3, 5, 5))
    W, b = layer.in_proj_weight.numpy(), layer.in_proj_bias.numpy()
    q, k, v = (x @ W[i:i + 6].T + b[i:i + 6] for i, x in ((0, query), (6, key), (12, value)))
    heads = [softmax(q[..., h] @ k[..., h].swapaxes(1, 2) / 3 ** 0.5, -1) @ v[..., h]
             for h in (slice(3), slice(3, 6))]
    expected = np.concatenate(heads, -1) @ layer.out_proj.weight.numpy().T
    assert np.allclose(layer(query, key, value).numpy(), expected, atol=1e-6)


def test_sequential_slices_subclasses_and_functions_that_take_noise():
    model = net(RNG(0))
    x = RNG(1).random((2, 1, 4, 4), np.float32)
    assert np.array_equal(model[:1](x).numpy(), model[0](x).numpy())
    zeroed = nn.Sequential(minigen.dropout)(np.ones((1, 1000), np.float32), rng=RNG(0)).numpy()
    assert 300 < (zeroed == 0).sum() < 700

    class Net:
        def half(self, x, rng=None):
            return minigen.dropout(x, 0.5, rng=rng)

    assert nn.Sequential(Net().half)(x, rng=RNG(0)).numpy().tolist() == \
        Net().half(x, RNG(0)).numpy().tolist()
    rng = RNG(0)
    own = nn.Sequential(lambda x, rng=rng: minigen.dropout(x, 0.5, rng=rng))
    assert own(x).numpy().tolist() == Net().half(x, RNG(0)).numpy().tolist()  # its default
    seen = []
    nn.Sequential(lambda x, rng: seen.append(rng) or x)(x)
    assert seen == [None]  # it has no default

    class More(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 2))
            self.extra = nn.Linear(2, 2)

    assert list(nn.parameters(More())) == ["0.weight", "0.bias", "extra.weight", "extra.bias"]


def test_sequential_keeps_no_function_alive():
    class Payload:
        pass

    payload = Payload()
    left = weakref.ref(payload)
    nn.Sequential(lambda x, held=payload: x)(tensor([1.0]))
    del payload
    gc.collect()
    assert left() is None


def test_train_and_eval_modes():
    model = net(RNG(0))
    x = RNG(3).random((8, 1, 4, 4), np.float32)
    nn.eval(model)
    assert np.array_equal(model(x).numpy(), model(x).numpy())
    nn.train(model)
    one, two = model(x, rng=RNG(1)).numpy(), model(x, rng=RNG(2)).numpy()
    assert not np.array_equal(one, two)
    with pytest.raises(ValueError, match="noise is an argument"):
        model(x)
    norm, dropout = model[1], model[3]
    norm.training = False
    with pytest.raises(KeyError), nn.evaluation(model):
        assert not dropout.training and model(x).shape == (8, 3)
        raise KeyError
    assert dropout.training and not norm.training


def test_deepcopy_of_a_model_is_independent():
    a = net(RNG(0))
    b = copy.deepcopy(a)
    write(b[0].weight, lambda w: w.fill(0))
    assert np.abs(a[0].weight.numpy()).sum() > 0


def test_default_distributions_of_weights():
    conv, linear = nn.Conv2d(8, 64, 5, rng=RNG(0)), nn.Linear(100, 400, rng=RNG(0))
    for layer, fan_in in ((conv, 200), (linear, 100)):
        for t in (layer.weight, layer.bias):
            w = t.numpy().ravel() * fan_in ** 0.5
            assert stats.kstest(w, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    for std, e in ((1, nn.Embedding(50, 40, RNG(0))), (0.2, nn.Embedding(50, 40, RNG(0), 0.2))):
        assert stats.kstest(e.weight.numpy().ravel(), stats.norm(0, std).cdf).pvalue > 1e-3
    up = nn.ConvTranspose2d(64, 8, 5, rng=RNG(0)).weight.numpy()
    assert abs(up).max() == pytest.approx((8 * 25) ** -0.5, rel=1e-3)


@pytest.mark.parametrize("make, message", [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups 2 must divide in_channels 3"),
    (lambda: nn.Conv2d(3, 4, 3, groups=0), "Conv2d: groups 0 must divide in_channels 3"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, groups=0), "ConvTranspose2d: groups 0 must divide"),
    (lambda: nn.MaskedConv2d(3, 3, 3, colours=0), "MaskedConv2d: 0 colours must divide"),
    (lambda: nn.Linear(2, 2, rng=0), r"rng must be a generator, np.random.default_rng"),
    (lambda: nn.Linear(0, 3), r"a layer has a parameter of shape \(3, 0\): every size must be at"),
    (lambda: nn.GroupNorm(3, 4), "3 groups do not divide 4 channels"),
    (lambda: nn.GroupNorm(0, 4), "GroupNorm: 0 groups do not divide 4 channels"),
    (lambda: nn.BatchNorm2d(4, momentum=None), "BatchNorm: momentum must be a number, got None"),
    (lambda: nn.LayerNorm(np.int64(3))(np.ones((2, 4))), r"got \(.*3\)?,\), x is \(2, 4\)"),
    (lambda: nn.MultiheadAttention(6, 4), "4 heads do not divide 6"),
    (lambda: nn.MultiheadAttention(4, 2)(*[tensor(np.ones((5, 4)))] * 3),
     r"MultiheadAttention: expected query \(N, T, D\), .*, got \(5, 4\), \(5, 4\), \(5, 4\)"),
    (lambda: nn.Linear(3, 2)(np.zeros((2, 4), np.float32)),
     r"linear: x is \(2, 4\), weight \(2, 3\) needs 3 on the last axis"),
    (lambda: nn.Conv2d(3, 2, 3)(np.zeros((1, 2, 8, 8), np.float32)), r"conv2d.*2"),
    (lambda: nn.to(nn.Linear(3, 2), "gpu"), "nn.to: expected cpu or cuda, got gpu"),
    (lambda: Philox(0, "cuda:0"), "Philox: expected cpu or cuda, got cuda:0"),
    (lambda: nn.Embedding(5, 2)(np.array([5])), "must lie in 0…4, got 5…5"),
    (lambda: nn.Labelled(None, 3)(np.ones((2, 4), int), [0, 1]), "input must be of floats"),
    (lambda: nn.Labelled(None, 3)(np.ones((2, 4)), [0, 3]), "must lie in 0…2, got 0…3"),
    (lambda: nn.Labelled(None, 3)(np.ones((2, 4)), [0]), r"2 inputs came with y \(1,\), expected"),
    (lambda: nn.Labelled(None, 3)(np.ones((2, 4)), np.ones((2, 4))), r"y \(2, 4\), expected"),
])
def test_wrong_layers_and_inputs(make, message):
    with pytest.raises((ValueError, IndexError, TypeError), match=message):
        make()

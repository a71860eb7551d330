"""Parameters and files of a model, and its modes."""

import copy
from collections import deque

import numpy as np
import pytest

import minigen
from minigen import grad, nn, tensor
from minigen.tensor import write

RNG = np.random.default_rng


def net(rng=None):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, rng=rng), nn.BatchNorm2d(4), minigen.relu,
                         nn.Dropout(0.5), lambda x: x.flatten(1), nn.Linear(4 * 16, 3, rng=rng))


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

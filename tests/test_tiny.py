"""A tour of minigen in one file: read this first. Each test is a page of a manual that cannot lie,
because it is run."""

import numpy as np
import pytest

import minigen
from minigen import dist, grad, gradcheck, nn, no_grad, op, optim, tensor
from minigen.models.vae.vae import fully_connected


def test_a_tensor_is_an_array_that_remembers_where_it_came_from():
    x = tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x * x).sum()
    assert y.item() == 14.0
    assert np.array_equal(grad(y, x).numpy(), [2, 4, 6])  # ∂Σx²/∂x = 2x


def test_a_gradient_is_a_tensor_too_and_can_be_differentiated():
    x = tensor([0.5], requires_grad=True)
    dy = grad(minigen.sin(x).sum(), x, create_graph=True)
    ddy = grad(dy.sum(), x)
    assert dy.item() == pytest.approx(np.cos(0.5))
    assert ddy.item() == pytest.approx(-np.sin(0.5))


def test_an_operation_is_a_forward_and_its_vjp():
    @op
    def cube(x): return x ** 3
    @cube.vjp
    def cube(g, x): return g * 3 * x * x

    gradcheck(cube, np.array([0.3, -1.2]))  # first and second order, against finite differences


def test_gradcheck_names_what_is_wrong():
    @op
    def cube(x): return x ** 3
    @cube.vjp
    def cube(g, x): return g * 2 * x * x

    with pytest.raises(AssertionError, match=r"cube, first derivative, argument 0, entry \(\d,\)"):
        gradcheck(cube, np.array([0.3, -1.2]))


def test_convolution_and_its_transpose_are_each_others_derivatives():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(1, 2, 5, 5)), rng.normal(size=(1, 3, 3, 3)), rng.normal(
        size=(3, 2, 3, 3))
    Cx, Cty = minigen.conv2d(x, w).numpy(), minigen.conv_transpose2d(y, w).numpy()
    assert (Cx * y).sum() == pytest.approx((x * Cty).sum())  # ⟨Cx, y⟩ = ⟨x, Cᵀy⟩


def test_a_model_is_a_plain_object_and_its_parameters_a_dict():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(2, 16, rng=rng), minigen.tanh, nn.Linear(16, 1, rng=rng))
    params = nn.parameters(model)
    assert list(params) == ["0.weight", "0.bias", "2.weight", "2.bias"]  # PyTorch's names

    x = rng.normal(size=(64, 2)).astype(np.float32)
    target = x[:, :1] * x[:, 1:]
    opt = optim.Adam(params, lr=0.02)
    for _ in range(300):
        loss = minigen.mse_loss(model(x), target)
        opt.step(grad(loss, params))
    assert loss.item() < 0.02


def test_distributions_sample_score_and_compare():
    zeros = tensor(np.zeros(1000))
    q, p = dist.Normal(zeros + 1, zeros), dist.Normal(zeros, zeros)  # mean, log-variance
    z = q.sample(np.random.default_rng(0))  # the generator is an argument, not global state
    simulated = (q.log_prob(z) - p.log_prob(z)).mean().item()
    assert dist.kl(q, p).mean().item() == pytest.approx(0.5)
    assert simulated == pytest.approx(0.5, abs=0.1)


def test_a_vae_in_a_few_lines():
    rng = np.random.default_rng(0)
    x = (rng.random((64, 1, 4, 4)) < np.eye(4)).astype(np.float32)  # every image is a diagonal
    vae = fully_connected((1, 4, 4), d_z=2, d_h=32, rng=rng)
    opt = optim.Adam(nn.parameters(vae), lr=0.01)
    for t in range(200):
        loss, parts = vae.loss(tensor(x), np.random.default_rng((0, t)))
        opt.step(grad(loss, opt.params))
    assert loss.item() == pytest.approx((parts["reconstruction"] + parts["kl"]).item(), rel=1e-5)
    with no_grad():
        drawn = vae.generate(10, rng).mean.numpy()
    assert np.abs(drawn - np.eye(4)).max() < 0.2


def test_weights_travel_as_safetensors(tmp_path):
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    nn.save(a, tmp_path / "linear.safetensors")
    nn.load(b, tmp_path / "linear.safetensors")
    assert np.array_equal(a.weight.numpy(), b.weight.numpy())

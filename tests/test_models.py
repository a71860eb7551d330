"""The models as a whole: the VAEs learn, the demos run, and training equals PyTorch's."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import minigen
from minigen import grad, nn, optim, tensor
from minigen.dist import Bernoulli
from minigen.models import MODELS
from minigen.models.vae import conv_vae, cvae, gaussian_vae, nvae, vae

RNG = np.random.default_rng


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_where_the_list_says(name):
    module, attribute = MODELS[name].split(":")
    assert callable(getattr(importlib.import_module(module), attribute))
    assert module.rsplit(".", 1)[1] == name


VAES = {
    "mlp": (lambda: vae.fully_connected((1, 8, 8), 3), ()),
    "conv": (lambda: conv_vae.convolutional((1, 8, 8), 3), ()),
    "conv gaussian": (lambda: conv_vae.convolutional((3, 8, 8), 3, gaussian_vae.diagonal_normal, 2),
                      ()),
    "mlp l2": (lambda: vae.fully_connected((3, 4, 4), 3, gaussian_vae.fixed_variance_normal), ()),
    "nvae": (lambda: nvae.NVAE((1, 8, 8), (1, 1), (8, 8)), ()),
    "cvae": (lambda: cvae.conditional((1, 8, 8), 3, 4), (np.arange(6) % 4,)),
}


@pytest.mark.parametrize("name", VAES)
def test_every_vae_learns_generates_and_scores(name):
    build, given = VAES[name]
    model = build()
    nn.init(model, RNG(0))
    params = nn.parameters(model)
    shape = model.generate(6, RNG(0), *given).mean.shape
    x = (RNG(1).random(shape) < 0.3).astype(np.float32)
    opt, losses = optim.Adam(params, 3e-3), []
    for t in range(30):
        loss, parts = model.loss(x, RNG((0, t)), *given)
        losses.append(loss.item())
        opt.step(grad(loss, params))
    assert losses[-1] < losses[0] - 1 and set(parts) == {"reconstruction", "kl"}
    assert model.sample(6, RNG(2), *given).shape == shape
    log_p = model.log_prob(x, RNG(3), *given, K=5)
    assert log_p.shape == (6,) and not log_p.requires_grad and np.isfinite(log_p.numpy()).all()


DEMOS = sorted(path.stem for path in Path(__file__).parent.parent.glob("demos/*.py")
               if "run = Demo(" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("demo", DEMOS)
def test_demos_run_quickly_and_leave_what_they_promise(demo, tmp_path):
    module = importlib.import_module(f"demos.{demo}")
    module.main(["--quick", "--out", str(tmp_path)])
    left = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "log.jsonl", "losses.png", "samples.png", "metrics.json",
            "last.safetensors"} <= left
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert all(np.isfinite(v) for v in metrics.values())
    if "test_kl_nats" in metrics:
        parts = metrics["test_reconstruction_nats"] + metrics["test_kl_nats"]
        assert metrics["test_neg_elbo_nats"] == pytest.approx(parts)
    module.main(["--resume", "--out", str(tmp_path)])  # makes pictures and metrics again
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert lasting(again) == lasting(metrics)


def lasting(metrics):
    """The metrics, except times and what is computed from them."""
    return {k: v for k, v in metrics.items() if "seconds" not in k and "ratio" not in k}


@pytest.mark.parametrize("flags", [["--net", "mlp", "--latent", "2"], ["--data", "scenes"],
                                   ["--decoder", "l2"]])
def test_the_vae_demo_in_its_variants(flags, tmp_path):
    module = importlib.import_module("demos.vae")
    module.main(["--quick", "--out", str(tmp_path), *flags])
    assert (tmp_path / "manifold.png").exists() == ("2" in flags)


@pytest.mark.parity
def test_fifty_adam_steps_of_the_conv_vae_equal_pytorchs():
    """The same weights, data and noise, float64: the encode-sample-decode-compare step, written in
    PyTorch from the formulas."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    model = conv_vae.convolutional((1, 28, 28), 8, Bernoulli)
    nn.init(model, RNG(0))
    nn.astype(model, np.float64)

    make = {"Conv2d": lambda K, C, *_: torch.nn.Conv2d(C, K, 4, 2, 1),
            "ConvTranspose2d": lambda C, K, *_: torch.nn.ConvTranspose2d(C, K, 4, 2, 1),
            "Linear": lambda d_out, d_in: torch.nn.Linear(d_in, d_out)}

    def mirror(net, reshape):
        twin = torch.nn.Sequential(*(
            make[type(layer).__name__](*layer.weight.shape) if hasattr(layer, "weight") else
            torch.nn.ELU() if layer is minigen.elu else reshape for layer in net)).double()
        twin.load_state_dict({k: torch.from_numpy(v) for k, v in nn.state_dict(net).items()})
        return twin

    encoder = mirror(model.encoder, torch.nn.Flatten())
    decoder = mirror(model.decoder, torch.nn.Unflatten(1, (64, 7, 7)))
    ours = optim.Adam(nn.parameters(model), lr=1e-3)
    theirs = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    for t in range(50):
        x = (RNG((1, t)).random((16, 1, 28, 28)) < 0.2).astype(np.float64)
        loss, _ = model.loss(tensor(x), RNG((2, t)))
        ours.step(grad(loss, ours.params))

        tx = torch.from_numpy(x)
        mu, logvar = encoder(tx).chunk(2, dim=1)
        z = mu + torch.exp(logvar / 2) * torch.from_numpy(RNG((2, t)).standard_normal((16, 8)))
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z), tx, reduction="sum")
        kl = 0.5 * (logvar.exp() + mu ** 2 - 1 - logvar).sum()
        expected = (reconstruction + kl) / 16
        theirs.zero_grad()
        expected.backward()
        theirs.step()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-8), t  # eq: vae-training-step
    for ours_, twin in ((model.encoder, encoder), (model.decoder, decoder)):
        for key, value in twin.state_dict().items():
            assert np.allclose(nn.state_dict(ours_)[key], value.numpy(), rtol=1e-6, atol=1e-9)

"""Section "autoencoder": each equation is checked by a second route."""

import numpy as np
import pytest

from minigen import grad, nn, optim
from minigen.models.autoencoder.autoencoder import Autoencoder, single_hidden
from minigen.models.autoencoder.classifier import Classifier
from minigen.models.autoencoder.conv_autoencoder import LAYERS, convolutional
from minigen.models.vae import gaussian_vae, vae


def test_loss_is_the_squared_distance():
    rng = np.random.default_rng(0)
    model = single_hidden((1, 4, 4), 3, rng)
    x = rng.random((5, 1, 4, 4), np.float32)
    x_hat = model.reconstruct(x).numpy()
    by_hand = np.mean([np.linalg.norm(a - b) ** 2 for a, b in zip(x, x_hat, strict=True)])
    assert model.loss(x).item() == pytest.approx(by_hand, rel=1e-5)  # eq: ae-loss


@pytest.mark.parametrize("build, loss", [
    (single_hidden, lambda model, x, rng: model.loss(x)),
    *((lambda shape, d_z, rng: vae.fully_connected(
        shape, d_z, gaussian_vae.fixed_variance_normal, rng=rng), loss)
      for loss in (vae.VAE.loss, vae.VAE.log_prob, gaussian_vae.l2_loss))])
def test_images_without_their_channel_are_not_broadcast(build, loss):
    """Broadcasting would compare each image with the whole batch."""
    rng = np.random.default_rng(0)
    model = build((1, 8, 8), 3, rng)
    with pytest.raises(ValueError, match=r"\(5, 8, 8\)"):
        loss(model, rng.random((5, 8, 8), np.float32), rng)


def test_a_linear_autoencoder_finds_the_principal_components():
    # PCA attains min Σ‖x − g(f(x))‖² over linear f, g (Baldi & Hornik 1989), so it is known
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    x -= x.mean(0)
    model = Autoencoder(nn.Linear(6, 2, bias=False, rng=rng), nn.Linear(2, 6, bias=False, rng=rng))
    nn.astype(model, np.float64)
    opt = optim.Adam(nn.parameters(model), lr=0.02)
    for _ in range(1500):
        opt.step(grad(model.loss(x), opt.params))
    _, s, components = np.linalg.svd(x, full_matrices=False)
    assert model.loss(x).item() == pytest.approx((s[2:] ** 2).sum() / len(x), rel=1e-4)
    projected = x @ components[:2].T @ components[:2]
    x_hat = model.reconstruct(x).numpy()
    assert np.allclose(x_hat, projected, atol=2e-2)
    z = x @ model.encoder.weight.numpy().T
    assert np.allclose(x_hat, z @ model.decoder.weight.numpy().T)  # eq: encoder-decoder-maps


def test_one_hidden_layer_written_out():
    rng = np.random.default_rng(2)
    model = single_hidden((1, 4, 4), 5, rng)
    x = rng.random((3, 1, 4, 4), np.float32)
    W1, b1, W2, b2 = (p.numpy().astype(np.float64) for p in nn.parameters(model).values())
    def s(a): return 1 / (1 + np.exp(-a))
    x_hat = s(W2 @ s(W1 @ x.reshape(3, 16).T + b1[:, None]) + b2[:, None]).T.reshape(x.shape)
    assert np.allclose(model.reconstruct(x).numpy(), x_hat, atol=1e-6)  # eq: ae-single-hidden


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_four_layers_down_four_up(shape):
    model = convolutional(shape, 16, np.random.default_rng(3))
    kinds = [type(layer).__name__ for layer in [*model.encoder, *model.decoder]]
    counts = kinds.count("Conv2d"), kinds.count("ConvTranspose2d")
    assert counts == (4, 4) and len(LAYERS) == 4  # eq: ae-conv-shape
    x = np.random.default_rng(4).random((2, *shape), np.float32)
    assert model.encode(x).shape == (2, 16) and model.reconstruct(x).shape == x.shape
    y = model.reconstruct(x).numpy()
    assert (y > 0).all() and (y < 1).all()
    with pytest.raises(ValueError, match="28×28 or 32×32, got 30×30"):
        convolutional((1, 30, 30), 16)


def test_codes_help_a_classifier_with_few_labels():
    """Three classes lie on a plane in 100 dimensions, with noise in every direction. An autoencoder
    finds the plane from 2,000 unlabelled points, after which 12 labels suffice; a network that
    sees only those 12 points fits their noise."""
    rng = np.random.default_rng(1)
    plane = np.linalg.qr(rng.normal(size=(100, 2)))[0].T
    centres = 3 * np.array([[0, 1], [0.87, -0.5], [-0.87, -0.5]])

    def points(n):
        y = np.arange(n) % 3
        return (centres[y] @ plane + rng.normal(size=(n, 100))).astype(np.float32), y

    (x, _), (few_x, few_y), (x_test, y_test) = points(2000), points(12), points(999)
    auto = Autoencoder(nn.Linear(100, 2, rng=rng), nn.Linear(2, 100, rng=rng))
    opt = optim.Adam(nn.parameters(auto), lr=0.01)
    for t in range(300):
        opt.step(grad(auto.loss(x[t * 100 % 2000:][:100]), opt.params))

    def trained(model, params, lr):
        opt = optim.Adam(params, lr)
        for _ in range(200):
            opt.step(grad(model.loss(few_x, few_y), opt.params))
        return model

    model = Classifier(auto.encoder, 2, 3, rng)
    trained(model, nn.parameters(model.head), 0.05)  # the codes are fixed
    scratch = Classifier(nn.Linear(100, 2, rng=rng), 2, 3, rng)
    trained(scratch, nn.parameters(scratch), 0.003)
    predicted = model.predict(x_test).numpy()
    right = (predicted == y_test).mean()
    assert right > 0.97 and right > (scratch.predict(x_test).numpy() == y_test).mean() + 0.1
    # the optimal rule is known here: choose the nearest centre
    best = (((x_test @ plane.T)[:, None] - centres) ** 2).sum(2).argmin(1)
    assert (predicted == best).mean() > 0.97  # eq: supervised-map
    z = x_test @ model.encoder.weight.numpy().T + model.encoder.bias.numpy()
    logits = z @ model.head.weight.numpy().T + model.head.bias.numpy()
    assert np.allclose(model(x_test).numpy(), logits, atol=1e-3)  # eq: ae-downstream

"""Section "CLIP", guidance: its equation is checked by a second route, with known densities."""

import numpy as np
import pytest
from test_equations_guidance import PI, RNG, log_p, mixture, noise_of, numerical_grad, points

from minigen import grad, log_softmax, nn, optim
from minigen.models.clip.clip import CLIP
from minigen.models.diffusion.clip_guidance import CLIPGuided, noisy_loss, similarity_grad
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.noisy_classifier import NoisyClassifier
from minigen.models.diffusion.schedule import linear, respaced

__all__ = ["mixture"]  # a fixture


class ExactCLIP:
    """Codes whose product is log p(c | x_t) − log p(c), for the components c of a mixture: what a
    noisy CLIP converges to, if τ is 1."""

    def __init__(self, mixture):
        self.mixture = mixture

    def f(self, x_t, t):
        return log_softmax(self.mixture.log_joint(x_t, t), 1) - np.log(PI)

    def g(self, c):
        return np.eye(3)[c]


@pytest.mark.parametrize("omega", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("t", [3, 25])
def test_guidance_by_a_perfect_clip_follows_the_sharpened_density(mixture, t, omega):
    """ε̃ is −√(1 − ᾱ) ∇ log of p(x_t | c) p(c | x_t)^ω, by finite differences of the densities."""
    s, x, c = mixture.schedule, points(), np.array([0, 1, 2, 1, 0])

    def log_sharpened(x):
        given = np.stack([log_p(x, t, s, k) for k in range(3)], 1)
        log_c = given + np.log(PI) - log_p(x, t, s)[:, None]
        return (given + omega * log_c)[np.arange(5), c]

    eps = CLIPGuided(mixture, ExactCLIP(mixture), s, omega)(x, t, c).numpy()
    expected = noise_of(numerical_grad(log_sharpened, x), t, s)
    assert np.allclose(eps, expected, atol=1e-6)  # eq: clip-guidance


def test_a_model_that_knows_no_text_is_led_to_it(mixture):
    s, c, sure = mixture.schedule, np.full(500, 0), []
    for omega in (0.0, 1.0, 3.0):
        net = CLIPGuided(lambda x_t, t, c: mixture(x_t, t), ExactCLIP(mixture), s, omega)
        x = DDIM(net, respaced(s, 40)).decode(RNG(3).standard_normal((500, 2)), c)
        sure.append((mixture.log_joint(x, 1).numpy().argmax(1) == 0).mean())
    assert sure[0] == pytest.approx(PI[0], abs=0.06) and 0.85 < sure[1] < sure[2]


def test_a_weight_below_0_is_refused(mixture):
    with pytest.raises(ValueError, match="a weight is a number from 0"):
        CLIPGuided(mixture, ExactCLIP(mixture), mixture.schedule, -1.0)
    with pytest.raises(ValueError, match="1 images came with 3 labels or texts"):
        similarity_grad(ExactCLIP(mixture), np.zeros((1, 2)), 1, np.array([0, 1, 0]))


def test_a_noisy_clip_learns_and_its_slope_leads_to_the_text():
    """Horizontal stripes have text 0, vertical ones text 1; a batch of 64 contains 32 of each."""
    upright = np.tile(np.array([-0.5, 0.5], np.float32), (1, 8, 4))
    x = np.repeat(np.stack([upright.swapaxes(1, 2), upright]), 32, 0)
    c, model = np.repeat([0, 1], 32), Forward(linear(50))
    net = CLIP(NoisyClassifier((1, 8, 8), 8, widths=(8, 8), D=16), nn.Embedding(2, 8))
    nn.init(net, RNG(0))
    opt, losses = optim.Adam(nn.parameters(net), lr=1e-2), []
    for t in range(60):
        loss, _ = noisy_loss(net, model, x, c, RNG((1, t)))
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert 2 * np.log(32) < np.mean(losses[-5:]) < 2 * np.log(64) - 0.2  # perfect; at chance
    x_t = model.q_sample(x, 10, RNG(12).normal(size=x.shape).astype(np.float32))
    g = similarity_grad(net, x_t, np.full(64, 10), np.ones(64, int)).numpy()
    assert ((g * (upright - upright.swapaxes(1, 2))).sum((1, 2, 3)) > 0).mean() > 0.9

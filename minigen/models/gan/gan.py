"""The generative adversarial network (Goodfellow et al. 2014): two networks play a game.

    x̃ = G(z),  z ~ p(z) = N(0, I)                             a sample
    D(x) = σ(a(x))                                            the probability that x is real
    V(G, D) = E_{x~p_data}[log D(x)] + E_{z~p}[log(1 − D(G(z)))]

    min_G max_D V(G, D):   D* = argmax_D V,   G* = argmin_G V = argmin_G E_z[log(1 − D(G(z)))]

    instead, in practice:  max_G E_z[log D(G(z))]             non-saturating where D is confident

The network D outputs the logit a, so log D = log σ(a) and log(1 − D) = log σ(−a) never overflow.

Differs from the paper: leaky ReLU in place of maxout and dropout in D; tanh gives images in
[−1, 1].
"""

import math

from minigen import leaky_relu, logsigmoid, mean, nn, no_grad, relu, sigmoid, tanh, tensor
from minigen.tensor import to_device_of
from minigen.train import descend


class Game:
    """Two networks, and how to sample. `G` maps codes z (N, d_z) to samples (N, ...), `D` maps
    samples to one number each, (N,) or (N, 1). A subclass defines the players' losses in terms of
    these numbers: `d_loss(x, rng)` on real samples x, and `g_loss(n, rng)`, both minibatch means.

    Any further inputs to both networks (a label: see cgan.py) follow as `*given`.
    """

    def __init__(self, G, D, d_z):
        self.G, self.D, self.d_z = G, D, d_z

    def codes(self, n, rng):
        """n codes z ~ N(0, I): (n, d_z)."""
        weight = nn.like(self.G)
        return tensor(to_device_of(rng.standard_normal((n, self.d_z), weight.dtype), weight))

    def generate(self, n, rng, *given):
        """n samples x̃ = G(z), tracked for differentiation: (n, ...)."""
        z = self.codes(n, rng)
        return self.G(z, *given)  # eq: gan-pushforward

    def sample(self, n, rng, *given):
        """n samples of G in evaluation mode, untracked: (n, ...). D is not used."""
        with nn.evaluation(self.G), no_grad():
            return self.generate(n, rng, *given)

    def discriminate(self, x, rng, *given):
        """D on the real samples x and on as many generated ones, with no gradient path to G."""
        x_fake = self.fake_batch(x, rng, *given)
        return self.D(x, *given), self.D(x_fake, *given)

    def discriminate_fake(self, n, rng, *given):
        """D on n generated samples, differentiable with respect to G: (n, ...)."""
        return self.D(self.generate(n, rng, *given), *given)

    def fake_batch(self, x, rng, *given):
        """As many generated samples as there are real samples x, untracked. ValueError if their
        shape is not that of x."""
        with no_grad():
            x_fake = self.generate(len(x), rng, *given)
        return check_shape(type(self).__name__, x_fake, x)


def check_shape(name, x_fake, x):
    """Generated samples x_fake, or an error that names `name` if their shape is not that of the
    real samples x."""
    if x_fake.shape != x.shape:
        raise ValueError(f"{name}: real samples are {x.shape}, G draws {x_fake.shape}: build G and "
                         "D for the shape of the data")
    return x_fake


class GAN(Game):
    """The zero-sum game: D maximises V, G minimises it. G's gradient vanishes where D confidently
    rejects its samples."""

    def value(self, x, rng, *given):
        """V(G, D), estimated on the real samples x and as many generated ones: a scalar in nats."""
        real, fake = self.discriminate(x, rng, *given)
        return mean(logsigmoid(real)) + mean(logsigmoid(-fake))  # eq: gan-value

    def d_loss(self, x, rng, *given):
        """−V: D's minibatch is the real samples x (N, ...) and N generated ones."""
        return -self.value(x, rng, *given)  # eq: gan-d-argmax, gan-d-minibatch-grad

    def g_loss(self, n, rng, *given):
        """E_z[log(1 − D(G(z)))], the part of V that depends on G, on n samples."""
        fake = self.discriminate_fake(n, rng, *given)
        return mean(logsigmoid(-fake))  # eq: gan-g-argmin, gan-g-minibatch-grad


class NonSaturatingGAN(GAN):
    """Each player has its own objective: D's as in `GAN`, but G maximises E_z[log D(G(z))], which
    has the same fixed point and a gradient that is largest where the samples are bad."""

    def g_loss(self, n, rng, *given):
        """−E_z[log D(G(z))], on n samples."""
        fake = self.discriminate_fake(n, rng, *given)
        return -mean(logsigmoid(fake))  # eq: gan-non-saturating, gan-g-minibatch-grad-ns


def logit_grads(a):
    """∂/∂a of log(1 − σ(a)) and of log σ(a), at the logit a of a sample. For a bad sample, a → −∞,
    the first tends to 0 and the second to 1."""
    return -sigmoid(a), 1 - sigmoid(a)  # eq: gan-saturation-gradient


def algorithm_1(game, opt_d, opt_g, minibatch, k=1):
    """The training step of the paper's Algorithm 1: k steps of the discriminator, then one of the
    generator. Returns the function ``step(t, rng)``, which returns both losses as numbers.

    minibatch: a function of i = 0, 1, ... that returns the i-th minibatch of real data as a tuple:
    the samples (m, ...), then any further inputs to both networks
    opt_d, opt_g: optimisers of D's and of G's parameters

    Neither step computes the other network's gradients. ValueError if k < 1.
    """
    if k < 1:
        raise ValueError(f"algorithm_1: k is {k}, but D takes at least one step before each of G's")

    def step(t, rng):
        for i in range(k):  # eq: gan-algorithm-1
            x, *given = minibatch(k * t + i)
            loss = game.d_loss(x, rng, *given)  # eq: gan-two-minibatch-adam
            numbers = descend(opt_d, loss, name="d_loss")
        loss = game.g_loss(len(x), rng, *given)  # eq: gan-algorithm-improved
        return numbers | descend(opt_g, loss, name="g_loss")

    return step


def fully_connected(shape, d_z, d_h=256, game=NonSaturatingGAN, rng=None):
    """Networks with two hidden layers each, for samples of `shape` in [−1, 1]."""
    d_x = math.prod(shape)
    G = nn.Sequential(nn.Linear(d_z, d_h, rng=rng), relu, nn.Linear(d_h, d_h, rng=rng), relu,
                      nn.Linear(d_h, d_x, rng=rng), tanh, lambda x: x.reshape(len(x), *shape))
    D = nn.Sequential(lambda x: x.reshape(len(x), d_x),
                      nn.Linear(d_x, d_h, rng=rng), leaky,
                      nn.Linear(d_h, d_h, rng=rng), leaky, nn.Linear(d_h, 1, rng=rng))
    return game(G, D, d_z)


def leaky(x):
    """Leaky ReLU with the slope 0.2 that the DCGAN paper uses."""
    return leaky_relu(x, 0.2)

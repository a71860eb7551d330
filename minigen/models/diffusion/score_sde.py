"""Score-based generative modelling through stochastic differential equations (Song et al. 2021).

As a DDPM's steps become more and smaller, its forward process becomes a diffusion in continuous
time t from 0 to 1, here the variance-preserving one,

    dx = f(x, t) dt + g(t) dw        f = −½ β(t) x,  g² = β(t),  β(t) = β_0 + t (β_1 − β_0)
    q(x_t | x_0) = N(√ᾱ(t) x_0, (1 − ᾱ(t)) I)        ᾱ(t) = exp(−∫_0^t β(s) ds)

It can be reversed (Anderson 1982) by the score, s(x, t) = ∇_x log p_t(x), which is estimated by the
predicted noise, s = −ε_θ(x, t) / √(1 − ᾱ(t)):

    dx = (f − g² s) dt + g dw        from t = 1 to 0

- Predictor: a step of length h of this equation, x ← x − h (f − g² s) + √h g ε.
- Corrector: a step of Langevin dynamics at a fixed t, whose stationary distribution is p_t,
  x ← x + δ s + √(2δ) ε with δ = 2 (r ‖ε‖ / ‖s‖)². It repairs what the predictor got wrong.
- The probability flow, an ordinary differential equation, has the same p_t at every t:

      dx/dt = f̃(x, t) = f − ½ g² s

  It maps images to noise and back, and gives their likelihood, not only a bound on it: with v of
  independent signs, for which E[v vᵀ] = I,

      log p_0(x_0) = log p_1(x_1) + ∫_0^1 ∇·f̃(x_t, t) dt        ∇·f̃ = E_v[vᵀ (∂f̃/∂x) v]

Differs from the paper: one SDE of three; all times start from 10⁻⁴, or 10⁻³ when sampling. The
network predicts the velocity v = √ᾱ ε − √(1 − ᾱ) x_0 (velocity.py), ε_θ = √ᾱ v_θ + √(1 − ᾱ) x:
along the flow an error of ε at t = 1 grows 150-fold, and one of v does not.
"""

import numpy as np

from minigen import grad, mean, nn, no_grad, norm, square, sum, tensor
from minigen.dist import Normal, noise, per_image
from minigen.models.diffusion.ddpm import check_eps
from minigen.tensor import to_device_of, xp

START, LAST = 1e-4, 1e-3  # the smallest t of training and likelihoods, and of sampling
SCALE = 1000  # the network is given 1000 t, so that its features of time are those of a DDPM


class VP:
    """The variance-preserving SDE: β(t) rises linearly from `first` to `last`."""

    def __init__(self, first=0.1, last=20.0):
        self.first, self.last = first, last

    def beta(self, t):
        return self.first + t * (self.last - self.first)  # eq: sde-forward

    def alpha_bar(self, t):
        return np.exp(-t * (self.first + self.beta(t)) / 2)  # eq: sde-forward


class ScoreSDE:
    """`net(x, 1000 t)` predicts the velocity at images x (N, C, H, W), times (N,); `sde` is a VP.

    Times t in [0, 1] are arrays (N,), or one number for all.
    """

    def __init__(self, net, sde):
        self.net, self.sde = net, sde

    def loss(self, x_0, rng):
        """E ‖ε − ε_θ(x_t, t)‖² / ᾱ(t) = E ‖v − v_θ‖² of images x_0 (N, C, H, W), t uniform, a mean
        over pixels too: a scalar."""
        x_0 = tensor(x_0)
        t = rng.uniform(START, 1, len(x_0))
        eps = noise(rng, x_0)
        error = eps - self.eps(self.q_sample(x_0, t, eps), t)
        return mean(square(error) * column(1 / self.sde.alpha_bar(t), x_0))  # eq: sde-loss

    def q_sample(self, x_0, t, eps):
        """x_t = √ᾱ x_0 + √(1 − ᾱ) ε."""
        a = self.sde.alpha_bar(t)
        return column(a**0.5, x_0) * x_0 + column((1 - a)**0.5, x_0) * eps  # eq: sde-forward

    def eps(self, x, t):
        """ε_θ(x, t)."""
        a, times = self.sde.alpha_bar(t), np.broadcast_to(SCALE * t, len(x))
        v = check_eps(self.net(x, to_device_of(times, x.data)), x)
        return column(a**0.5, x) * v + column((1 - a)**0.5, x) * x

    def score(self, x, t):
        """s(x, t), like x."""
        return self.eps(x, t) * column(-(1 - self.sde.alpha_bar(t))**-0.5, x)  # eq: sde-score

    # ------------------------------------------------------------------ sampling

    def predict(self, x, t, h, rng):
        """x at t − h: a step of the reverse SDE."""
        beta = self.sde.beta(t)
        drift = -beta / 2 * x - beta * self.score(x, t)
        return x - h * drift + (h * beta)**0.5 * noise(rng, x)  # eq: sde-reverse

    def correct(self, x, t, r, rng):
        """x at t, a step of Langevin dynamics on; r: its signal-to-noise ratio."""
        s, eps = self.score(x, t), noise(rng, x)
        delta = 2 * (r * length(eps) / length(s)) ** 2
        return x + delta * s + (2 * delta)**0.5 * eps  # eq: sde-corrector

    def sample(self, n, shape, rng, steps=500, r=None):
        """n images of `shape` (C, H, W) by `steps` steps, each corrected if r is given, 0.16 in the
        paper."""
        times = np.linspace(1, LAST, steps + 1)
        with no_grad():
            x = noise(rng, nn.like(self.net), (n, *shape))
            for t, after in zip(times[:-1], times[1:], strict=True):
                x = self.predict(x, t, t - after, rng)
                if r is not None:
                    x = self.correct(x, after, r, rng)
            a = self.sde.alpha_bar(LAST)
            return (x - (1 - a)**0.5 * self.eps(x, LAST)) / a**0.5

    # ------------------------------------------------------------------ the probability flow

    def flow(self, x, t):
        """f̃(x, t) = dx/dt, like x."""
        beta = self.sde.beta(t)
        return -beta / 2 * x - beta / 2 * self.score(x, t)  # eq: sde-probability-flow

    def decode(self, x_1, tol=1e-4):
        """The images x_0 (N, ...) to which the flow leads from noise x_1. tol: the relative and
        absolute tolerance of the solver."""
        return self._follow(x_1, 1, START, tol)

    def encode(self, x_0, tol=1e-4):
        """The noise x_1 to which the flow leads from images x_0 (N, ...)."""
        return self._follow(x_0, START, 1, tol)

    def _follow(self, x, start, end, tol):
        with no_grad():
            return solve(lambda x, t: [self.flow(x, t)], [tensor(x)], start, end, tol)[0]

    def log_prob(self, x_0, rng, tol=1e-4):
        """log p_0(x_0) of images x_0 (N, ...): nats (N,), estimated with one v for each image."""
        x_0 = tensor(x_0)
        v = tensor(to_device_of(rng.integers(0, 2, x_0.shape) * 2 - 1, x_0.data).astype(x_0.dtype))

        def derivatives(x, _, t):
            x = tensor(x, requires_grad=True)
            f = self.flow(x, t)
            return f, per_image(v * grad(sum(v * f), x))  # eq: sde-likelihood

        zeros = tensor(xp(x_0.data).zeros(len(x_0), x_0.dtype))
        x_1, divergence = solve(derivatives, [x_0, zeros], START, 1, tol)
        return per_image(Normal(0.0, 0.0).log_prob(x_1)) + divergence  # eq: sde-likelihood


def solve(derivatives, state, start, end, tol):
    """The list of tensors `state` at time `end`, if it is given at `start` and the rates of change
    are ``derivatives(*state, t)``: by Runge-Kutta steps of order 5(4), as long as `tol` allows."""
    from scipy.integrate import solve_ivp  # imported here: it loads slowly
    ends = np.cumsum([x.size for x in state])[:-1]
    flat = lambda parts: np.concatenate([x.numpy().ravel() for x in parts]).astype(np.float64)

    def unpacked(y):
        return [tensor(to_device_of(part.reshape(x.shape).astype(x.dtype), x.data))
                for part, x in zip(np.split(y, ends), state, strict=True)]

    def rate(t, y):
        return flat(derivatives(*unpacked(y), t))

    result = solve_ivp(rate, (start, end), flat(state), rtol=tol, atol=tol, t_eval=[end])
    if not result.success:
        raise FloatingPointError(f"score_sde: the flow was not solved: {result.message}")
    return unpacked(result.y[:, -1])


def column(values, x):
    """Numbers (N,), or one for all, to be multiplied with x (N, ...): of its dtype and device."""
    values = np.reshape(values, (-1, *[1] * (x.ndim - 1))).astype(x.dtype)
    return to_device_of(values, x.data)


def length(x):
    """The mean of ‖x‖ over images (N, ...): a scalar."""
    return mean(norm(x.reshape(len(x), -1), axis=1))

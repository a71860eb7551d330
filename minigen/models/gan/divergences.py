"""f-divergences: ten ways to compare two densities p and q, as used in f-GAN (Nowozin, Cseke &
Tomioka 2016).

    D_f(P ‖ Q) = ∫ q(x) f(p(x) / q(x)) dx                 f convex
    f*(t) = sup_u {ut − f(u)}                             its conjugate, so that f(u) ≥ ut − f*(t)
    D_f(P ‖ Q) ≥ E_P[T(x)] − E_Q[f*(T(x))]                for any T; equal if T = f′(p / q)

The right-hand side of the bound needs only samples, so T can be a network: T = g(V(x)), where V(x)
is any real number and g maps it into the domain where f* is finite.

Where the integrals in the slide's table disagree with its generators f, the integrals here are the
correct ones: the slide swaps those of Pearson's and Neyman's χ² (as the paper does), its
Jensen-Shannon integral is half of what its f gives, and its total variation lacks the
absolute-value bars.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from minigen import (
    abs,
    exp,
    expm1,
    log,
    mean,
    minimum,
    softplus,
    sqrt,
    square,
    sum,
    tanh,
    where,
    wrightomega,
)
from minigen.ops import max

LOG2 = math.log(2)


@dataclass(frozen=True)
class Divergence:
    """One f-divergence. All functions work elementwise, on tensors, arrays and numbers.

    f(u): the generator, u = p / q > 0
    integrand(p, q): q f(p / q), simplified, for p, q > 0; D_f is its integral
    f_star(t): the conjugate, for t within `domain`
    g(v): the output activation, which maps any real v to a t within the domain and increases with v
    f_star_g(v): f*(g(v)), written to avoid cancellation where t is close to the domain's edge
    """

    f: Callable
    integrand: Callable
    f_star: Callable
    domain: tuple[float, float]
    g: Callable
    f_star_g: Callable

    def between(self, p, q, dx):
        """D_f(P ‖ Q) by quadrature, with p and q given on a grid with cells of size dx. A scalar.
        """
        return sum(self.integrand(p, q)) * dx

    def bound(self, v_p, v_q):
        """E_P[T] − E_Q[f*(T)] ≤ D_f(P ‖ Q) with T = g(v), estimated from the values v = V(x) at
        samples of P and at samples of Q (of any shapes). A scalar."""
        return mean(self.g(v_p)) - mean(self.f_star_g(v_q))  # eq: fgan-variational-bound


def conjugate(f, t, u):
    """f*(t) = sup_u {ut − f(u)} from its definition, over the grid u (M,), for t (...)."""
    return max(u * t[..., None] - f(u), -1)  # eq: fgan-conjugate


def jeffrey_conjugate(t):
    """f* of f(u) = (u − 1) log u: the supremum is at u = 1 / W(e^(1 − t)), W Lambert's function."""
    w = wrightomega(1 - t)
    return w + 1 / w + t - 2  # eq: fgan-jeffrey


def js_weighted(pi):
    """The Jensen-Shannon divergence with weight π for p, 0 < π < 1, and weight 1 − π for q."""
    if not 0 < pi < 1:
        raise ValueError(f"js_weighted: the weight of p is {pi}, it must be between 0 and 1")

    def mixed(p, q):
        return pi * p + (1 - pi) * q

    def f_star_g(v):
        x = -log(-expm1(-softplus(-minimum(v, 30.0)) / pi))
        x = where(v > 30.0, v + math.log(pi), x)  # the same up to O(e^−v)
        return (1 - pi) * (math.log(1 - pi) + x)

    return Divergence(
        f=lambda u: pi * u * log(u) - mixed(u, 1) * log(mixed(u, 1)),  # eq: fgan-js-weighted
        integrand=lambda p, q: (pi * p * log(p / mixed(p, q))
                                + (1 - pi) * q * log(q / mixed(p, q))),  # eq: fgan-js-weighted
        f_star=lambda t: (1 - pi) * log((1 - pi) / (1 - pi * exp(t / pi))),  # eq: fgan-js-weighted
        domain=(-math.inf, -pi * math.log(pi)),
        g=lambda v: -pi * math.log(pi) - softplus(-v),
        f_star_g=f_star_g,
    )


REAL = (-math.inf, math.inf)
DIVERGENCES = {
    "total-variation": Divergence(
        f=lambda u: 0.5 * abs(u - 1),  # eq: fgan-tv
        integrand=lambda p, q: 0.5 * abs(p - q),  # eq: fgan-tv
        f_star=lambda t: t,  # eq: fgan-tv
        domain=(-0.5, 0.5), g=lambda v: 0.5 * tanh(v), f_star_g=lambda v: 0.5 * tanh(v),
    ),
    "kl": Divergence(
        f=lambda u: u * log(u),  # eq: fgan-kl
        integrand=lambda p, q: p * log(p / q),  # eq: fgan-kl
        f_star=lambda t: exp(t - 1),  # eq: fgan-kl
        domain=REAL, g=lambda v: v, f_star_g=lambda v: exp(v - 1),
    ),
    "reverse-kl": Divergence(
        f=lambda u: -log(u),  # eq: fgan-reverse-kl
        integrand=lambda p, q: q * log(q / p),  # eq: fgan-reverse-kl
        f_star=lambda t: -1 - log(-t),  # eq: fgan-reverse-kl
        domain=(-math.inf, 0), g=lambda v: -exp(-v), f_star_g=lambda v: v - 1,
    ),
    # This is the conjugate of (u − 1)² over all real u. Over u ≥ 0 alone the conjugate is −1 for
    # t < −2, which is smaller, so the bound still holds there.
    "pearson-chi2": Divergence(
        f=lambda u: square(u - 1),  # eq: fgan-pearson-chi2
        integrand=lambda p, q: square(p - q) / q,  # eq: fgan-pearson-chi2
        f_star=lambda t: square(t) / 4 + t,  # eq: fgan-pearson-chi2
        domain=REAL, g=lambda v: v, f_star_g=lambda v: square(v) / 4 + v,
    ),
    "neyman-chi2": Divergence(
        f=lambda u: square(1 - u) / u,  # eq: fgan-neyman-chi2
        integrand=lambda p, q: square(p - q) / p,  # eq: fgan-neyman-chi2
        f_star=lambda t: 2 - 2 * sqrt(1 - t),  # eq: fgan-neyman-chi2
        domain=(-math.inf, 1), g=lambda v: -expm1(-v), f_star_g=lambda v: 2 - 2 * exp(-v / 2),
    ),
    "hellinger": Divergence(
        f=lambda u: square(sqrt(u) - 1),  # eq: fgan-hellinger
        integrand=lambda p, q: square(sqrt(p) - sqrt(q)),  # eq: fgan-hellinger
        f_star=lambda t: t / (1 - t),  # eq: fgan-hellinger
        domain=(-math.inf, 1), g=lambda v: -expm1(-v), f_star_g=lambda v: expm1(v),
    ),
    "jeffrey": Divergence(
        f=lambda u: (u - 1) * log(u),  # eq: fgan-jeffrey
        integrand=lambda p, q: (p - q) * log(p / q),  # eq: fgan-jeffrey
        f_star=jeffrey_conjugate, domain=REAL, g=lambda v: v, f_star_g=jeffrey_conjugate,
    ),
    "js": Divergence(
        f=lambda u: u * log(u) - (u + 1) * log((1 + u) / 2),  # eq: fgan-js
        integrand=lambda p, q: p * log(2 * p / (p + q)) + q * log(2 * q / (p + q)),  # eq: fgan-js
        f_star=lambda t: -log(2 - exp(t)),  # eq: fgan-js
        domain=(-math.inf, LOG2), g=lambda v: LOG2 - softplus(-v),
        f_star_g=lambda v: softplus(v) - LOG2,
    ),
    "js-weighted": js_weighted(0.3),
    "gan": Divergence(
        f=lambda u: u * log(u) - (u + 1) * log(u + 1),  # eq: fgan-gan
        integrand=lambda p, q: p * log(p / (p + q)) + q * log(q / (p + q)),  # eq: fgan-gan
        f_star=lambda t: -log(1 - exp(t)),  # eq: fgan-gan
        domain=(-math.inf, 0), g=lambda v: -softplus(-v), f_star_g=lambda v: softplus(v),
    ),
}

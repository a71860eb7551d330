"""The diffusion kernel: t small steps of noise in one.

    python demos/derivations/diffusion_kernel.py

A step is x_t = √α_t x_{t−1} + √β_t ε, with α_t = 1 − β_t. Substituting each step into the next and
adding up the noises gives q(x_t|x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I) with ᾱ_t = α_1 … α_t.
"""

import numpy as np

from minigen.lecture.steps import Step, cli
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.schedule import Schedule

T = 6
GRID = np.linspace(-8, 8, 801)


def density(x, mean, variance):
    """The density of N(mean, variance) at x."""
    return np.exp(-(x - mean) ** 2 / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def derive(rng):
    """Two steps in one, then all of them, by moments and by integrals over densities."""
    schedule, x_0 = Schedule(np.linspace(0.05, 0.3, T)), rng.uniform(0.5, 1.5)
    alpha, beta, alpha_bar = schedule.alpha, schedule.beta, schedule.alpha_bar
    a, b = np.sqrt(alpha), np.sqrt(beta)  # what a step keeps, and the noise it adds

    mean, variance = [x_0], [0.0]
    for t in range(1, T + 1):  # a step: x = a x + b ε, with ε independent of x
        mean.append(a[t] * mean[-1])
        variance.append(alpha[t] * variance[-1] + beta[t])
    kernel = Forward(schedule).q(np.full((T, 1), x_0), np.arange(1, T + 1))

    eps = rng.standard_normal(2)
    by_steps = a[2] * (a[1] * x_0 + b[1] * eps[0]) + b[2] * eps[1]

    seen = density(GRID, a[1] * x_0, beta[1])  # q(x_1|x_0), then q(x_t|x_0) by integrating
    for t in range(2, T + 1):
        seen = density(GRID[:, None], a[t] * GRID, beta[t]) @ seen * (GRID[1] - GRID[0])
    some = slice(360, 560, 40)

    return [
        ("Two steps in one", [
            Step("x_2 = √α_2 x_1 + √β_2 ε_2, with x_1 substituted", by_steps, "=",
                 a[2] * a[1] * x_0 + a[2] * b[1] * eps[0] + b[2] * eps[1]),
            Step("what is left of x_0: √α_2 √α_1, against √ᾱ_2", a[2] * a[1], "=",
                 np.sqrt(alpha_bar[2])),
            Step("independent noises add their variances: α_2 β_1 + β_2, against 1 − α_2 α_1",
                 alpha[2] * beta[1] + beta[2], "=", 1 - alpha[2] * alpha[1]),
            Step("also against 1 − ᾱ_2", alpha[2] * beta[1] + beta[2], "=", 1 - alpha_bar[2])]),
        (f"All {T} steps, t = 1 … {T}: one after the other, against the kernel (the code's)", [
            Step("the mean, against √ᾱ_t x_0", np.array(mean[1:]), "=",
                 kernel.mu.numpy()[:, 0]),
            Step("the variance, against 1 − ᾱ_t", np.array(variance[1:]), "=",
                 np.exp(kernel.logvar.numpy()[:, 0]))]),
        (f"The density of x_{T} at five points: ∫ q(x_t|x_t₋₁) q(x_t₋₁|x_0) dx_t₋₁, t by t", [
            Step("against N(√ᾱ_t x_0, 1 − ᾱ_t)", seen[some], "=",
                 density(GRID[some], np.sqrt(alpha_bar[T]) * x_0, 1 - alpha_bar[T]))]),
        ("What a slide prints under “Diffusion Kernel”: the single step", [
            Step("its variance β_t, against that of x_t", beta[1:], "=", np.array(variance[1:]),
                 error=13),
            Step("at t = 1 the two are the same", beta[1], "=", variance[1])]),
    ]


def main(argv=None):
    cli(__doc__, derive, argv)


if __name__ == "__main__":
    main()

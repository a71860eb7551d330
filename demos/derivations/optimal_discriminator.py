"""The optimal discriminator, and what is left for the generator: the Jensen-Shannon divergence.

    python demos/derivations/optimal_discriminator.py

p_data and p_g are distributions over five values, so that V(G, D) is a sum and D five numbers.
"""

import math

import numpy as np

from minigen.lecture.steps import Step, cli
from minigen.models.gan.equilibrium import jsd, kl, optimal_discriminator, value


def best(a, b):
    """argmax of a log D + b log(1 − D) over D in (0, 1), by bisection of its derivative."""
    low, high = 0.0, 1.0
    for _ in range(60):
        D = (low + high) / 2
        low, high = (D, high) if a / D > b / (1 - D) else (low, D)
    return (low + high) / 2


def derive(rng):
    """D*, V at D*, its minimum, and what a slide says instead."""
    p_data, p_g = rng.dirichlet(np.ones(5), 2)
    D = optimal_discriminator(p_data, p_g)
    V, m = value(p_data, p_g, D), (p_data + p_g) / 2
    other = rng.random(5)
    left, right = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.5, 0.5])

    return [
        ("For each x, D maximises p_data log D + p_g log(1 − D)", [
            Step("where p_data / D = p_g / (1 − D), against p_data / (p_data + p_g)",
                 np.array([best(a, b) for a, b in zip(p_data, p_g, strict=True)]), "=", D),
            Step("any other D has a smaller V(G, D)", value(p_data, p_g, other), "<", V)]),
        ("Each line equals V(G, D*), on the right", [
            Step("Σ p_data log p_data / (p_data + p_g) + Σ p_g log p_g / (p_data + p_g)",
                 (p_data * np.log(p_data / (p_data + p_g))
                  + p_g * np.log(p_g / (p_data + p_g))).sum(), "=", V),
            Step("KL(p_data ‖ m) + KL(p_g ‖ m) − log 4, with m = ½ (p_data + p_g)",
                 kl(p_data, m) + kl(p_g, m) - math.log(4), "=", V),
            Step("2 JSD(p_data ‖ p_g) − log 4", 2 * jsd(p_data, p_g) - math.log(4), "=", V)]),
        ("The generator's optimum: p_g = p_data", [
            Step("there D* = ½", optimal_discriminator(p_data, p_data), "=", np.full(5, 0.5)),
            Step("and V = −log 4", value(p_data, p_data, np.full(5, 0.5)), "=", -math.log(4)),
            Step("which is less than at any other p_g", -math.log(4), "<", V)]),
        ("A slide says that WGAN replaces “KL”", [
            Step("KL(p_data ‖ p_g) as what the GAN minimises, against V + log 4",
                 kl(p_data, p_g), "=", V + math.log(4), error=16),
            Step("where the two do not overlap, JSD is log 2 however far apart they are",
                 jsd(left, right), "=", math.log(2))]),
    ]


def main(argv=None):
    cli(__doc__, derive, argv)


if __name__ == "__main__":
    main()

"""The lower bound that f-GAN maximises, for each of the ten divergences of the slide's table.

    python demos/derivations/f_divergence_bound.py

f is the supremum of the lines below it: f(u) ≥ u t − f*(t) for every t. With u = p/q and a t for
every x, T(x), multiplied by q and summed over x:

    D_f(P ‖ Q) = Σ q f(p/q) ≥ Σ p T − Σ q f*(T),    equal where T = f′(p/q)
"""

import numpy as np

from minigen import grad, sum, tensor
from minigen.lecture.steps import Step, cli
from minigen.models.gan.divergences import DIVERGENCES


def derive(rng):
    """For each divergence the table's columns and the bound; then the table's mistakes."""
    p, q = rng.dirichlet(np.ones(6), 2)
    m, v = (p + q) / 2, rng.standard_normal(6)  # v: any critic

    def by_f(name):  # Σ q f(p/q)
        return (q * DIVERGENCES[name].f(tensor(p / q)).numpy()).sum()

    def bound(d, T):  # Σ p T − Σ q f*(T)
        return (p * T).sum() - (q * d.f_star(tensor(T)).numpy()).sum()

    parts = []
    for name, d in DIVERGENCES.items():
        u = tensor(p / q, requires_grad=True)
        best, other = grad(sum(d.f(u)), u).numpy(), d.g(tensor(v)).numpy()
        parts.append((f"{name}: Σ q f(p/q), on the right", [
            Step("the sum of the simplified integrand",
                 sum(d.integrand(tensor(p), tensor(q))).item(), "=", by_f(name)),
            Step("Σ p T − Σ q f*(T) with T = f′(p/q)", bound(d, best), "=", by_f(name)),
            Step("with another T", bound(d, other), "≤", by_f(name))]))
    pearson, neyman = ((q - p) ** 2 / p).sum(), ((p - q) ** 2 / q).sum()  # as printed
    return [*parts, ("What the slide prints as D_f, against Σ q f(p/q) with its f", [
        Step("Pearson χ²: Σ (q − p)² / p", pearson, "=", by_f("pearson-chi2"), error=6),
        Step("Neyman χ²: Σ (p − q)² / q", neyman, "=", by_f("neyman-chi2"), error=6),
        Step("with the two exchanged, they are equal", neyman, "=", by_f("pearson-chi2")),
        Step("Jensen-Shannon: ½ Σ p log(2p / (p + q)) + q log(2q / (p + q))",
             (p * np.log(p / m) + q * np.log(q / m)).sum() / 2, "=", by_f("js"), error=7),
        Step("total variation without the bars: ½ Σ (p − q)", (p - q).sum() / 2, "=",
             by_f("total-variation"), error=8)])]


def main(argv=None):
    cli(__doc__, derive, argv)


if __name__ == "__main__":
    main()

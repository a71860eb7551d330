"""The variational bound, line by line, on a model whose z can be summed over.

    python demos/derivations/elbo.py

z takes four values, x five; q(z|x) is any distribution. What the slides derive with ∫ and E is
a sum here, so each line is a number, and so is each mistake.
"""

import numpy as np

from minigen.lecture.steps import Step, cli
from minigen.models.vae.derivation import (
    LatentModel,
    derivation,
    elbo,
    kl,
    posterior_integral,
    vi_objective,
)

LINES = ["E_q[log p(x)]",
         "E_q[log p(x|z) p(z) / p(z|x)]",
         "E_q[log p(x|z) p(z) / p(z|x) · q(z|x) / q(z|x)]",
         "E_q[log p(x|z)] − E_q[log q(z|x) / p(z)] + E_q[log q(z|x) / p(z|x)]",
         "E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) + KL(q(z|x) ‖ p(z|x))"]


def derive(rng):
    """The derivation, the gap of the bound, and what the slides print instead."""
    model = LatentModel(rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5), 4))
    x, q = 2, rng.dirichlet(np.ones(4))
    posterior, fits = model.posterior().numpy()[:, x], np.log(model.p_x_given_z[:, x])
    p_x = model.p_z @ model.p_x_given_z[:, x]
    log_p, bound = np.log(p_x), elbo(model, q, x).item()
    sharp = 0.999 * np.eye(4)[fits.argmax()] + 0.001 / 4  # nearly all mass on the best z

    return [
        ("Each line of the derivation equals log p(x) = log Σ_z p(x|z) p(z), on the right", [
            Step(line, value.item(), "=", log_p)
            for line, value in zip(LINES, derivation(model, q, x), strict=True)]),
        ("A KL is never negative: without the second, a bound is left, with that KL as the gap", [
            Step("E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)), against log p(x)", bound, "≤", log_p),
            Step("log p(x) − bound, against KL(q(z|x) ‖ p(z|x))", log_p - bound, "=",
                 vi_objective(model, q, x).item()),
            Step("with q(z|x) = p(z|x) the bound is tight",
                 elbo(model, posterior, x).item(), "=", log_p)]),
        ("What slides print", [
            Step("log p(x|z) − KL(q(z|x) ‖ q(z)), the prior replaced by q and no E, as a bound",
                 fits.max() - kl(q, q).item(), "≤", log_p, error=2),
            Step("∫ p(z|x) p(x) dz as a way to p(x): it gives back what is put in, here 0.7",
                 posterior_integral(posterior, 0.7).item(), "=", p_x, error=3),
            Step("KL(p(z|x) ‖ q(z|x)) as what q minimises: the gap is the other direction",
                 kl(posterior, q).item(), "=", log_p - bound, error=4),
            Step("E_q[log p(x|z)] alone under the brace “bound”", sharp @ fits, "≤", log_p,
                 error=23)]),
    ]


def main(argv=None):
    cli(__doc__, derive, argv)


if __name__ == "__main__":
    main()

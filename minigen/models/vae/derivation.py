"""The derivation of the variational bound, line by line, on a model small enough to sum exactly.

x and z take finitely many values, so every expectation is a sum and every line of the slide is a
number. For an observed x and any q(z | x):

    log p(x) = E_q[log p(x)]                                                            (1)
             = E_q[log (p(x|z) p(z) / p(z|x))]                                          (2)
             = E_q[log (p(x|z) p(z) / p(z|x) · q(z|x) / q(z|x))]                        (3)
             = E_q[log p(x|z)] − E_q[log q(z|x) / p(z)] + E_q[log q(z|x) / p(z|x)]      (4)
             = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) + KL(q(z|x) ‖ p(z|x))                (5)
            ≥  E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) = ELBO,    because a KL is never negative
"""

import numpy as np

from minigen import log, sum, where
from minigen.dist import choice


class LatentModel:
    """p(z) as (Z,) and p(x | z) as (Z, X): arrays, or tensors to differentiate through."""

    def __init__(self, p_z, p_x_given_z):
        self.p_z, self.p_x_given_z = p_z, p_x_given_z

    def joint(self):
        """p(x, z): (Z, X)."""
        return self.p_z[:, None] * self.p_x_given_z

    def marginal(self):
        """p(x) = Σ_z p(x, z) = Σ_z p(x|z) p(z): (X,). With a continuous z: an intractable ∫ dz."""
        return sum(self.joint(), axis=0)  # eq: vae-marginal

    def posterior(self):
        """p(z | x) = p(x, z) / p(x): (Z, X)."""
        return self.joint() / self.marginal()  # eq: posterior-from-joint

    def likelihood(self):
        """p(x | z) = p(x, z) / p(z), recovered from the joint: (Z, X)."""
        return self.joint() / sum(self.joint(), axis=1, keepdims=True)  # eq: likelihood-from-joint

    def evidence(self):
        """p(x) = p(x|z) p(z) / p(z|x), the same for every z: (Z, X) with equal rows."""
        return self.joint() / self.posterior()  # eq: vae-bayes-evidence

    def log_likelihood(self, counts):
        """log p_θ of a data set in which x occurs counts[x] times: θ* maximises it."""
        return sum(counts * log(self.marginal()))  # eq: vae-mle-goal

    def sample(self, n, rng):
        """n pairs: z ~ p(z), then x ~ p(x | z). Integers (n,) and (n,)."""
        z = rng.choice(len(self.p_z), n, p=np.asarray(self.p_z))
        return z, choice(np.asarray(self.p_x_given_z)[z], rng)


def posterior_integral(p_z_given_x, p_x):
    """Σ_z p(z|x) p(x): this is p(x) again, whatever p(x) is. The slide offers it as a second way to
    compute p(x); it is true but vacuous, since Σ_z p(z|x) = 1."""
    return sum(p_z_given_x * p_x, axis=0)  # eq: vae-posterior-integral


def kl(q, p):
    """D_KL(q ‖ p) = Σ q log(q / p) ≥ 0, over the first axis. 0 log 0 is 0."""
    zero = q == 0
    return sum(q * log(where(zero, 1.0, q) / where(zero, 1.0, p)), axis=0)  # eq: kl-nonnegative


def vi_objective(model, q, x):
    """KL(q(z|x) ‖ p(z|x)), which variational inference minimises over q: the gap of the bound. The
    slide prints the other direction, KL(p ‖ q), which is not the gap."""
    return kl(q, model.posterior()[:, x])  # eq: vi-objective


def elbo(model, q, x):
    """E_q[log p(x|z)] − KL(q ‖ p(z)) for an observed x: the two terms together are the bound."""
    p_x_given_z = where(q == 0, 1.0, model.p_x_given_z[:, x])  # 0 log 0 is 0
    return sum(q * log(p_x_given_z)) - kl(q, model.p_z)


def derivation(model, q, x):
    """The right-hand sides of lines (1) to (5) for the observed x and q(z|x) as (Z,): a list."""
    support = q > 0  # the other z contribute nothing to an expectation over q
    q, p_z, p_x_given_z = q[support], model.p_z[support], model.p_x_given_z[support, x]
    p_x, p_z_given_x = model.marginal()[x], model.posterior()[support, x]

    def E(f):  # the expectation over z ~ q(z | x)
        return sum(q * f)

    line1 = E(log(p_x))  # eq: elbo-step-1-expectation
    line2 = E(log(p_x_given_z * p_z / p_z_given_x))  # eq: elbo-step-2-bayes
    line3 = E(log(p_x_given_z * p_z / p_z_given_x * (q / q)))  # eq: elbo-step-3-multiply
    line4 = E(log(p_x_given_z)) - E(log(q / p_z)) + E(log(q / p_z_given_x))  # eq: elbo-step-4-split
    line5 = E(log(p_x_given_z)) - kl(q, p_z) + kl(q, p_z_given_x)  # eq: elbo-step-5-kl
    return [line1, line2, line3, line4, line5]

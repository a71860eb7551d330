"""The optimum of a GAN's game, on distributions small enough to sum exactly.

p_data and p_g are distributions over finitely many values, given as arrays (X,); so is D.

    V(G, D) = Σ_x p_data(x) log D(x) + p_g(x) log(1 − D(x))
    D*(x)   = p_data(x) / (p_data(x) + p_g(x))

    max_D V(G, D) = V(G, D*) = 2 JSD(p_data ‖ p_g) − log 4        least where p_g = p_data

So the divergence that a GAN minimises is the Jensen–Shannon divergence, not the KL divergence of
maximum likelihood. If the two distributions do not overlap, it is log 2 however far apart they are,
and gives G no signal. The Wasserstein distance, how far probability has to be moved to turn one
into the other, still depends on how far apart they are. (A slide says that WGAN replaces "KL": it
replaces JSD.)
"""

import numpy as np


def value(p_data, p_g, D):
    """V(G, D), both terms: D is the probability that each x is real."""
    return expectation(log(D), p_data) + expectation(log(1 - D), p_g)


def optimal_discriminator(p_data, p_g):
    """D* = argmax_D V(G, D) for every x that occurs: (X,)."""
    return p_data / (p_data + p_g)  # eq: gan-optimal-discriminator


def minimax(V):
    """min_G max_D V for a table of values V: a row for each G, a column for each D."""
    return V.max(axis=1).min()  # eq: gan-minimax


def kl(p, q):
    """D_KL(p ‖ q): infinite if q is zero somewhere p is not."""
    return expectation(log(p), p) - expectation(log(q), p)


def jsd(p, q):
    """½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½ (p + q): between 0 and log 2."""
    m = (p + q) / 2
    return (kl(p, m) + kl(q, m)) / 2


def wasserstein(p, q, x):
    """W₁ between distributions over the points x (X,) in ascending order: the area between their
    cumulative distribution functions."""
    return np.sum(abs(np.cumsum(p - q))[:-1] * np.diff(x))  # eq: wgan-swap


def expectation(f, p):
    """E_{x~p}[f(x)]. Values of probability zero contribute nothing, even where f is infinite."""
    return np.multiply(f, p, where=p > 0, out=np.zeros(p.shape)).sum()


def log(p):
    with np.errstate(divide="ignore"):
        return np.log(p)

"""An explicit density fitted by maximum likelihood: a mixture of K normal distributions.

    p(x) = f(x, W) = Σ_k π_k N(x; μ_k, σ_k²),    W = (log-weights, μ, log σ²)

    W* = argmax_W Π_i p(x⁽ⁱ⁾) = argmax_W Σ_i log p(x⁽ⁱ⁾) = argmax_W Σ_i log f(x⁽ⁱ⁾, W)
"""

import numpy as np

from minigen import exp, log_softmax, logsumexp, prod, sum
from minigen.dist import Categorical, Normal
from minigen.nn import initializers


class Mixture:
    """A density on the real line. The goal of every generative model, on a small scale: learn
    p_model ≈ p_data, then sample x ~ p_model."""

    def __init__(self, K, rng=None):
        self.weight_logits = initializers.parameter(K)
        self.mu = initializers.parameter(K)
        self.logvar = initializers.parameter(K)
        self.init(initializers.generator(rng))

    def init(self, rng):
        """Initialise the components to differ slightly: identical ones would stay identical."""
        initializers.constant(self.weight_logits, 0)
        initializers.normal(self.mu, 1.0, rng)
        initializers.constant(self.logvar, 0)

    def log_f(self, x):
        """log f(x, W) for x of shape (N,): (N,). ValueError for other shapes."""
        if x.ndim != 1:
            raise ValueError(f"Mixture: points are {x.shape}, expected (N,)")
        parts = Normal(self.mu, self.logvar).log_prob(x[:, None])  # (N, K)
        return logsumexp(log_softmax(self.weight_logits) + parts, axis=1)

    def f(self, x):
        """The density f(x, W): (N,)."""
        return exp(self.log_f(x))  # eq: explicit-density

    def likelihood(self, x):
        """Π_i p(x⁽ⁱ⁾), the probability density of the whole data set. It underflows to 0 for more
        than a few hundred points, which is why its logarithm is maximised instead."""
        return prod(self.f(x))  # eq: mle-product

    def log_likelihood(self, x):
        """Σ_i log p(x⁽ⁱ⁾)."""
        return sum(self.log_f(x))  # eq: mle-log-sum

    def loss(self, x):
        """−Σ_i log f(x⁽ⁱ⁾, W) / N. Gradient descent on it moves p_model towards p_data."""
        return -sum(self.log_f(x)) / len(x)  # eq: mle-parametric

    def log_prob(self, x):
        """log P_θ(x) of new data: the score by which a model with an explicit density is judged."""
        return self.log_f(x)  # eq: model-likelihood-eval

    def sample(self, n, rng):
        """n samples x ~ P_θ(x): first the component, then the point. NumPy array (n,)."""
        k = Categorical(self.weight_logits[None] * np.ones((n, 1))).sample(rng).numpy()
        mu, sigma = self.mu.numpy()[k], np.exp(0.5 * self.logvar.numpy())[k]
        return mu + sigma * rng.standard_normal(n)  # eq: model-sample, generative-goal

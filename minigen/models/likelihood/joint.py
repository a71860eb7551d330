"""Three models of the same two variables, from one table.

For an image x and a label y with joint distribution p(x, y):

    discriminative           p(y | x),  Σ_y p(y | x) = 1 for every x: it cannot reject an x
    generative               p(x),      Σ_x p(x) = 1: images compete for probability
    conditional generative   p(x | y),  Σ_x p(x | y) = 1 for every y

    Bayes' rule connects them:  p(x | y) = p(y | x) p(x) / p(y)
"""

import numpy as np


class Joint:
    """p(x, y) for x in 0…X−1 and y in 0…Y−1, as an (X, Y) table of probabilities."""

    def __init__(self, table):
        self.p_xy = np.asarray(table, np.float64)
        if self.p_xy.ndim != 2 or (self.p_xy < 0).any() or not np.isclose(self.p_xy.sum(), 1):
            raise ValueError("Joint: expected an (X, Y) table of probabilities that sum to 1, got "
                             f"shape {self.p_xy.shape} with sum {self.p_xy.sum():g}, the least "
                             f"of them {self.p_xy.min(initial=1):g}")
        if not (self.p_xy.sum(0).all() and self.p_xy.sum(1).all()):
            raise ValueError("Joint: a row or column of zeros: nothing is conditional on what "
                             "never occurs, leave it out")

    def generative(self):
        """p(x): (X,)."""
        return self.p_xy.sum(axis=1)  # eq: generative-model

    def discriminative(self):
        """p(y | x): (X, Y), each row a distribution over labels, however unlikely its x."""
        return self.p_xy / self.p_xy.sum(axis=1, keepdims=True)  # eq: discriminative-model

    def conditional(self):
        """p(x | y): (X, Y), each column a distribution over images."""
        return self.p_xy / self.p_xy.sum(axis=0)  # eq: conditional-generative-model

    def bayes(self):
        """p(x | y) from the discriminative and the generative model: (X, Y)."""
        p_y = self.p_xy.sum(axis=0)
        return self.discriminative() * self.generative()[:, None] / p_y  # eq: bayes-three-models

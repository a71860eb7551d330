"""LeNet: two convolutions, two poolings and two linear layers classify a digit (LeCun et al. 1998).

    h = f(x)                        p(y | x) = softmax(W h + b)
    loss: −log p(y | x), averaged over a batch

The 64 numbers of f(x) are the features of the Fréchet distance; the Inception Score is computed
from p(y | x): see `minigen.ruler`.

Differs from the paper: max-pooling and ReLU, which came later; 16 and 32 channels in place of 6 and
16; one linear layer fewer; softmax in place of distances to drawn digits.
"""

from minigen import cross_entropy, max_pool2d, nn, relu, softmax

CHANNELS = (16, 32)
FEATURES = 64


class LeNet:
    """Images (N, 1, 28, 28) in [0, 1] to logits (N, classes)."""

    def __init__(self, classes=10, rng=None):
        K1, K2 = CHANNELS
        self.body = nn.Sequential(
            nn.Conv2d(1, K1, 5, rng=rng), relu, lambda h: max_pool2d(h, 2),     # (N, K1, 12, 12)
            nn.Conv2d(K1, K2, 5, rng=rng), relu, lambda h: max_pool2d(h, 2),    # (N, K2, 4, 4)
            lambda h: h.flatten(1),
            nn.Linear(K2 * 4 * 4, FEATURES, rng=rng), relu,
        )
        self.head = nn.Linear(FEATURES, classes, rng=rng)

    def features(self, x):
        """h = f(x), the input of the last layer: (N, FEATURES)."""
        if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
            raise ValueError(f"LeNet: images are {x.shape}, expected (N, 1, 28, 28)")
        return self.body(x)

    def __call__(self, x):
        """Logits of p(y | x): (N, classes)."""
        return self.head(self.features(x))

    def probabilities(self, x):
        """p(y | x): (N, classes), rows sum to one."""
        return softmax(self(x), axis=1)

    def loss(self, x, y):
        """The mean of −log p(y | x) over a batch with integer labels y (N,)."""
        return cross_entropy(self(x), y)

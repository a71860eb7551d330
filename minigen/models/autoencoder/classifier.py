"""A downstream task for an encoder: discard the decoder and train a classifier c on the codes.

    x ↦ y:  p(y | x) = softmax(c(f(x)))        loss: −log p(y | x)

f starts from the autoencoder's weights, learnt without labels, and is fine-tuned together with c.
"""

from minigen import cross_entropy, nn


class Classifier:
    """`encoder` maps images (N, C, H, W) to codes (N, d_z)."""

    def __init__(self, encoder, d_z, classes, rng=None):
        self.encoder = encoder
        self.head = nn.Linear(d_z, classes, rng=rng)

    def __call__(self, x):
        """Logits of p(y | x): (N, classes)."""
        return self.head(self.encoder(x))  # eq: ae-downstream

    def predict(self, x):
        """The most probable label of each image: integers (N,), an untracked tensor."""
        return self(x).argmax(axis=1)  # eq: supervised-map

    def loss(self, x, y):
        """The mean of −log p(y | x) over a batch with integer labels y (N,)."""
        return cross_entropy(self(x), y)

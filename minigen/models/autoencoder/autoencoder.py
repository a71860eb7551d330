"""The autoencoder: compress an image into a short code and reconstruct it.

    z = f(x; w₁)        x̂ = g(z; w₂)
    min_{w₁,w₂} Σ_i ‖x_i − g(f(x_i; w₁); w₂)‖²

The earliest form has one hidden layer: x̂ = g(W₂ σ(W₁ x + b₁) + b₂). An autoencoder defines no
distribution over codes, so it cannot be sampled from: the variational autoencoder adds this.
"""

import math

from minigen import mse_loss, nn, sigmoid


class Autoencoder:
    """`encoder` maps images (N, C, H, W) in [0, 1] to codes (N, d_z), `decoder` maps codes back."""

    def __init__(self, encoder, decoder):
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x):
        """z = f(x): (N, d_z)."""
        return self.encoder(x)

    def decode(self, z):
        """x = g(z): (N, C, H, W)."""
        return self.decoder(z)

    def reconstruct(self, x):
        """x̂ = g(f(x))."""
        return self.decode(self.encode(x))  # eq: encoder-decoder-maps

    def loss(self, x):
        """The squared error between x and x̂, summed over pixels and averaged over the batch."""
        return mse_loss(self.reconstruct(x), x, reduction="sum") / len(x)  # eq: ae-loss


class Layer:
    """act(W x + b): a fully connected layer on the flattened input, with an output of `shape`."""

    def __init__(self, d_in, shape, act, rng=None):
        self.linear = nn.Linear(d_in, math.prod(shape), rng=rng)
        self.shape, self.act = shape, act

    def __call__(self, x):
        """(N, ...) → (N, *shape)."""
        y = self.act(self.linear(x.reshape(len(x), -1)))  # eq: ae-single-hidden
        return y.reshape(len(x), *self.shape)


def single_hidden(shape, d_z, rng=None):
    """The autoencoder with one hidden layer, for images of `shape` (C, H, W)."""
    return Autoencoder(encoder=Layer(math.prod(shape), (d_z,), sigmoid, rng),
                       decoder=Layer(d_z, shape, sigmoid, rng))

"""The conditional PixelCNN (van den Oord et al. 2016, "Conditional image generation with PixelCNN
decoders"): every gated layer is conditioned on a label y.

    p_θ(x | y) = Π_t p_θ(x_t | x_<t, y)        each gate: tanh(W_f ∗ x + V_f h) ⊙ σ(W_g ∗ x + V_g h)

h is the label as a one-hot vector; V h is the same at every position. Everything else is as in
gated_pixelcnn.py.
"""

from minigen import nn, one_hot
from minigen.models.autoregressive.gated_pixelcnn import gated_pixelcnn


class LabelConditionedConv:
    """A layer's convolution W with its V added: (N, C, H, W) and labels (N,) → W ∗ x + V h."""

    def __init__(self, conv, classes, rng=None):
        self.conv, self.classes = conv, classes
        self.V = nn.Linear(classes, conv.weight.shape[0], bias=False, rng=rng)

    def __call__(self, x, at, y):
        h = one_hot(y, self.classes, x.dtype)
        return self.conv(x, at) + self.V(h)[:, :, None, None]


def conditional(shape, classes, levels=2, h=24, depth=5, rng=None):
    """A class-conditional Gated PixelCNN: a `PixelModel` whose methods take labels y, integers
    (N,), after their other positional arguments: ``loss(x, y)``, ``sample(n, rng, y)``."""
    model = gated_pixelcnn(shape, levels, h, depth, rng)
    for layer in model.net.layers:
        layer.vertical = LabelConditionedConv(layer.vertical, classes, rng)
        layer.horizontal = LabelConditionedConv(layer.horizontal, classes, rng)
    return model

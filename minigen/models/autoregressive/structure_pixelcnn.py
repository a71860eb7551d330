"""The text- and structure-conditional PixelCNN (Reed et al. 2016, "Generating interpretable images
with controllable structure"): a caption says what is in the image, a map where.

    t = f(caption)                                  the text's code (N, d)
    s = conv(relu(A ∗ M + B t))                     M_k: 1 where the k-th kind of thing lies, 0
                                                    elsewhere; B t is the same at every place
    p_θ(x | caption, M) = Π_t p_θ(x_t | x_<t, s)    each gate: tanh(W_f ∗ x + V_f ∗ s) ⊙
                                                               σ(W_g ∗ x + V_g ∗ s)

V ∗ s is a 1×1 convolution: unlike a label (conditional_pixelcnn.py), s is another at every place,
and is seen there whole, what lies ahead as well. All else is gated_pixelcnn.py's.

Differs from the paper: f is not learnt here, but given (by demos/structure_pixelcnn.py, from CLIP),
there a recurrent network over letters; s is made by four residual convolutions, of which each looks
twice as far as the one before, at the image's full size, there at lower ones.
"""

from minigen import nn, one_hot, relu, transpose
from minigen.models.autoregressive.gated_pixelcnn import gated_pixelcnn
from minigen.tensor import tensor


class Seeing:
    """A convolution W of a layer, and its V: (N, C, H, W) and s (N, d, H, W) → W ∗ x + V ∗ s."""

    def __init__(self, conv, d, rng=None):
        self.conv, self.V = conv, nn.Conv2d(d, conv.weight.shape[0], 1, bias=False, rng=rng)

    def __call__(self, x, at, s):
        if at is not None:
            s = s[:, :, at.i:at.i + 1, at.j:at.j + x.shape[3]]
        return self.conv(x, at) + self.V(s)


class Structure:
    """s of codes t (N, d_t) and of maps of the kind of thing at each place, integers (N, 1, H, W)
    below `kinds`: (N, d, H, W)."""

    def __init__(self, d_t, kinds, d, rng=None):
        self.kinds = kinds
        self.A, self.B = nn.Conv2d(kinds, d, 1, rng=rng), nn.Linear(d_t, d, rng=rng)
        self.blocks = [nn.Conv2d(d, d, 3, padding=far, dilation=far, rng=rng)
                       for far in (1, 2, 4, 8)]

    def __call__(self, t, kind):
        t = tensor(t)
        M = transpose(one_hot(kind[:, 0], self.kinds, t.dtype), (0, 3, 1, 2))
        s = relu(self.A(M) + self.B(t)[:, :, None, None])
        for conv in self.blocks:
            s = s + relu(conv(s))
        return s


class StructurePixelCNN:
    """A GatedPixelCNN `net` whose layers see s."""

    def __init__(self, net, structure):
        self.net, self.structure = net, structure

    def __call__(self, x, t, kind, at=None):
        if at is None:
            return self.net(x, self.structure(t, kind))
        if self not in at.kept:  # of an image that is drawn place by place, once
            at.kept[self] = self.structure(t, kind)
        return self.net(x, at.kept[self], at=at)


def structure_pixelcnn(shape, d_t, kinds, levels=2, h=24, depth=5, d=48, rng=None):
    """A `PixelModel` for images of `shape` (C, H, W) whose methods take, after x and rng, or n and
    rng, the codes of captions (N, d_t) and maps, integers (N, 1, H, W) below `kinds`:
    ``loss(x, t, kind)``, ``sample(n, rng, t, kind)``."""
    model = gated_pixelcnn(shape, levels, h, depth, rng)
    for layer in model.net.layers:
        layer.vertical = Seeing(layer.vertical, d, rng)
        layer.horizontal = Seeing(layer.horizontal, d, rng)
    model.net = StructurePixelCNN(model.net, Structure(d_t, kinds, d, rng))
    return model

"""The text- and structure-conditional PixelCNN (Reed et al. 2016, "Generating interpretable images
with controllable structure"): a caption says what is in the image, a map where.

    h_1 … h_L = f(caption)                          codes of its words (N, L, d_h), 0 for none
    s = conv(relu(A ∗ M + B mean_l h_l))            M_k: 1 where the k-th kind of thing lies, 0
                                                    elsewhere; the mean is the same at every place
    s ← s + attention(s, h)                         each place looks at the words
    p_θ(x | caption, M) = Π_t p_θ(x_t | x_<t, s)    each gate: tanh(W_f ∗ x + V_f ∗ s) ⊙
                                                               σ(W_g ∗ x + V_g ∗ s)

V ∗ s is a 1×1 convolution: unlike a label (conditional_pixelcnn.py), s is another at every place,
and is seen there whole, what lies ahead as well. All else is gated_pixelcnn.py's.

Differs from the paper: f is not learnt here, but given (by demos/structure_pixelcnn.py, from CLIP),
there a recurrent network over letters; the paper has the mean alone, with which, after 2,100 steps
of 16 scenes, objects were where the map has them, but 23% of the colour that the caption says; s is
made by four residual convolutions, of which each looks twice as far as the one before, at the
image's full size, there at lower ones.
"""

from minigen import mean, nn, one_hot, relu, swapaxes, transpose
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
    """s of words h (N, L, d_h) and of maps of the kind of thing at each place, integers below
    `kinds`, (N, 1, H, W): (N, d, H, W)."""

    def __init__(self, d_h, kinds, d, rng=None):
        self.kinds = kinds
        self.A, self.B = nn.Conv2d(kinds, d, 1, rng=rng), nn.Linear(d_h, d, rng=rng)
        self.blocks = [nn.Conv2d(d, d, 3, padding=far, dilation=far, rng=rng)
                       for far in (1, 2, 4, 8)]
        self.norm, self.words = nn.GroupNorm(8, d), nn.Linear(d_h, d, rng=rng)
        self.attention = nn.MultiheadAttention(d, 4, rng=rng)

    def __call__(self, h, kind):
        h = tensor(h)
        M = transpose(one_hot(kind[:, 0], self.kinds, h.dtype), (0, 3, 1, 2))
        s = relu(self.A(M) + self.B(mean(h, 1))[:, :, None, None])
        for conv in self.blocks:
            s = s + relu(conv(s))
        q, h = swapaxes(self.norm(s).flatten(2), 1, 2), self.words(h)  # (N, HW, d), (N, L, d)
        return s + swapaxes(self.attention(q, h, h), 1, 2).reshape(s.shape)


class StructurePixelCNN:
    """A GatedPixelCNN `net` whose layers see s."""

    def __init__(self, net, structure):
        self.net, self.structure = net, structure

    def __call__(self, x, h, kind, at=None):
        if at is None:
            return self.net(x, self.structure(h, kind))
        if self not in at.kept:  # of an image that is drawn place by place, once
            at.kept[self] = self.structure(h, kind)
        return self.net(x, at.kept[self], at=at)


def structure_pixelcnn(shape, d_h, kinds, levels=2, h=24, depth=5, d=48, rng=None):
    """A `PixelModel` for images of `shape` (C, H, W) whose methods take, after x and rng, or n and
    rng, the codes of words (N, L, d_h) and maps, integers (N, 1, H, W) below `kinds`:
    ``loss(x, h, kind)``, ``sample(n, rng, h, kind)``."""
    model = gated_pixelcnn(shape, levels, h, depth, rng)
    for layer in model.net.layers:
        layer.vertical = Seeing(layer.vertical, d, rng)
        layer.horizontal = Seeing(layer.horizontal, d, rng)
    model.net = StructurePixelCNN(model.net, Structure(d_h, kinds, d, rng))
    return model

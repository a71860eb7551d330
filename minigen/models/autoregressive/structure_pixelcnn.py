"""The text- and structure-conditional PixelCNN (Reed et al. 2016, "Generating interpretable images
with controllable structure"): a caption says what is in the image, a map says where.

    h_1 … h_L = f(caption)                          word embeddings (N, L, d_h), 0 for padding
    s = conv(relu(A ∗ M + B mean_l h_l))            M_k: 1 where the map has kind k, else 0;
                                                    the mean is the same at every position
    s ← s + attention(s, h)                         each position attends to the words
    p_θ(x | caption, M) = Π_t p_θ(x_t | x_<t, s)    each gate: tanh(W_f ∗ x + V_f ∗ s) ⊙
                                                               σ(W_g ∗ x + V_g ∗ s)

V ∗ s is a 1×1 convolution: unlike a label (conditional_pixelcnn.py), s differs from position to
position, and no mask hides any of it, so each position also gets to know what lies ahead.
Everything else is as in gated_pixelcnn.py.

Differs from the paper: f is not learnt here but given (from CLIP, in demos/structure_pixelcnn.py),
in the paper it is a recurrent network over characters; the paper uses the mean alone, without
attention, with which, after 2,100 steps on 16 scenes each, objects were where the map puts them,
but only 23% had the caption's colour; s is computed by four residual convolutions, each with twice
the dilation of the one before, at full resolution, in the paper at lower resolutions.
"""

from minigen import mean, nn, one_hot, relu, transpose
from minigen.models.autoregressive.gated_pixelcnn import gated_pixelcnn
from minigen.tensor import tensor


class SpatiallyConditionedConv:
    """A layer's convolution W with its V added: (N, C, H, W) and s (N, d, H, W) → W ∗ x + V ∗ s."""

    def __init__(self, conv, d, rng=None):
        self.conv, self.V = conv, nn.Conv2d(d, conv.weight.shape[0], 1, bias=False, rng=rng)

    def __call__(self, x, at, s):
        if at is not None:
            s = s[:, :, at.i:at.i + 1, at.j:at.j + x.shape[3]]
        return self.conv(x, at) + self.V(s)


class StructureEncoder:
    """s (N, d, H, W), from word embeddings h (N, L, d_h) and from maps of the kind of object at
    each position, integers below `kinds`, (N, 1, H, W)."""

    def __init__(self, d_h, kinds, d, rng=None):
        self.kinds = kinds
        self.A, self.B = nn.Conv2d(kinds, d, 1, rng=rng), nn.Linear(d_h, d, rng=rng)
        self.blocks = [nn.Conv2d(d, d, 3, padding=dilation, dilation=dilation, rng=rng)
                       for dilation in (1, 2, 4, 8)]
        self.norm, self.word_proj = nn.GroupNorm(8, d), nn.Linear(d_h, d, rng=rng)
        self.attention = nn.MultiheadAttention(d, 4, rng=rng)

    def __call__(self, h, kind):
        h = tensor(h)
        M = transpose(one_hot(kind[:, 0], self.kinds, h.dtype), (0, 3, 1, 2))
        s = relu(self.A(M) + self.B(mean(h, 1))[:, :, None, None])
        for conv in self.blocks:
            s = s + relu(conv(s))
        q, h = nn.positions(self.norm(s)), self.word_proj(h)  # (N, HW, d), (N, L, d)
        return s + nn.as_maps(self.attention(q, h, h), s.shape)


class StructurePixelCNN:
    """A GatedPixelCNN `net` whose layers are conditioned on s."""

    def __init__(self, net, structure):
        self.net, self.structure = net, structure

    def __call__(self, x, h, kind, at=None):
        if at is None:
            return self.net(x, self.structure(h, kind))
        if self not in at.cache:  # once per image, when it is sampled pixel by pixel
            at.cache[self] = self.structure(h, kind)
        return self.net(x, at.cache[self], at=at)


def structure_pixelcnn(shape, d_h, kinds, levels=2, h=24, depth=5, d=48, rng=None):
    """A `PixelModel` for images of `shape` (C, H, W) whose methods take, after their other
    positional arguments, word embeddings h (N, L, d_h) and maps of integers below `kinds`, kind
    (N, 1, H, W): ``loss(x, h, kind)``, ``sample(n, rng, h, kind)``."""
    model = gated_pixelcnn(shape, levels, h, depth, rng)
    for layer in model.net.layers:
        layer.vertical = SpatiallyConditionedConv(layer.vertical, d, rng)
        layer.horizontal = SpatiallyConditionedConv(layer.horizontal, d, rng)
    model.net = StructurePixelCNN(model.net, StructureEncoder(d_h, kinds, d, rng))
    return model

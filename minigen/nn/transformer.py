"""A pre-norm transformer block (Vaswani et al. 2017; the norms first as in Radford et al. 2019),
and images as sequences of positions."""

from minigen.nn.layers import LayerNorm, Linear, MultiheadAttention, Sequential
from minigen.ops import gelu, swapaxes


class TransformerBlock:
    """h + attention(LN(h)), then h + MLP(LN(h)): (N, T, D) → the same shape. `attn_mask` and
    `is_causal` determine which positions attend to which, as in `MultiheadAttention`."""

    def __init__(self, D, heads, rng=None):
        self.norm_1, self.attention = LayerNorm(D), MultiheadAttention(D, heads, rng=rng)
        self.norm_2, self.mlp = LayerNorm(D), mlp(D, rng)

    def __call__(self, h, attn_mask=None, is_causal=False):
        a = self.norm_1(h)
        h = h + self.attention(a, a, a, attn_mask, is_causal)
        return h + self.mlp(self.norm_2(h))

    def forward_cached(self, h, cache, is_causal=True):
        """The block applied to positions h (N, T, D) that follow those in the `cache`, and the
        cache for the positions that follow them, as in `MultiheadAttention.forward_cached`."""
        a, cache = self.attention.forward_cached(self.norm_1(h), cache, is_causal)
        h = h + a
        return h + self.mlp(self.norm_2(h)), cache


def mlp(D, rng=None):
    """Two linear layers with GELU, 4 D numbers between them: (..., D) → the same shape."""
    return Sequential(Linear(D, 4 * D, rng=rng), gelu, Linear(4 * D, D, rng=rng))


def positions(x):
    """The vectors of C numbers at the positions of images x (N, C, H, W): (N, HW, C)."""
    return swapaxes(x.flatten(2), 1, 2)


def as_maps(p, shape):
    """Images of `shape` (N, C, H, W) from the vectors p (N, HW, C) at their positions."""
    return swapaxes(p, 1, 2).reshape(shape)

"""LLaMA-Adapter: a frozen language model learns a task from a few prompt vectors (Zhang et al.
2023), and version 2, which also adapts its norms and linear layers (Gao et al. 2023).

In each of the last L blocks K learnt vectors P stand before the positions, as keys and values:

    S_P = q kᵀ(P) / √d,  S = q kᵀ / √d
    o = tanh(g) softmax(S_P) v(P) + softmax(S) v        g: a number for each head, 0 at first

The two softmaxes are separate, so while g = 0 the positions attend to one another exactly as in the
frozen model: training begins with what it knows, and lets in the prompts as far as they help.

Version 2 spreads further parameters over all blocks. It trains the norms, and gives each linear
layer a bias b and a scale s for each output,

    y = s ⊙ (W x + b)        b = 0, s = 1 at first

Differs from the papers: images reach the language model as LLaVA's prefix, in every block, not
added to the prompts or (version 2) only in the first blocks; layers have a frozen bias already.
"""

from minigen import nn, scaled_dot_product_attention, split, swapaxes, tanh
from minigen.models.multimodal.lora import SelfAttention, frozen, replace


class ZeroInitAttention(SelfAttention):
    """A frozen attention, and K prompts P (K, D) with a gate g for each head."""

    def __init__(self, attention, K, rng=None):
        super().__init__(attention)
        self.prompt = nn.Embedding(K, attention.out_proj.weight.shape[0], rng)
        self.gate = nn.Parameter(self.num_heads, 1, 1)

    def _attend(self, q, k, v, attn_mask=None, is_causal=False):
        _, k_P, v_P = split(self._in_proj(self.prompt.weight[None]), 3, -1)
        q_heads, k, v, k_P, v_P = map(self._heads, (q, k, v, k_P, v_P))
        o = scaled_dot_product_attention(q_heads, k, v, attn_mask, is_causal=is_causal)
        prompted = scaled_dot_product_attention(q_heads, k_P, v_P)
        o = tanh(self.gate.weight) * prompted + o  # eq: zero-init-attention
        return self.out_proj(swapaxes(o, 1, 2).reshape(q.shape))


class ScaledLinear:
    """A frozen `layer` with a trained bias and scale: (..., k) → (..., d)."""

    def __init__(self, layer):
        d = len(layer.weight)
        self.layer, self.b, self.s = layer, nn.Parameter(d), nn.Parameter(d, value=1.0)

    def __call__(self, x):
        return self.s.weight * (self.layer(x) + self.b.weight)  # eq: adapter-bias-scale


def llama_adapter(lm, K=10, L=2, rng=None):
    """A frozen copy of the language model `lm`, with K prompts and gates in its last L blocks."""
    lm = frozen(lm)
    if not 1 <= L <= len(lm.blocks):
        raise ValueError(f"llama_adapter: prompts for the last {L} of {len(lm.blocks)} blocks")
    for block in lm.blocks[-L:]:
        block.attention = ZeroInitAttention(block.attention, K, rng)
    return lm


def llama_adapter_v2(lm, K=10, L=2, rng=None):
    """`llama_adapter`, version 2."""
    lm = llama_adapter(lm, K, L, rng)
    replace(lm, ScaledLinear)
    for norm in (*(norm for block in lm.blocks for norm in (block.norm_1, block.norm_2)), lm.norm):
        norm.weight.requires_grad = norm.bias.requires_grad = True
    return lm

"""alignDRAW (Mansimov et al. 2016): DRAW (draw.py) given a caption y. At each step the decoder,
here called gen, attends to the words that matter for what it draws next.

    h_i^lang = [h→_i, h←_i]                          two LSTMs over the words, one in each direction
    α_i^t = exp(e_i) / Σ_k exp(e_k),   e_i = vᵀ tanh(U h_i^lang + W h_{t−1}^gen + b)
    s_t = align(h_{t−1}^gen, h^lang) = Σ_i α_i^t h_i^lang
    h_t^gen = LSTM^gen(h_{t−1}^gen, [z_t, s_t])

    P(z_t | z_{<t}, y) = N(μ, diag σ²),  μ = tanh(W_μ h_{t−1}^gen),  σ = exp(tanh(W_σ h_{t−1}^gen))

    log P(x | y) ≥ E_Q[log P(x | y, z) − Σ_t KL(Q(z_t | x, y, z_{<t}) ‖ P(z_t | z_{<t}, y))]

The prior of z_t depends on the caption and on what has been drawn so far; the first is N(0, I),
because the state is 0 at first.

Differs from the paper: fewer steps and units; images are not sharpened by a GAN afterwards.
"""

import math

from minigen import concatenate, expand_dims, nn, softmax, stack, sum, tanh, where
from minigen.dist import Normal
from minigen.models.vae.draw import DRAW
from minigen.tensor import as_array


class Language:
    """A bidirectional LSTM: words y, integers (n, L), padded with 0 at the end, to h^lang
    (n, L, 2 d), 0 for padding, and which words are not padding, booleans (n, L)."""

    def __init__(self, words, d, rng=None):
        self.embed = nn.Embedding(words, d, rng)
        self.ahead, self.back = nn.LSTMCell(d, d, rng), nn.LSTMCell(d, d, rng)

    def __call__(self, y):
        """ValueError for another shape and for a caption without words."""
        mask = as_array(y) != 0
        if mask.ndim != 2 or not mask.any(1).all():
            raise ValueError(f"align_draw: captions are {mask.shape}, expected (n, L), each with "
                             "a word at least")
        e, L = self.embed(y), mask.shape[1]
        ahead = self.run(self.ahead, e, mask, range(L))
        back = self.run(self.back, e, mask, range(L - 1, -1, -1))
        h = [concatenate([ahead[i], back[i]], axis=1) for i in range(L)]  # eq: align-draw-language
        return stack(h, axis=1), mask

    def run(self, cell, e, mask, order):
        """The states at all positions, read in the given order: {i: (n, d)}."""
        state, states = cell.start(len(e)), {}
        for i in order:
            at = mask[:, i:i + 1].astype(e.dtype)
            state = [at * a for a in cell(e[:, i], state)]  # padding leaves 0, the start's state
            states[i] = state[0]
        return states


class Align:
    """Attention from the decoder's state h^gen (n, d_h) to h^lang (n, L, 2 d)."""

    def __init__(self, d, d_h, d_a, rng=None):
        self.U, self.W = nn.Linear(2 * d, d_a, rng=rng), nn.Linear(d_h, d_a, bias=False, rng=rng)
        self.v = nn.Linear(d_a, 1, bias=False, rng=rng)

    def weights(self, h_gen, h_lang, mask):
        """α (n, L), 0 for padding."""
        e = self.v(tanh(self.U(h_lang) + expand_dims(self.W(h_gen), 1)))  # eq: align-draw-attention
        return softmax(where(mask, e[..., 0], -math.inf), axis=1)  # eq: align-draw-attention

    def __call__(self, h_gen, h_lang, mask):
        """s_t (n, 2 d)."""
        alpha = expand_dims(self.weights(h_gen, h_lang, mask), -1)
        return sum(alpha * h_lang, 1)  # eq: align-draw-context


class AlignDRAW(DRAW):
    """A DRAW for images of `shape` (C, H, W) and captions of integers below `words`. Its methods
    take what `language` returns for captions after their other arguments:
    ``loss(x, rng, *model.language(y))``, ``sample(n, rng, *model.language(y))``.

    d, d_a: the sizes of the states of the LSTMs over the words and of the attention's layer
    """

    def __init__(self, shape, words, T=6, d_z=16, d_h=192, N_read=8, N_write=10, d=32, d_a=32,
                 rng=None):
        self.W_mu, self.W_sigma = (nn.Linear(d_h, d_z, bias=False, rng=rng) for _ in range(2))
        self.align = Align(d, d_h, d_a, rng)
        super().__init__(shape, T, d_z, d_h, N_read, N_write, 2 * d, rng)
        self.language = Language(words, d, rng)

    def prior(self, h):
        """P(z_t | z_{<t}, y) for the decoder's state h (n, d_h)."""
        mu, log_sigma = tanh(self.W_mu(h)), tanh(self.W_sigma(h))  # eq: align-draw-prior
        return Normal(mu, 2 * log_sigma)  # eq: align-draw-prior

    def inputs(self, z, h, h_lang, mask):
        """[z_t, s_t]."""
        return concatenate([z, self.align(h, h_lang, mask)], axis=1)

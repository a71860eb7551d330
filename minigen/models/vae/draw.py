"""DRAW (Gregor et al. 2015): a VAE that draws an image in T steps on a canvas c. At each step it
looks at one patch of the image and changes one patch of the canvas.

    x̂_t = x − σ(c_{t−1})                                 what is still missing
    r_t = read(x, x̂_t, h_{t−1}^dec)
    h_t^enc = LSTM^enc(h_{t−1}^enc, [r_t, h_{t−1}^dec])
    q(z_t | x, z_{<t}) = N(μ_t, diag σ_t²)               (μ_t, log σ_t²) = W h_t^enc
    h_t^dec = LSTM^dec(h_{t−1}^dec, z_t)
    c_t = c_{t−1} + write(h_t^dec)

    p(x | z) = Bernoulli(σ(c_T)),   z = z_1, …, z_T ~ N(0, I)
    log p(x) ≥ E_q[log p(x | z) − Σ_t KL(q(z_t | x, z_{<t}) ‖ p(z_t))]

read and write are those of glimpse.py: each takes a patch of N×N values wherever h^dec says.

Differs from the paper: fewer steps and units; only the canvas has a learnt initial value, and the
states start at 0.
"""

from minigen import concatenate, expand_dims, mean, nn, no_grad, sigmoid, split, sum, tensor
from minigen.dist import Bernoulli, Normal, kl, per_image
from minigen.models.vae.glimpse import Read, Write
from minigen.tensor import xp


class DRAW:
    """A model of images of `shape` (C, H, W) with values in [0, 1].

    T: the number of steps; d_z, d_h: the sizes of z_t and of both LSTMs' states
    N_read, N_write: the sizes of the patches
    d_s: how many numbers `inputs` gives the decoder besides z_t

    Further arguments of its methods, `given`, are for `inputs`: see align_draw.py.
    """

    def __init__(self, shape, T=6, d_z=16, d_h=192, N_read=6, N_write=8, d_s=0, rng=None):
        self.T, self.d_z = T, d_z
        self.read, self.write = Read(shape, N_read, d_h, rng), Write(shape, N_write, d_h, rng)
        self.encoder = nn.LSTMCell(2 * shape[0] * N_read**2 + d_h, d_h, rng)
        self.posterior = nn.Linear(d_h, 2 * d_z, rng=rng)
        self.decoder = nn.LSTMCell(d_z + d_s, d_h, rng)
        self.c_0 = nn.Parameter(*shape, value=-3)  # almost black

    def start(self, n):
        """c_0 for n images, and both networks' states."""
        return expand_dims(self.c_0.weight, 0), self.encoder.start(n), self.decoder.start(n)

    def prior(self, h):
        """p(z_t | z_{<t}) for the decoder's state h (n, d_h): N(0, I), whatever the state."""
        zeros = tensor(xp(h.data).zeros((len(h), self.d_z), h.dtype))
        return Normal(zeros, zeros)

    def inputs(self, z, h):
        """The decoder's inputs, for z_t (n, d_z) and its state h (n, d_h): z_t alone."""
        return z

    def step(self, c, dec, z, *given):
        """The canvas and the decoder's state after a step with z_t (n, d_z)."""
        dec = self.decoder(self.inputs(z, dec[0], *given), dec)
        c = c + self.write(dec[0])  # eq: draw-canvas
        return c, dec

    def infer(self, x, rng, *given):
        """For t = 1 … T: q(z_t | x, z_{<t}), p(z_t | z_{<t}), and the canvas c_t for a z_t ~ q."""
        x, (c, enc, dec) = tensor(x), self.start(len(x))
        for _ in range(self.T):
            x_hat = x - sigmoid(c)  # eq: draw-error-image
            r = self.read(x, x_hat, dec[0])
            seen = concatenate([r, dec[0]], axis=1)  # eq: draw-encoder
            enc = self.encoder(seen, enc)
            mu, logvar = split(self.posterior(enc[0]), 2, axis=1)
            q = Normal(mu, logvar)  # eq: draw-posterior
            p = self.prior(dec[0])
            c, dec = self.step(c, dec, q.sample(rng), *given)
            yield q, p, c

    def elbo(self, x, rng, *given):
        """The bound for each of n images x (n, C, H, W), and its two parts, the reconstruction term
        and the sum of all KL, all (n,). ValueError for images of another shape."""
        shape = self.c_0.weight.shape
        if x.shape[1:] != shape:
            raise ValueError(f"DRAW: images are {x.shape}, expected (n, "
                             f"{', '.join(map(str, shape))})")
        total = 0
        for q, p, c in self.infer(x, rng, *given):  # noqa: B007
            total = total + sum(kl(q, p), 1)  # eq: draw-bound
        reconstruction = per_image(Bernoulli(c).log_prob(x))
        return reconstruction - total, reconstruction, total  # eq: draw-bound

    def loss(self, x, rng, *given):
        """−ELBO, averaged over a batch, and its parts, all scalars."""
        elbo, reconstruction, total = self.elbo(x, rng, *given)
        return -mean(elbo), {"reconstruction": -mean(reconstruction), "kl": mean(total)}

    def sample(self, n, rng, *given):
        """n samples, the means of p(x | z), untracked: (n, C, H, W)."""
        return self.trace(n, rng, *given)[0][-1]

    def trace(self, n, rng, *given):
        """How n samples are drawn, untracked: σ(c_1) … σ(c_T), T images (n, C, H, W), the last of
        which are the samples, and the T states h_{t−1}^dec (n, d_h) that led to them."""
        with no_grad():
            (c, _, dec), images, states = self.start(n), [], []
            for _ in range(self.T):
                states.append(dec[0])
                z = self.prior(dec[0]).sample(rng)  # eq: draw-generate
                c, dec = self.step(c, dec, z, *given)
                images.append(sigmoid(c))  # eq: draw-generate
        return images, states

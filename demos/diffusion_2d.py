"""Diffusion in the plane, where the data distribution is known and what is learnt can be checked.

    python demos/diffusion_2d.py                               five normal distributions on a ring

samples.png, each row from noise to data: the exact densities; samples by an exact network; by the
learnt one; by the learnt one without added noise (DDIM). scores.png: the directions in which both
networks point. guidance.png: samples of one of the five modes under increasing guidance weights, by
the exact network and by the learnt one.

log_p_nats is the samples' mean log density under the data distribution, least_mode_share the share
of the rarest mode, eps_error@t the mean squared difference of the two networks at time t, spread@w
the standard deviation of the guided samples.
"""

import numpy as np

from minigen import nn, no_grad, optim, silu, train
from minigen.demo import Demo, cli
from minigen.dist import noise
from minigen.models.diffusion import schedule
from minigen.models.diffusion.conditional import ConditionalDenoiser
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.exact import Mixture
from minigen.models.diffusion.guidance import ClassifierFree, drop_labels, no_label
from minigen.models.diffusion.velocity import Velocity

T, K, REACH = 1000, 5, 2.0  # pictures show [−REACH, REACH]²
WEIGHTS = (0, 1, 2, 4, 8)
MEASURED = (20, 60, 120, 250, 500)


class Points:
    """A network for points: x (N, 2) and an embedding e (N, D) of time and label → (N, 2)."""

    def __init__(self, D=64, d_h=128):
        self.layers = [nn.Linear(2, d_h), nn.Linear(d_h, d_h), nn.Linear(d_h, d_h)]
        self.emb_layers = [nn.Linear(D, d_h) for _ in self.layers]
        self.last = nn.Linear(d_h, 2)

    def __call__(self, x, e):
        x = 4 * x  # initial weights suit inputs of scale 1, and modes are 0.24 wide
        for layer, emb_layer in zip(self.layers, self.emb_layers, strict=True):
            x = silu(layer(x) + emb_layer(silu(e)))
        return self.last(x)


def main(argv=None):
    run = Demo("diffusion_2d", __doc__, argv, data=("ring",), steps=3000, batch=256)
    s = schedule.cosine(T)  # at more of its times than with linear, x_t has structure
    angle = 2 * np.pi * np.arange(K) / K
    ring = Mixture(np.full(K, 1 / K), np.stack([np.cos(angle), np.sin(angle)], 1),
                   np.full(K, 0.12 ** 2), s)
    embed = nn.TimeEmbedding(64, nn.Sinusoidal(64))
    net = Velocity(ConditionalDenoiser(Points(), embed, K, 64), s)
    nn.init(net, run.rng)
    model = DDPM(net, s)
    opt = optim.Adam(nn.parameters(net), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.cosine(t, run.args.steps, floor=0.01)
        x_0, y = ring.sample(run.args.batch, rng)
        y = drop_labels(y, K, rng, p=0.5)  # conditional and unconditional are both examined
        return train.descend(opt, model.loss(x_0.astype(np.float32), rng, y))

    run.fit(step, model=model, opt=opt, ema=ema)

    n = 200 if run.quick else 2000
    few = schedule.respaced(s, 10 if run.quick else 50)
    null_label, x_T = np.full(n, K), noise(run.rng, nn.like(net), (n, 2))
    shown = np.rint(np.linspace(1, 0, 10) ** 2 * few.T).astype(int)
    numbers = {}
    with ema.applied():
        ways = {"exact": DDPM(ring, few, few.beta_tilde), "learnt": DDPM(net, few, few.beta_tilde),
                "ddim": DDIM(net, few)}
        pictures, ends = [known(ring, few.times[shown])], {}
        for name, sampler in ways.items():
            x = dict(sampler.chain(x_T, run.rng, null_label))
            pictures += [density(x[t].numpy()) for t in shown]
            ends[name] = x[0].numpy()
        run.picture("samples", np.concatenate([pictures[0], np.stack(pictures[1:])]))
        for name, x in (("data", ring.sample(n, run.rng)[0]), *ends.items()):
            numbers[f"log_p_nats_{name}"] = log_p(ring, x).mean()
            r = ring.log_joint(x.astype(np.float64), 1).numpy().argmax(1)
            numbers[f"least_mode_share_{name}"] = np.bincount(r, minlength=K).min() / n
        for t in MEASURED:
            x_0, _ = ring.sample(n, run.rng)
            x_t = model.q_sample(x_0.astype(np.float32), t, noise(run.rng, x_T))
            with no_grad():
                error = net(x_t, np.full(n, t), null_label).numpy() - ring(x_t, t).numpy()
            numbers[f"eps_error@t={t}"] = np.square(error).mean()
        with train.writing(run.out / "scores.png"):
            arrows(run.out / "scores.png", ring, net)
        y, rows = np.zeros(n, int), []
        for network in (ring, net):
            for w in WEIGHTS:
                x = DDIM(ClassifierFree(network, w, no_label(K)), few).decode(x_T, y).numpy()
                rows.append(density(x))
                if network is net:
                    numbers[f"spread@w={w}"] = x.std(0).mean()
        run.picture("guidance", np.stack(rows), columns=len(WEIGHTS))
    run.finish(numbers)


def log_p(ring, x):
    """log p(x_0) of points (n, 2) under the data density, taken at t = 1, nearly the same as at 0.
    """
    return ring.log_prob(x.astype(np.float64), 1).numpy()


def density(x, size=64):
    """A histogram of points x (n, 2) as a picture (1, size, size), on a square-root scale."""
    edge = [[-REACH, REACH]] * 2
    counts, *_ = np.histogram2d(-x[:, 1], x[:, 0], size, edge)
    return np.sqrt(counts / max(counts.max(), 1))[None]


def grid(size):
    """The centres of the pixels of a picture, row by row from the upper left: (size², 2)."""
    at = (np.arange(size) + 0.5) / size * 2 * REACH - REACH
    return np.stack(np.broadcast_arrays(at, -at[:, None]), -1).reshape(-1, 2)


def known(ring, times, size=64):
    """The exact densities p(x_t) as pictures: (len(times), 1, size, size)."""
    p = [np.exp(ring.log_prob(grid(size), max(t, 1)).numpy()).reshape(1, size, size) for t in times]
    return np.stack([np.sqrt(q / q.max()) for q in p])


def arrows(path, ring, net, times=(60, 250, 600), size=17):
    """Plot −ε*, which points towards the data, in grey, and −ε_θ over it in red, at three times."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(4.4 * len(times), 4.4), dpi=100, layout="constrained")
    x = grid(size).astype(np.float32)
    for k, t in enumerate(times):
        with no_grad():
            exact = -ring(x, t).numpy()
            learnt = -net(x, np.full(len(x), t), np.full(len(x), K)).numpy()
        axes = figure.add_subplot(1, len(times), k + 1)
        scale = {"angles": "xy", "scale": 1.5 * size}
        axes.quiver(*x.T, *exact.T, color="0.6", width=0.008, label="exact", **scale)
        axes.quiver(*x.T, *learnt.T, color="C3", width=0.003, label="learnt", **scale)
        axes.set(title=f"−ε, t = {t}", aspect="equal")
        axes.legend(fontsize=8, loc="upper right")
    figure.savefig(path, format="png")


if __name__ == "__main__":
    cli(main)

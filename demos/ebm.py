"""EBM: a network that gives each image an energy, sampled by Langevin dynamics.

    python demos/ebm.py                                offline, on drawn digits
    python demos/ebm.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

samples.png: images of the training's chains, 100 steps on. chains.png: ten chains that start from
noise, one row each after 0, 10, 20, 40, 80, 160 and 320 steps. Numbers with _from_noise are of
samples 320 steps from noise, the others of those in samples.png.

lower_than_noise, lower_than_shuffled, lower_than_flipped: how often a test image has a lower energy
than uniform noise, than a test image whose quarters have changed places, and than one that is
upside down; by chance in half of all cases.
"""

import numpy as np

from minigen import data, nn, no_grad, optim, ruler, tensor, train
from minigen.demo import Demo, cli
from minigen.models.energy.ebm import ebm

SHOWN = (0, 10, 20, 40, 80, 160, 320)


def main(argv=None):
    run = Demo("ebm", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps={"glyphs": 600, "mnist": 1200, "fashion-mnist": 1200})
    rng, steps = run.rng, 2 if run.quick else 20
    width, chains = (4, 50) if run.quick else (32, 2000)
    model = ebm(run.data.shape, width, max(chains, run.args.batch))
    nn.init(model, rng)
    opt = optim.Adam(nn.parameters(model), betas=(0.0, 0.999))

    def step(t, rng):
        opt.lr = 1e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.1)
        x = run.xp.asarray(data.signed(run.data.train_x[run.indices(t)]))
        return train.descend(opt, *model.loss(x, rng, steps), max_norm=0.1)

    run.fit(step, model=model, opt=opt)

    count = 5 if run.quick else 100  # steps
    samples = data.unsigned(data.in_batches(lambda x: model.langevin(tensor(x), rng, count),
                                            model.chains.numpy(), batch_size=100))
    run.picture("samples", samples[:100])
    x, rows = model.sample(10 if run.quick else 1000, rng, 0), []
    for before, after in zip((0, *SHOWN), SHOWN, strict=False):
        x = model.langevin(x, rng, 1 if run.quick else after - before)
        rows.append(data.unsigned(x[:10]))
    run.picture("chains", np.concatenate(rows))

    test = data.signed(run.data.test_x[:1000])
    H, W = test.shape[2] // 2, test.shape[3] // 2
    others = {"noise": rng.uniform(-1, 1, test.shape).astype(np.float32),
              "shuffled": np.roll(test, (H, W), axis=(2, 3)), "flipped": test[:, :, ::-1]}
    with no_grad():
        energies = model.net(test).numpy()
        numbers = {f"lower_than_{name}": (energies[:, None] < model.net(x).numpy()).mean()
                   for name, x in others.items()}
    numbers |= ruler.quality(samples, run.data)
    numbers |= {f"{key}_from_noise": value for key, value in
                ruler.quality(data.unsigned(x), run.data).items()
                if not (key.startswith("real") or key.endswith("_of_test"))}
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)

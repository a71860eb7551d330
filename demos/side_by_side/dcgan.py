"""The DCGAN of demos/dcgan.py: a training step of both players on 32 digits, and 100 samples."""

import numpy as np

from side_by_side import Noise, digits, load_shared, save_shared

BATCH, D_Z, SAMPLES = 32, 16, 100


def minigen(shared, target, batch=BATCH, side=28):
    from minigen import data, nn
    from minigen.models.gan.dcgan import adam, dcgan
    from minigen.models.gan.gan import algorithm_1
    model = dcgan((1, side, side), D_Z)
    nn.init(model, np.random.default_rng(0))
    x = data.signed(digits(batch, side))
    save_shared(shared, weights=nn.state_dict(model), batch={"x": x})
    nn.to(model, target.device)
    opts, rngs = [adam(nn.parameters(net)) for net in (model.D, model.G)], target.noises()
    gan_step = target.step(lambda x: algorithm_1(model, *opts, lambda i: (x,))(0, next(rngs)))
    images = target.put(x)

    def step():
        numbers = gan_step(images)
        return numbers["d_loss"] + numbers["g_loss"]

    return {"train": step, "sample": target.step(lambda: model.sample(SAMPLES, next(rngs)))}


def pytorch(shared, compile):
    import torch
    from torch.nn import BatchNorm2d, Conv2d, ConvTranspose2d, Flatten, LeakyReLU, ReLU, Sequential
    from torch.nn.functional import logsigmoid

    def up(C, K, *shape):
        return ConvTranspose2d(C, K, *shape, bias=False), BatchNorm2d(K), ReLU()

    def down(C, K):
        return Conv2d(C, K, 4, 2, 1, bias=False), BatchNorm2d(K), LeakyReLU(0.2)

    G = Sequential(torch.nn.Unflatten(1, (D_Z, 1, 1)), *up(D_Z, 256, 3), *up(256, 128, 4, 2, 1, 1),
                   *up(128, 64, 4, 2, 1), ConvTranspose2d(64, 1, 4, 2, 1), torch.nn.Tanh())
    D = Sequential(Conv2d(1, 32, 4, 2, 1), LeakyReLU(0.2), *down(32, 64), *down(64, 128),
                   Conv2d(128, 1, 3), Flatten())
    torch.nn.ModuleDict({"G": G, "D": D}).load_state_dict(load_shared(shared, "weights"))
    x, noise = load_shared(shared, "batch")["x"], Noise()
    opt_d, opt_g = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (D, G))

    @compile
    def d_loss(x, z):
        with torch.no_grad():
            x_fake = G(z)
        return -logsigmoid(D(x)).mean() - logsigmoid(-D(x_fake)).mean()

    @compile
    def g_loss(z):
        return -logsigmoid(D(G(z))).mean()

    def descend(net, opt, loss):
        """Neither step computes the other network's gradients."""
        params = list(net.parameters())
        for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
            p.grad = g
        opt.step()
        return loss.item()

    def step():
        z = noise(BATCH, D_Z), noise(BATCH, D_Z)
        noise.use_torch()
        d = descend(D, opt_d, d_loss(x, z[0]))
        return d + descend(G, opt_g, g_loss(z[1]))

    @torch.no_grad()
    def sample():
        G.eval()
        images = G(noise(SAMPLES, D_Z))
        G.train()
        return images

    return {"train": step, "sample": sample}

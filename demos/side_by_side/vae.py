"""The convolutional VAE of demos/vae.py: a training step on 128 digits, and 100 samples."""

import numpy as np

from side_by_side import Noise, digits, load_shared, save_shared

BATCH, D_Z, SAMPLES = 128, 16, 100


def minigen(shared, target, batch=BATCH, side=28):
    from minigen import nn, optim, train
    from minigen.models.vae.conv_vae import convolutional
    model = convolutional((1, side, side), D_Z)
    nn.init(model, np.random.default_rng(0))
    x = (digits(batch, side) > 127).astype(np.float32)
    save_shared(shared, weights=nn.state_dict(model), batch={"x": x})
    nn.to(model, target.device)
    opt, rngs, images = optim.Adam(nn.parameters(model), lr=1e-3), target.noises(), target.put(x)
    train_step = target.step(lambda x: train.descend(opt, *model.loss(x, next(rngs))))
    return {"train": lambda: train_step(images)["loss"],
            "sample": target.step(lambda: model.generate(SAMPLES, next(rngs)).mean)}


def pytorch(shared, compile):
    import torch
    from torch.nn import ELU, Conv2d, ConvTranspose2d, Flatten, Linear, Sequential, Unflatten
    from torch.nn import functional as F
    encoder = Sequential(Conv2d(1, 32, 4, 2, 1), ELU(), Conv2d(32, 64, 4, 2, 1), ELU(), Flatten(),
                         Linear(64 * 49, 256), ELU(), Linear(256, 2 * D_Z))
    decoder = Sequential(Linear(D_Z, 256), ELU(), Linear(256, 64 * 49), ELU(),
                         Unflatten(1, (64, 7, 7)), ConvTranspose2d(64, 32, 4, 2, 1), ELU(),
                         ConvTranspose2d(32, 1, 4, 2, 1))
    model = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    model.load_state_dict(load_shared(shared, "weights"))
    x = load_shared(shared, "batch")["x"]
    opt, noise = torch.optim.Adam(model.parameters(), lr=1e-3), Noise()

    @compile
    def neg_elbo(x, eps):
        mu, logvar = encoder(x).chunk(2, 1)
        logits = decoder(mu + torch.exp(logvar / 2) * eps)
        nats = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu ** 2 - logvar.exp())
        return (nats + kl) / len(x)

    def step():
        loss = neg_elbo(x, noise(BATCH, D_Z))
        noise.use_torch()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    @torch.no_grad()
    def sample():
        return torch.sigmoid(decoder(noise(SAMPLES, D_Z)))

    return {"train": step, "sample": sample}

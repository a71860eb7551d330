"""The DDPM of demos/ddpm.py: a training step on 64 digits, and 32 samples in 50 steps."""

import math

import numpy as np

from side_by_side import Noise, digits, load_shared, save_shared

BATCH, SAMPLES, WIDTHS, D = 64, 32, (16, 32, 64), 128


def minigen(shared, target, batch=BATCH, side=28):
    from minigen import data, nn, optim, train
    from minigen.models.diffusion import schedule, threshold
    from minigen.models.diffusion.ddpm import DDPM
    from minigen.models.diffusion.denoiser import denoiser
    shape = (1, side, side)
    net = denoiser(shape, WIDTHS, D)
    nn.init(net, np.random.default_rng(0))
    for p in nn.parameters(net).values():  # blocks start as the identity: make them contribute
        p.data[...] += 0.02 * np.random.default_rng(p.size).standard_normal(p.shape, np.float32)
    x = data.signed(digits(batch, side))
    save_shared(shared, weights=nn.state_dict(net), batch={"x": x})
    nn.to(net, target.device)
    model, opt = DDPM(net, schedule.linear(1000)), optim.Adam(nn.parameters(net), lr=1e-3)
    respaced = schedule.respaced(model.schedule, 50)
    sampler = DDPM(net, respaced, sigma2=respaced.beta_tilde)
    rngs, images = target.noises(), target.put(x)
    train_step = target.step(lambda x: train.descend(opt, model.loss(x, next(rngs)), max_norm=1.0))
    return {"train": lambda: train_step(images)["loss"],
            "sample": target.step(lambda: sampler.sample(SAMPLES, shape, next(rngs),
                                                         threshold=threshold.static))}


def unet(shape, widths, D, add_time=False):
    """The denoiser in PyTorch, with the same names, so that weights can be copied."""
    import torch
    from torch.nn import Conv2d, ConvTranspose2d, GroupNorm, Linear, Module, ModuleList
    from torch.nn import functional as F

    class Inject(Module):
        def __init__(self, K):
            super().__init__()
            self.norm = GroupNorm(8, K, affine=add_time)
            self.linear = Linear(D, K if add_time else 2 * K)

        def forward(self, h, e):
            y = self.linear(e)[:, :, None, None]
            if add_time:
                return F.silu(self.norm(h + y))
            s, b = y.chunk(2, 1)
            return F.silu(self.norm(h) * (s + 1) + b)

    class Block(Module):
        def __init__(self, C, K):
            super().__init__()
            self.norm, self.first = GroupNorm(8, C), Conv2d(C, K, 3, padding=1)
            self.inject, self.second = Inject(K), Conv2d(K, K, 3, padding=1)
            self.skip = Conv2d(C, K, 1) if C != K else torch.nn.Identity()

        def forward(self, x, e):
            h = self.inject(self.first(F.silu(self.norm(x))), e)
            return self.skip(x) + self.second(h)

    class Attention(Module):
        def __init__(self, C):
            super().__init__()
            self.norm = GroupNorm(8, C)
            self.attention = torch.nn.MultiheadAttention(C, 1, batch_first=True)

        def forward(self, x):
            h = self.norm(x).flatten(2).transpose(1, 2)
            h, _ = self.attention(h, h, h, need_weights=False)
            return x + h.transpose(1, 2).reshape(x.shape)

    class Mix(Module):
        def __init__(self, C, H, W):
            super().__init__()
            self.norm, self.shape = GroupNorm(8, C), (32, H, W)
            self.first, self.second = Conv2d(C, 32, 1), Conv2d(32, C, 1)
            self.gather, self.scatter = Linear(32 * H * W, 1024), Linear(1024, 32 * H * W)
            self.time = Linear(D, 1024)

        def forward(self, x, e):
            h = F.silu(self.gather(self.first(self.norm(x)).flatten(1)) + self.time(e))
            return x + self.second(self.scatter(h).unflatten(1, self.shape))

    class UNet(Module):
        def __init__(self):
            super().__init__()
            *upper, low = widths
            pairs = list(zip(widths[:-1], widths[1:], strict=True))
            self.first = Conv2d(shape[0], widths[0], 3, padding=1)
            self.encode = ModuleList(ModuleList([Block(K, K)]) for K in upper)
            self.down = ModuleList(Conv2d(a, b, 3, 2, 1) for a, b in pairs)
            self.middle = ModuleList([Block(low, low), Attention(low), Block(low, low)])
            self.mix = Mix(low, shape[1] >> len(upper), shape[2] >> len(upper))
            self.up = ModuleList(ConvTranspose2d(b, a, 4, 2, 1) for a, b in pairs)
            self.decode = ModuleList(ModuleList([Block(2 * K, K)]) for K in upper)
            self.norm = GroupNorm(8, widths[0])
            self.last = Conv2d(widths[0], shape[0], 3, padding=1)

        def forward(self, x, e):
            h, e, skips = self.first(x), F.silu(e), []
            for (block,), down in zip(self.encode, self.down, strict=True):
                skips.append(block(h, e))
                h = down(skips[-1])
            before, attention, after = self.middle
            h = after(self.mix(attention(before(h, e)), e), e)
            for (block,), up in zip(list(self.decode)[::-1], list(self.up)[::-1], strict=True):
                h = block(torch.cat([up(h), skips.pop()], 1), e)
            return self.last(F.silu(self.norm(h)))

    class TimeEmbedding(Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Linear(D // 2, D), Linear(D, D)

        def forward(self, t):
            half = D // 4
            steps = torch.arange(half, device=t.device)
            angle = t[:, None] * torch.exp(-math.log(10000) * steps / half)
            e = torch.cat([angle.sin(), angle.cos()], 1)
            return self.second(F.silu(self.first(e)))

    class Denoiser(Module):
        def __init__(self):
            super().__init__()
            self.unet, self.embed = UNet(), TimeEmbedding()

        def forward(self, x, t):
            return self.unet(x, self.embed(t))

    return Denoiser()


def pytorch(shared, compile):
    import torch
    net = unet((1, 28, 28), WIDTHS, D)
    net.load_state_dict(load_shared(shared, "weights"))
    x_0, noise = load_shared(shared, "batch")["x"], Noise()
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    network = compile(net)

    def step():
        if noise.rng:
            t = torch.tensor(noise.rng.integers(1, 1001, BATCH))
        else:
            t = torch.randint(1, 1001, (BATCH,))
        eps, a = noise(*x_0.shape), alpha_bar[t - 1].float()[:, None, None, None]
        noise.use_torch()
        x_t = a.sqrt() * x_0 + (1 - a).sqrt() * eps
        loss = torch.nn.functional.mse_loss(network(x_t, t.float()), eps)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        return loss.item()

    timesteps, alpha_bars = np.rint(np.linspace(1, 1000, 50)).astype(int), alpha_bar.tolist()

    @torch.no_grad()
    def sample():
        """Ancestral sampling with the variance β̃ and x̂_0 clipped to [−1, 1]."""
        x = torch.randn(SAMPLES, 1, 28, 28)
        for i in reversed(range(len(timesteps))):
            a, a_prev = alpha_bars[timesteps[i] - 1], alpha_bars[timesteps[i - 1] - 1]
            a_prev = a_prev if i else 1.0
            eps = network(x, torch.full((SAMPLES,), float(timesteps[i])))
            x_hat = ((x - (1 - a) ** 0.5 * eps) / a ** 0.5).clamp(-1, 1)
            alpha, beta = a / a_prev, 1 - a / a_prev
            x = (a_prev ** 0.5 * beta * x_hat + alpha ** 0.5 * (1 - a_prev) * x) / (1 - a)
            if i:
                x = x + ((1 - a_prev) / (1 - a) * beta) ** 0.5 * torch.randn_like(x)
        return x

    return {"train": step, "sample": sample}

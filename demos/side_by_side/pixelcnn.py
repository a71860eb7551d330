"""The PixelCNN of demos/pixelcnn.py: a training step on 16 binary digits, and 16 samples.

minigen's sampler computes only what a new pixel changes. PyTorch's side samples by the naive loop,
a pass through the whole network for each pixel, and minigen's side times it too, for comparison.
All passes take equally long, so 28 of the 784 are timed.
"""

import numpy as np

from side_by_side import digits, load_shared, save_shared

BATCH, SAMPLES, PASSES = 16, 16, 28


def minigen(shared, target, batch=BATCH, side=28):
    from minigen import nn, no_grad, optim, train
    from minigen.models.autoregressive.pixelcnn import pixelcnn
    model = pixelcnn((1, side, side))
    nn.init(model, np.random.default_rng(0))
    x = (digits(batch, side) > 127).astype(np.uint8)
    save_shared(shared, weights=nn.state_dict(model.net), batch={"x": x.astype(np.float32)})
    nn.to(model, target.device)
    opt, rngs, images = optim.Adam(nn.parameters(model), lr=1e-3), target.noises(), target.put(x)
    train_step = target.step(lambda x: train.descend(opt, model.loss(x)))

    def naive():
        with no_grad():
            for _ in range(PASSES):
                model.log_prob(images[:SAMPLES])

    return {"train": lambda: train_step(images)["loss"],
            "sample": target.step(lambda: model.sample(SAMPLES, next(rngs))),
            f"{PASSES} pixels naively": naive}


def pytorch(shared, compile):
    import torch
    from torch.nn import functional as F

    class MaskedConv2d(torch.nn.Conv2d):
        def __init__(self, C, K, size, mask):
            super().__init__(C, K, size, padding=size // 2)
            ones = torch.ones(size * size)
            ones[size * size // 2 + (mask == "B"):] = 0
            self.register_buffer("mask", ones.view(size, size), persistent=False)

        def forward(self, x):
            return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)

    class PixelCNN(torch.nn.Module):
        def __init__(self, h=48, depth=6):
            super().__init__()
            self.first = MaskedConv2d(1, h, 7, "A")
            self.position_bias = torch.nn.ParameterDict({"bias": torch.zeros(1, h, 28, 28)})
            self.blocks = torch.nn.ModuleList(MaskedConv2d(h, h, 3, "B") for _ in range(depth))
            self.head, self.last = torch.nn.Conv2d(h, h, 1), torch.nn.Conv2d(h, 1, 1)

        def forward(self, x):
            x = self.first(x) + self.position_bias["bias"]
            for block in self.blocks:
                x = x + block(torch.relu(x))
            return self.last(torch.relu(self.head(torch.relu(x))))

    net = PixelCNN()
    net.load_state_dict(load_shared(shared, "weights"))
    x, opt = load_shared(shared, "batch")["x"], torch.optim.Adam(net.parameters(), lr=1e-3)

    @compile
    def nll(x):
        nats = F.binary_cross_entropy_with_logits(net(2 * x - 1), x, reduction="sum")
        return nats / len(x)

    def step():
        loss = nll(x)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    @torch.no_grad()
    def naive():
        x_new = torch.zeros(SAMPLES, 1, 28, 28)
        for j in range(PASSES):
            x_new[:, :, 0, j] = torch.bernoulli(torch.sigmoid(net(2 * x_new - 1)[:, :, 0, j]))

    return {"train": step, f"{PASSES} pixels naively": naive}

"""The ops of the reference models, at the models' shapes and batch sizes, and the autograd engine.

Names are the labels of rows in the table: "conv2d 32→64 4×4/2, 14×14, 128 images: forward +
backward".
"""

import numpy as np

# images, C, K, size of the filter, stride, padding, H (and output_padding): the convolutions of
CONV2D = [
    (128, 1, 32, 4, 2, 1, 28), (128, 32, 64, 4, 2, 1, 14),                              # the VAE
    (32, 1, 32, 4, 2, 1, 28), (32, 32, 64, 4, 2, 1, 14), (32, 64, 128, 4, 2, 1, 7),     # DCGAN's D
    (16, 1, 48, 7, 1, 3, 28), (16, 48, 48, 3, 1, 1, 28), (16, 48, 48, 1, 1, 0, 28),     # PixelCNN
    (32, 1, 32, 3, 1, 1, 28), (32, 32, 32, 3, 1, 1, 28), (32, 64, 32, 3, 1, 1, 28),     # U-Net
    (32, 32, 1, 3, 1, 1, 28), (32, 64, 64, 3, 1, 1, 14), (32, 128, 64, 3, 1, 1, 14),
    (32, 64, 64, 3, 1, 1, 7), (32, 32, 64, 3, 2, 1, 28), (32, 64, 64, 3, 2, 1, 14),
    (32, 64, 32, 1, 1, 0, 28), (32, 128, 64, 1, 1, 0, 14)]
CONV_TRANSPOSE2D = [
    (128, 64, 32, 4, 2, 1, 7), (128, 32, 1, 4, 2, 1, 14),                               # the VAE
    (32, 16, 256, 3, 1, 0, 1), (32, 256, 128, 4, 2, 1, 3, 1),                           # DCGAN's G
    (32, 128, 64, 4, 2, 1, 7), (32, 64, 1, 4, 2, 1, 14),
    (32, 64, 64, 4, 2, 1, 7), (32, 64, 32, 4, 2, 1, 14)]                                # U-Net
ATTENTION = [64, 256, 1024]  # T, of 4 images of 4 heads of size 32
NORMS = [("batch_norm", 16, 128, 14), ("group_norm", 32, 64, 28), ("layer_norm", 32, 64, 28)]
ROWS = [("gelu", 1024, 1024), ("softmax", 1024, 256), ("cross_entropy", 2048, 512)]  # transformers
MAPS = 16, 64, 28, 28  # of PixelCNN, with gates
ADAM = "Adam, a million parameters"
MILLION, CHAIN = [(100_000,)] * 10, 5000


def table(ops, integers):
    """A dict: name: (function of arrays, shapes of the arrays) for the ops of one side. `integers`
    converts a NumPy array of labels to that side's kind of array."""
    rows = {}
    for op, shapes in (("conv2d", CONV2D), ("conv_transpose2d", CONV_TRANSPOSE2D)):
        for N, C, K, size, stride, padding, H, *odd in shapes:
            name = (f"{op} {C}→{K} {size}×{size}{f'/{stride}' * (stride > 1)}, {H}×{H}, "
                    f"{N} images")
            filters = (K, C, size, size) if op == "conv2d" else (C, K, size, size)
            rows[name] = (lambda x, w, b, op=op, more=(stride, padding, *odd):
                          getattr(ops, op)(x, w, b, *more)), [(N, C, H, H), filters, (K,)]
    for T in ATTENTION:
        rows[f"attention, T = {T}"] = ops.scaled_dot_product_attention, [(4, 4, T, 32)] * 3
    for name, N, C, H in NORMS:
        f = {"batch_norm": lambda x, w, b: ops.batch_norm(x, None, None, w, b, True),
             "group_norm": lambda x, w, b: ops.group_norm(x, 8, w, b),
             "layer_norm": lambda x, w, b: ops.layer_norm(x, w.shape, w, b)}[name]
        shape = (N, H, H, C) if name == "layer_norm" else (N, C, H, H)
        rows[f"{name}, {'×'.join(map(str, shape))}"] = f, [shape, (C,), (C,)]
    for name, N, C in ROWS:
        labels = integers(np.arange(N) % C)
        f = {"gelu": ops.gelu, "softmax": lambda x: ops.softmax(x, -1),
             "cross_entropy": lambda x, labels=labels: ops.cross_entropy(x, labels)}[name]
        rows[f"{name}, {N}×{C}"] = f, [(N, C)]
    for name, f, *other in (
            ("x + y", lambda x, y: x + y, MAPS), ("x · y", lambda x, y: x * y, MAPS),
            ("x · w, a number per channel", lambda x, w: x * w, (MAPS[1], 1, 1)),
            ("exp", lambda x: x.exp()), ("logsumexp of channels", lambda x: x.logsumexp(1)),
            ("tanh", ops.tanh), ("mse_loss", ops.mse_loss, MAPS)):
        rows[f"{name}, {'×'.join(map(str, MAPS))}"] = f, [MAPS, *other]
    return rows


def arrays(shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def minigen(shared, target):
    import minigen as mg
    from minigen import grad, no_grad, optim, tensor
    calls = {}
    for name, (f, shapes) in table(mg, np.asarray).items():
        xs = [tensor(a, requires_grad=True) for a in arrays(shapes)]
        ones = np.ones(f(*xs).shape, np.float32)

        def forward(f=f, xs=xs):
            with no_grad():
                f(*xs)
        calls[f"{name}: forward"] = forward
        calls[f"{name}: forward + backward"] = (
            lambda f=f, xs=xs, ones=ones: grad(f(*xs), xs, cotangent=ones))
    params = {str(i): tensor(a, requires_grad=True) for i, a in enumerate(arrays(MILLION))}
    opt, grads = optim.Adam(params), {key: tensor(p.data.copy()) for key, p in params.items()}
    calls[ADAM] = calls[f"{ADAM}, fused"] = lambda: opt.step(grads)
    x = tensor(np.float32(1), requires_grad=True)

    def chain():
        y = x
        for _ in range(CHAIN):
            y = y * x
        grad(y, x)

    return {**calls, f"a chain of {CHAIN} products of scalars and its gradient": chain}


def pytorch(shared, compile):
    import torch
    calls = {}
    for name, (f, shapes) in table(torch.nn.functional, torch.from_numpy).items():
        xs = [torch.from_numpy(a).requires_grad_() for a in arrays(shapes)]
        ones = torch.ones_like(f(*xs))

        def forward(f=f, xs=xs):
            with torch.no_grad():
                f(*xs)
        calls[f"{name}: forward"] = forward
        calls[f"{name}: forward + backward"] = (
            lambda f=f, xs=xs, ones=ones: torch.autograd.grad(f(*xs), xs, ones))
    for name, options in ((ADAM, {}), (f"{ADAM}, fused", {"fused": True})):
        params = [torch.from_numpy(a).requires_grad_() for a in arrays(MILLION)]
        for p in params:
            p.grad = p.detach().clone()
        calls[name] = torch.optim.Adam(params, **options).step
    x = torch.ones((), requires_grad=True)

    def chain():
        y = x
        for _ in range(CHAIN):
            y = y * x
        torch.autograd.grad(y, x)

    return {**calls, f"a chain of {CHAIN} products of scalars and its gradient": chain}

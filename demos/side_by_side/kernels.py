"""The CUDA kernels compared with what PyTorch calls instead: cuDNN, cuBLAS, its attention.

Names are the labels of rows in the table: "conv2d, bf16, 128→128 3×3, 256 of 32×32". fp32, tf32 and
bf16 are the precisions to which products round their factors. minigen's arrays are float32
throughout; PyTorch's are bf16 where the row says so, and channels-last for its convolutions, which
suits them best. In rows "of float32" PyTorch is given the same float32 arrays as minigen, rounds
them and makes them channels-last in one pass, and converts the result back.
"""

import numpy as np

N, C, H = 256, 128, 32  # the U-Net's convolutions: images, channels, side
HEADS, D, LENGTHS = 64, 64, (256, 1024, 4096)  # attention: batch × heads, head size, T
SIDE = 4096  # of square matrices
MANY = 1 << 24  # elements for element-wise kernels
PRODUCTS = ("bf16", "tf32", "fp32")


def table(n=N, side=H, heads=HEADS, lengths=LENGTHS, square=SIDE, many=MANY):
    """A dict: name: (shapes of the arrays, work, its unit, minigen's function, PyTorch's). The
    functions take the library and the arrays; of a pair of functions, the first is not timed, and
    gives the arguments of the second. Work is FLOPs, or the least bytes that must move."""
    x, w, flops = (n, C, side, side), (C, C, 3, 3), 2 * n * side**2 * C**2 * 9
    one, size, rows = (1, 1), 4 * n * C * side**2, {}
    at = (one, one, one, 1)  # stride, padding, dilation, groups
    grads = (None, one, one, one, False, (0, 0), 1)

    def conv_grad(which):
        """The gradient with respect to one input of a convolution alone."""
        mask = [which == name for name in ("x", "w", "b")]
        return lambda t, g, x, w: t.ops.aten.convolution_backward(g, x, w, *grads, mask)

    for p in PRODUCTS:
        rows |= {
            f"matmul, {p}, {square}³": (
                [(square, square)] * 2, 2 * square**3, "TFLOP/s",
                lambda k, a, b: k.matmul(a, b, None), lambda t, a, b: a @ b),
            f"conv2d, {p}, {C}→{C} 3×3, {n} of {side}×{side}": (
                [x, w], flops, "TFLOP/s", lambda k, x, w: k.conv2d(x, w, None, *at),
                lambda t, x, w: t.nn.functional.conv2d(x, w, padding=1)),
            f"conv_transpose2d, {p}: its gradient by x": (
                [x, x, w], flops, "TFLOP/s",
                lambda k, g, x, w: k.conv_transpose2d(g, w, None, (side, side), *at),
                conv_grad("x")),
            f"conv2d_weight, {p}: its gradient by w": (
                [x, x, w], flops, "TFLOP/s",
                lambda k, g, x, w: k.conv2d_weight(g, x, (3, 3), *at), conv_grad("w"))}
        if p == "bf16":
            rows |= {f"{name}, of float32": (*row[:-1], rounding(row[-1]))
                     for name, row in rows.items() if name.startswith("conv")}
        for T in lengths:
            qkv, scale = [(heads, T, D)] * 3, D**-0.5
            forward = lambda k, q, k_, v, s=scale: k.attention(q, k_, v, None, False, s)
            sdpa = lambda t, q, k, v: t.nn.functional.scaled_dot_product_attention(
                q[None], k[None], v[None]).squeeze(0)
            rows[f"attention, {p}, {heads} heads of {D}, T = {T}"] = (
                qkv, 4 * heads * T**2 * D, "TFLOP/s", forward, sdpa)
            rows[f"attention_backward, {p}, {heads} heads of {D}, T = {T}"] = (
                qkv, 10 * heads * T**2 * D, "TFLOP/s",
                (lambda k, q, k_, v, f=forward: (q, *f(k, q, k_, v), q, k_, v),
                 lambda k, *args, s=scale: k.attention_backward(*args, None, False, s)),
                (lambda t, *qkv, f=sdpa: (f(t, *qkv), qkv),
                 lambda t, y, qkv: t.autograd.grad(y, qkv, qkv[0], retain_graph=True)))
    flat, wide, G = (n, C, side * side), (many // 1024, 1024), 8
    stats = lambda k, g, x, w, b: (g, x, G, w, b, *k.group_norm(x, G, w, b, 1e-5, True)[1:], True)
    silu_norm = lambda t, x, w, b: t.nn.functional.silu(t.nn.functional.group_norm(x, G, w, b))
    rows |= {
        "group_norm with silu": (
            [flat, (1, C), (1, C)], 2 * size, "GB/s",
            lambda k, x, w, b: k.group_norm(x, G, w, b, 1e-5, True),
            lambda t, x, w, b: silu_norm(t, x, w.squeeze(0), b.squeeze(0))),
        "group_norm_backward with silu": (
            [flat, flat, (1, C), (1, C)], 3 * size, "GB/s",
            (stats, lambda k, *args: k.group_norm_backward(*args)),
            (lambda t, g, x, w, b: (silu_norm(t, x, w.squeeze(0), b.squeeze(0)), (x, w, b), g),
             lambda t, y, xs, g: t.autograd.grad(y, xs, g, retain_graph=True))),
        "softmax": ([wide], 8 * many, "GB/s", lambda k, x: k.softmax(x[..., None]),
                    lambda t, x: x.softmax(1)),
        "cross_entropy": (
            [wide], 4 * many, "GB/s",
            (lambda k, x: (x[..., None], 0 * x[:, :1].astype(np.int32)),
             lambda k, x, t: k.cross_entropy(x, t)),
            (lambda t, x: (x, t.zeros(len(x), dtype=t.int64)),
             lambda t, x, y: t.nn.functional.cross_entropy(x, y, reduction="none"))),
        "silu": ([(many,)], 8 * many, "GB/s", lambda k, x: k.silu(x),
                 lambda t, x: t.nn.functional.silu(x)),
        "max_pool2d": ([x], 6 * size // 4, "GB/s",
                       lambda k, x: k.max_pool2d(x, (2, 2), (2, 2), (0, 0)),
                       lambda t, x: t.nn.functional.max_pool2d(x, 2, return_indices=True)),
        "upsample_bilinear": ([x], 5 * size, "GB/s",
                              lambda k, x: k.upsample_bilinear(x, (2 * side, 2 * side)),
                              lambda t, x: t.nn.functional.interpolate(
                                  x, scale_factor=2, mode="bilinear")),
        "random_normal": (
            [(many,)], 4 * many, "GB/s",
            (lambda k, y: (y, y[:2].astype(np.uint64)), lambda k, y, s: k.random_normal(y, s)),
            lambda t, y: t.randn(y.shape)),
        "adam": ([(many,)] * 4, 28 * many, "GB/s",
                 (lambda k, p, g, m, v: (p, g, m, v * v, 0 * p[:3].astype(np.float64) + 1),
                  lambda k, *args: k.adam(*args, 0.9, 0.999, 1e-8, 0.0, False)),
                 (adam, lambda t, step: step())),
    }
    return rows


def rounding(function):
    """A convolution by PyTorch, of bf16 arrays, made one of float32 arrays."""
    def rounded(torch, *arrays):
        last = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}
        y = function(torch, *(a.to(**last) for a in arrays))
        y = next(a for a in y if a is not None) if isinstance(y, tuple) else y
        return y.to(dtype=torch.float32, memory_format=torch.contiguous_format)
    return rounded


def adam(torch, p, g, m, v):
    """PyTorch's fused Adam step."""
    p.grad = g.detach()
    return (torch.optim.Adam([p], fused=p.is_cuda).step,)


def precision(name):
    """The precision to which a row's factors are rounded."""
    return next((p for p in PRODUCTS if f" {p}" in name), "fp32")


class Row:
    """A row on one side. Its arrays are made at its first call, and freed when another row is
    called."""

    latest, run = None, None

    def __init__(self, library, arrays, function):
        self.library, self.arrays, self.function = library, arrays, function

    def __call__(self):
        if Row.latest is not self:
            Row.latest, Row.run = self, None
            setup, timed = self.function if isinstance(self.function, tuple) else (
                lambda library, *arrays: arrays, self.function)
            args = setup(self.library, *self.arrays())
            Row.run = lambda: timed(self.library, *args)
        return Row.run()


def minigen(shared, target, **sizes):
    from minigen import kernels
    from minigen.random import Philox

    def row(name, shapes, function):
        rng = Philox(0, target.device)
        run = Row(kernels, lambda: [rng.standard_normal(s, np.float32) for s in shapes], function)

        def rounded():
            with kernels.precision(precision(name)):
                return run()
        return rounded

    return {name: row(name, shapes, ours)
            for name, (shapes, *_, ours, _) in table(**sizes).items()}


def pytorch(shared, compile, **sizes):
    import torch

    def row(name, shapes, function):
        float32 = name.endswith("of float32")
        dtype = torch.bfloat16 if precision(name) == "bf16" and not float32 else torch.float32
        layout = torch.channels_last if name.startswith("conv") and not float32 else (
            torch.contiguous_format)
        needs_grad = isinstance(function, tuple)

        def arrays():
            return [torch.randn(s, dtype=dtype).to(memory_format=layout).requires_grad_(needs_grad)
                    for s in shapes]

        run = Row(torch, arrays, function)

        def rounded():
            tf32 = precision(name) == "tf32"
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
            torch.backends.cudnn.allow_tf32 = tf32
            with torch.set_grad_enabled(needs_grad):
                return run()
        return rounded

    calls = {name: row(name, shapes, theirs)
             for name, (shapes, *_, theirs) in table(**sizes).items()}
    for unit, (shapes, _, function) in ceilings(**sizes).items():
        calls[unit] = row(unit, shapes, function)
    return calls


def ceilings(square=SIDE, many=MANY, **_):
    """How to measure what the device can reach, a dict: unit, with the precision: (shapes, work,
    PyTorch's function)."""
    found = {f"TFLOP/s, {p}": ([(2 * square, 2 * square)] * 2, 2 * (2 * square)**3,
                               lambda t, a, b: a @ b) for p in PRODUCTS}
    return found | {"GB/s": ([(16 * many,)] * 2, 8 * 16 * many, lambda t, a, b: a.copy_(b))}

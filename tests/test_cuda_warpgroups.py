"""The kernels for Hopper's warpgroups in the emulator: no races, nothing out of bounds, and broken
kernels fail these checks. Their results are tested in test_cuda_products.py and
test_cuda_attention.py."""

import numpy as np
import pytest
from cuda_checks import Emulated, broken, force_hopper
from minigen.kernels import cuda, emulate

from minigen import kernels


def cases():
    """A call of every kernel at a small shape with ragged edges."""
    normal = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x, w, g = normal(1, 70, 9, 17), normal(70, 70, 1, 2), normal(1, 70, 9, 16)
    options = (1, 1), (0, 0), (1, 1), 1
    yield "matmul", (normal(130, 400), normal(400, 140), None)
    yield "conv2d", (x, w, None, *options)
    yield "conv_transpose2d", (g, w, None, (9, 17), *options)
    yield "conv2d_weight", (g, x[..., 1:].copy(), (1, 1), *options)
    q, k, v = normal(1, 70, 60), normal(1, 140, 60), normal(1, 140, 60)
    yield "attention", (q, k, v, None, True, 0.3)
    o, lse = kernels.attention.reference(q, k, v, None, True, 0.3)
    yield "attention_backward", (q, o, lse.astype(np.float32), q, k, v, None, True, 0.3)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize("name", [name for name, _ in cases()])
def test_no_kernel_races_or_leaves_its_arrays(name, sanitizer, monkeypatch):
    Emulated()
    force_hopper(monkeypatch, True)
    args = dict(cases())[name]
    run, programs = emulate.run, []
    monkeypatch.setattr(emulate, "run", lambda *a: programs.append(a[2]) or run(*a))
    with emulate.sanitized(sanitizer), kernels.precision("bf16"):
        getattr(kernels, name).cuda(*args)
    assert any(("WGMMA", "1") in macros for macros in programs)


@pytest.mark.parametrize("name, pattern, replacement, sanitizer, message", [
    ("matmul", "__syncthreads();  // the step has arrived", "//", "thread", "data race"),
    ("matmul", "wait_products<1>(c[0]);", "", None, None),
    ("matmul", "wait_copies<AHEAD - 1>();\n    fence", "fence", None, None),
    ("matmul", "fence_shared();\n    __sync", "__sync", None, "that arrived were not shown"),
    ("matmul", "fence_products(c[0]);", "", None, "products without a fence"),
    ("matmul", "  wait_products<0>(c[0]);", "", None, "ends before its products are there"),
    ("attention", "finish(s);", "", None, None),
    ("attention", "finish(out);", "", None, "ends before its products are there")])
def test_a_broken_kernel_is_caught(name, pattern, replacement, sanitizer, message, monkeypatch):
    Emulated()
    force_hopper(monkeypatch, True)
    args, source = dict(cases())[name], cuda.source
    text = broken(source(f"{name}.cu"), pattern, replacement)
    with emulate.sanitized(sanitizer), kernels.precision("bf16"):
        want = getattr(kernels, name).cuda(*args)
        monkeypatch.setattr(cuda, "source",
                            lambda file: text if file == f"{name}.cu" else source(file))
        if message:
            with pytest.raises(RuntimeError, match=message):
                getattr(kernels, name).cuda(*args)
        else:
            assert not np.array_equal(getattr(kernels, name).cuda(*args)[0], want[0])

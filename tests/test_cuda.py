"""CUDA without a GPU: every kernel compiles for three generations of devices without spilling
registers; the emulator follows CUDA's rules; and broken kernels fail these checks."""

import itertools

import numpy as np
import pytest
from cuda_checks import Compiled, Emulated, broken
from minigen.kernels import cuda, emulate
from minigen.kernels.common import Kernel

from minigen import kernels

FILES = sorted(path.name for path in cuda.FOLDER.glob("*.cu"))
ARCHITECTURES = ("sm_80", "sm_90", "sm_120")
SPILLED = 16  # bytes, four registers, that a kernel may spill to memory
REGISTERS = 1 << 16  # of a multiprocessor; below, the largest blocks without __launch_bounds__
THREADS = {"channel_sum": 1024, "norm_forward": 512, "norm_backward": 512}


def variants(file):
    """The sets of macros under which the kernels of a file are compiled."""
    text = cuda.source(file)
    inputs = ("REAL", "tf32", "bf16") if "ifndef INPUT" in text else ("REAL",)
    choices = {"TILE_N": (64, 256), "HEAD": (16, 32, 64, 128)}
    sizes = [{macro: value} for macro, values in choices.items()
             if f"ifndef {macro}" in text for value in values]
    for factor in (*inputs, "double"):
        real = "double" if factor == "double" else "float"
        for size in sizes or [{}]:
            if real == "double" and (size.get("HEAD") == 128 or size.get("TILE_N") == 256):
                continue  # refused by static_assert: the sums would not fit into registers
            yield {"REAL": real, **size, **({"INPUT": factor} if len(inputs) > 1 else {})}


def for_hopper(file):
    """The sets of macros of the kernels with warpgroups, which only Hopper has."""
    text = cuda.source(file)
    for factor in ("tf32", "bf16") if "ifdef WGMMA" in text else ():
        size = {"HEAD": 64} if "ifndef HEAD" in text else {"TILE_N": 256}
        if factor == "bf16" or file in ("matmul.cu", "conv2d.cu", "conv_transpose2d.cu"):
            yield {"REAL": "float", "INPUT": factor, **size, "WGMMA": 1}


def test_no_operation_is_without_a_cuda_version():
    operations = [k for k in vars(kernels).values() if isinstance(k, Kernel)]
    assert len(operations) > 30
    assert [k.name for k in operations if "cuda" not in k.versions] == []


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_compiles_without_spilling(file):
    jobs = [(arch, {}) for arch in ARCHITECTURES]  # no macros; then each variant for one of them
    jobs += zip(itertools.cycle(ARCHITECTURES), variants(file))
    jobs += zip(itertools.repeat("sm_90a"), for_hopper(file))
    for arch, macros in jobs:
        compiled = Compiled(file, arch, **macros)
        spilled, used = compiled.spilled, compiled.registers
        assert spilled and max(spilled.values()) <= SPILLED, (arch, macros, spilled)
        assert all(n * THREADS.get(name, 256) <= REGISTERS for name, n in used.items()), used


def test_spilling_is_seen(monkeypatch):
    text = """extern "C" __global__ void __launch_bounds__(1024, 2) spilling(float* x) {
        float a[48];
        #pragma unroll
        for (int i = 0; i < 48; i++) a[i] = x[i * 1024 + threadIdx.x];
        for (int n = 0; n < 9; n++)
            #pragma unroll
            for (int i = 0; i < 48; i++) a[i] += a[47 - i] * a[i * 5 % 48];
        #pragma unroll
        for (int i = 0; i < 48; i++) x[i * 1024 + threadIdx.x] = a[i];
    }"""
    monkeypatch.setattr(cuda, "source", lambda file: text)
    assert Compiled("spilling.cu", "sm_80").spilled["spilling"] > SPILLED


# ------------------------------------------------------------------------------------- the emulator

PRIMITIVES = """
extern __shared__ char memory[];
extern "C" __global__ void primitives(float* x, int* votes, unsigned long long* sum) {
  __shared__ float turned[64];
  float* copy = (float*)memory;
  const int i = threadIdx.x + blockDim.x * threadIdx.y, n = blockDim.x * blockDim.y;
  float* mine = x + blockIdx.x * n;
  copy[i] = mine[i];
  __syncthreads();
  turned[i] = copy[n - 1 - i];
  __syncthreads();
  double y = turned[i ^ 1];
  y += __shfl_xor_sync(~0u, y, 2) + 100 * __shfl_sync(~0u, y, 5);
  votes[blockIdx.x * n + i] = __ballot_sync(~0u, i % 3 == 0) + __any_sync(~0u, i == 40)
      + 2 * __all_sync(~0u, i < 32);
  atomicAdd(sum, (unsigned long long)i);
  mine[i] = y;
}
"""


def run(text, name, grid, block, args, shared=0, sanitizer=None):
    """Run a program's text in the emulator, under a sanitizer."""
    Emulated()  # or skip
    with pytest.MonkeyPatch.context() as patch, emulate.sanitized(sanitizer):
        patch.setattr(cuda, "source", lambda file: text)
        cuda.launch("text.cu", name, grid, block, args, shared)


@pytest.mark.parametrize("sanitizer", [None, "address", "thread"])
def test_the_emulator_does_what_cuda_says(sanitizer):
    x, votes = np.arange(128, dtype=np.float32), np.zeros(128, np.int32)
    total = np.zeros(1, np.int64)
    run(PRIMITIVES, "primitives", 2, (16, 4), [x, votes, total], 256, sanitizer)
    i = np.arange(64)
    for half in (0, 64):
        y = half + 63 - (i ^ 1)
        y = y + y[i ^ 2] + 100 * y[i // 32 * 32 + 5]
        np.testing.assert_array_equal(x[half:half + 64], y)
        ballot = [sum(1 << j for j in range(32) if (w * 32 + j) % 3 == 0) for w in (0, 1)]
        want = np.repeat([ballot[0] + 2, ballot[1] + 1], 32).astype(np.uint32).astype(np.int32)
        np.testing.assert_array_equal(votes[half:half + 64], want)
    assert total[0] == 2 * i.sum()


@pytest.mark.parametrize("pattern, replacement, sanitizer, message", [
    (0, "", "thread", "data race"), (1, "", "thread", "data race"),
    ("copy[n - 1 - i]", "copy[n - i]", "address", "AddressSanitizer: use-after-poison"),
    ("mine[i] = y", "mine[i + 1] = y", "address", "AddressSanitizer: heap-buffer-overflow"),
    ("__syncthreads();", "if (i) __syncthreads();", None, "a barrier which not all threads reach"),
    ("~0u, y, 2", "1u, y, 2", None, "a mask other than ~0u")])
def test_what_the_emulator_must_see(pattern, replacement, sanitizer, message):
    args = np.zeros(128, np.float32), np.zeros(128, np.int32), np.zeros(1, np.int64)
    text = broken(PRIMITIVES, pattern, replacement)
    with pytest.raises(RuntimeError, match=message):
        run(text, "primitives", 2, (16, 4), args, 256, sanitizer)


COPIES = """
extern __shared__ char memory[];
extern "C" __global__ void copies(const float* x, int n, float* y) {
  float (*tile)[256] = (float (*)[256])memory;
  auto fetch = [&](int step) {
    const int at = 256 * step + 4 * threadIdx.x;
    copy_async(&tile[step % 2][4 * threadIdx.x], x + at, at < n);
    commit_copies();
  };
  float sum = 0;
  fetch(0);
  for (int step = 0; step < (n + 255) / 256; step++) {
    fetch(step + 1);
    wait_copies<1>();
    __syncthreads();
    for (int i = 0; i < 4; i++) sum += tile[step % 2][255 - 4 * threadIdx.x - i];
    __syncthreads();
  }
  wait_copies<0>();
  y[threadIdx.x] = sum;
}
"""


def copies(text, sanitizer=None):
    x, y = np.arange(600, dtype=np.float32), np.zeros(64, np.float32)
    run(cuda.source("async.cuh") + text, "copies", 1, 64, [x, 600, y], 2048, sanitizer)
    return np.array_equal(y, np.pad(x, (0, 168)).reshape(3, 64, 4).sum((0, 2))[::-1])


@pytest.mark.parametrize("sanitizer", [None, "thread"])
def test_copies_arrive(sanitizer):
    assert copies(COPIES, sanitizer)


@pytest.mark.parametrize("pattern, replacement, sanitizer, message", [
    (0, "", "thread", "data race"), (1, "", "thread", "data race"),
    ("at < n", "true", "address", "heap-buffer-overflow"),
    ("x + at", "x + at + 1", None, "copy_async: not 16-byte aligned"),
    ("wait_copies<0>();", "", None, "ends before its copies have arrived"),
    ("wait_copies<1>();", "", None, None), ("wait_copies<1>", "wait_copies<2>", None, None)])
def test_copies_that_do_not(pattern, replacement, sanitizer, message):
    text = broken(COPIES, pattern, replacement)
    if message:
        with pytest.raises(RuntimeError, match=message):
            copies(text, sanitizer)
    else:
        assert not copies(text)


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(emulate.shutil, "which", lambda name: None)
    emulate.program.cache_clear()
    with pytest.raises(RuntimeError, match="conv2d.cu runs on the CPU only with g..: install it"):
        emulate.program("conv2d.cu", "", (), None)


# ----------------------------------------------------------------------------------- the sanitizers

def cases():
    """A call of every kernel at a small shape with ragged edges."""
    normal = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x, w, g = normal(2, 3, 7, 9), normal(5, 3, 3, 3), normal(2, 5, 4, 5)
    options = (2, 2), (1, 1), (1, 1), 1
    yield "matmul", (normal(70, 41), normal(41, 67), None)
    yield "conv2d", (x, w, normal(5), *options)
    yield "conv_transpose2d", (g, w, None, (7, 9), *options)
    yield "conv2d_weight", (g, x, (3, 3), *options)
    q, k, v, go = normal(1, 70, 9), normal(1, 140, 9), normal(1, 140, 17), normal(1, 70, 17)
    yield "attention", (q, k, v, normal(1, 70, 140), False, 0.3)
    o, lse = kernels.attention.reference(q, k, v, None, True, 0.3)
    yield "attention_backward", (go, o, lse.astype(np.float32), q, k, v, None, True, 0.3)
    yield "batch_norm", (normal(5, 3, 70), None, None, 1e-5)
    yield "layer_norm_backward", (*normal(2, 9, 130), *normal(1, 130), *normal(2, 9))
    yield "group_norm_backward", (*normal(2, 2, 6, 70), 3, *normal(2, 2, 6), *normal(2, 2, 3),
                                  True)
    yield "silu_backward", tuple(normal(2, 300))
    yield "avg_pool2d_transpose", (g, (7, 9), (3, 3), (2, 2), (1, 1))
    y, index = kernels.max_pool2d.reference(x, (3, 2), (2, 2), (1, 1))
    yield "max_pool2d", (x, (3, 2), (2, 2), (1, 1))
    yield "max_unpool2d", (y, index, (7, 9), (3, 2), (2, 2), (1, 1))
    yield "upsample_bilinear_transpose", (g, (7, 9))
    yield "upsample_nearest", (g, (7, 9))
    yield "log_softmax", (normal(5, 33, 1),)
    yield "softmax_backward", tuple(normal(2, 5, 33, 1))
    t = np.arange(80).reshape(2, 40) % 3
    yield "cross_entropy", (normal(2, 3, 40), t)
    yield "cross_entropy_backward", (normal(2, 40), normal(2, 3, 40), t, *normal(2, 2, 40))
    yield "random_normal", (np.zeros(1001, np.float32), np.zeros(2, np.uint64))
    yield "channel_sum", (normal(3, 5, 70),)
    yield "square_sum", (normal(5000),)
    yield "adam", (*normal(4, 300), np.array([0.5, 1e-2, 3]), 0.9, 0.99, 1e-8, 0.1, True)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize("name, args", [*cases()], ids=lambda v: v if isinstance(v, str) else "")
def test_no_kernel_races_or_leaves_its_arrays(name, args, sanitizer):
    Emulated()
    # fp32 computes scores without tensor cores
    precision = "fp32" if name == "attention_backward" else "tf32"
    with emulate.sanitized(sanitizer), kernels.precision(precision):
        getattr(kernels, name).cuda(*args)


@pytest.mark.parametrize("name, pattern, replacement, sanitizer, message", [
    ("conv2d", "__syncthreads();  // the next step", "//", "thread", "data race"),
    ("conv2d", "m < p.M ? p.y", "m <= p.M ? p.y", "address", "heap-buffer-overflow"),
    ("pack", "__syncthreads();", "", "thread", "data race"),
    ("pack", "l < L ?", "l <= L ?", "address", "heap-buffer-overflow"),
    ("attention", "#endif\n  __syncthreads();\n}", "#endif\n}", "thread", "data race"),
    ("attention", "first + row + i < rows", "true", "address", "heap-buffer-overflow"),
    ("attention", "__syncwarp();", "//", "thread", "data race"),
    ("batch_norm", "__syncthreads();  // the sum before", "//", "thread", "data race"),
    ("batch_norm", "32] = x;\n  __syncthreads();", "32] = x;", "thread", "data race"),
    ("attention", "column < width) to", "column <= width) to", "address", "heap-buffer-overflow")])
def test_a_broken_kernel_is_caught(name, pattern, replacement, sanitizer, message, monkeypatch):
    Emulated()
    source, file = cuda.source, "norm.cu" if name == "batch_norm" else f"{name}.cu"
    text = broken(source(file), pattern, replacement)
    monkeypatch.setattr(cuda, "source", lambda name: text if name == file else source(name))
    name = "matmul" if name == "pack" else name
    with pytest.raises(RuntimeError, match=message), emulate.sanitized(sanitizer):
        getattr(kernels, name).cuda(*dict(cases())[name])


def test_a_wait_that_is_too_lax_gives_no_numbers(monkeypatch):
    Emulated()
    text = broken(cuda.source("attention.cu"), "wait_copies<0>", "wait_copies<1>")
    monkeypatch.setattr(cuda, "source", lambda file: text)
    o, lse = kernels.attention.cuda(*dict(cases())["attention"])
    assert np.isnan(o).all() and np.isnan(lse).all()

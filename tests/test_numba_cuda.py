"""The CUDA kernels in Python against their references: in Numba's simulator, which must be enabled
before Numba is imported and so has its own process, and, marked `gpu`, on a device."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_checks import close, normal

from minigen import kernels


def cases(dtype):
    rng = np.random.default_rng(0)
    for options in (((2, 1), (1, 0), (1, 2), 2), ((1, 1), (1, 1), (1, 1), 1)):
        groups = options[-1]
        x, w, b = (normal(rng, dtype, *s) for s in ((2, 2 * groups, 4, 5),
                                                    (2 * groups, 2, 2, 2), (2 * groups,)))
        y = kernels.conv2d.reference(x, w, b, *options)
        yield "conv2d", (x, w, b, *options)
        yield "conv_transpose2d", (y, w, None, x.shape[2:], *options)
    q, k, v, mask = (normal(rng, dtype, *s) for s in ((2, 5, 3), (2, 4, 3), (2, 4, 2), (1, 5, 4)))
    yield "attention", (q, k, v, None, True, 0.4)
    yield "attention", (q, k, v, mask > 0, False, 0.4)
    yield "attention", (q, k, v, mask, False, 0.4)


def compare(dtype=np.float32, put=lambda a: a, get=lambda a: a):
    """Every kernel that has a numba_cuda version against its reference."""
    for name, args in cases(dtype):
        kernel = getattr(kernels, name)
        y = kernel.numba_cuda(*(put(a) if isinstance(a, np.ndarray) else a for a in args))
        close(tuple(map(get, y)) if isinstance(y, tuple) else get(y), kernel.reference(*args))


def test_in_the_simulator():
    pytest.importorskip("numba.cuda", exc_type=ImportError)
    here = Path(__file__).parent
    code = "import test_numba_cuda as t; t.compare(); t.fails_when_broken()"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=here.parent, text=True,
                          capture_output=True, env=os.environ | {
                              "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": f"{here.parent}:{here}"})
    assert done.returncode == 0, done.stderr


def fails_when_broken():
    """A kernel with an index off by one does not agree."""
    right = kernels.conv2d.versions["numba_cuda"]
    kernels.conv2d.numba_cuda = lambda x, *rest: right(np.roll(x, 1, 3), *rest)
    with pytest.raises(AssertionError):
        compare()


@pytest.mark.gpu
def test_on_a_device():
    import cupy
    for dtype in (np.float32, np.float64):
        compare(dtype, cupy.asarray, cupy.asnumpy)

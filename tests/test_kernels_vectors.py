"""The products and sums written in explicit vectors, against NumPy's; that loops over adjacent
numbers are vectorised; and what is compiled once."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_checks import DTYPES, close, normal
from llvmlite import binding
from minigen.kernels.combination import combination
from minigen.kernels.common import PAGE, compiled, empty
from minigen.kernels.once import _functions, once, once_pointers, threaded
from minigen.kernels.product import product
from minigen.kernels.transpose import transpose
from numba import njit
from numba.core.caching import IndexDataCacheFile

from minigen import kernels

# the third has two rows, the fourth two columns, that differ in signs alone
MATRICES = [np.array([[1.0, 0, -2], [0, -1, 0.5]]), np.array([[-3.0], [1], [-1], [0.25]]),
            np.array([[0, 1.0, -2, 3], [4, 1, 2, 3], [0, -1, -2, 3], [5, 0, 0, 6]]),
            np.array([[2.0, 0, 2], [3, 4, -3], [5, 0, 5], [2, 0, -2]])]
_combine = combination(MATRICES)


@once_pointers
def combine(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip):
    _combine(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip)


@compiled
def multiply(m, n, k, a, a0, row, column, b, b0, ldb, add, c, c0, ldc):
    product(m, n, k, a, a0, row, column, b, b0, ldb, add, c, c0, ldc)


@compiled
def sums(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip):
    combine(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip)


@compiled
def move(x, x0, x_rows, i0, b, b0, y, y0, y_rows, j0):
    transpose(x, x0, x_rows, i0, b, b0, y, y0, y_rows, j0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (7, 5, 3), (13, 70, 9), (6, 64, 4), (25, 47, 30),
                                     (12, 112, 1), (0, 4, 3), (3, 0, 2), (5, 16, 0), (23, 17, 5),
                                     (32, 31, 6), (14, 12, 5), (9, 44, 4)])
def test_product(m, n, k, dtype):
    rng = np.random.default_rng(0)
    a, b = normal(rng, dtype, m, k + 2), normal(rng, dtype, k, n + 1)
    c, before = normal(rng, dtype, m, n + 3), lambda x, i: np.append(np.full(i, 9), x).astype(dtype)
    expected = a[:, :k] @ b[:, :n]
    for add in (True, False):
        for x, row, column in ((a, k + 2, 1), (a.T.copy(), 1, m)):
            found = before(c, 3)
            multiply(m, n, k, before(x, 1), 1, row, column, before(b, 2), 2, n + 1, add, found, 3,
                     n + 3)
            found = found[3:].reshape(c.shape)
            close(found[:, :n], expected + c[:, :n] if add else expected)
            assert (found[:, n:] == c[:, n:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", range(len(MATRICES)))
@pytest.mark.parametrize("size", [0, 1, 15, 16, 40])
def test_combination(which, size, dtype):
    rng, M = np.random.default_rng(0), MATRICES[which].astype(dtype)
    x, y = normal(rng, dtype, 2, M.shape[1], 50), normal(rng, dtype, 2, len(M), 60)
    expected = y.copy()
    expected[:, :, 3:3 + size] = M @ x[:, :, 2:2 + size]
    sums(which, 2, size, x.ravel(), 2, 50, M.shape[1] * 50, y.reshape(-1), 3, 60, len(M) * 60)
    close(y, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype):
    rng, lanes = np.random.default_rng(0), 64 // np.dtype(dtype).itemsize
    x, b = normal(rng, dtype, lanes, lanes + 3), normal(rng, dtype, lanes + 1)
    y = normal(rng, dtype, lanes, lanes + 2)
    expected = y.copy()
    expected[:, 1:-1] = (x[:, 2:-1] + b[1:]).T[::-1]
    move(x, 2, np.arange(-1, lanes) * (lanes + 3), 1, b, 1, y, 1,
         np.arange(lanes + 2)[::-1] * (lanes + 2), 2)
    assert (y == expected).all()
    expected[:, 1:-1] = x[:, 2:-1].T
    move(x, 2, lanes + 3, 0, 0, 0, y, 1, lanes + 2, 0)  # strides for tables, and no b
    assert (y == expected).all()


@once
def doubled(x, n):
    for i in range(n):
        x[i] *= 2


@compiled
def of_lines(x):
    doubled(x[0], 2)  # a literal
    doubled(x[1], len(x))  # a variable


@compiled
def of_lines_and_back(x):
    of_lines(x)
    return x


ONCE = """
import sys
import numpy as np
from numba.core import event
sys.path.append(sys.argv[1])
import test_kernels_vectors as tests
x = np.ones((2, 3), np.float32)
with event.install_recorder("numba:compile") as compiled:
    tests.of_lines(x)
print(sum(e.is_start for _, e in compiled.buffer), x.tolist())
"""


def test_once(tmp_path):
    """A function is compiled once for all integer types, and a cached caller finds it."""
    for times in (2, 0):  # compiled: the function and its caller; nothing
        done = subprocess.run([sys.executable, "-c", ONCE, Path(__file__).parent],
                              capture_output=True, text=True,
                              env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)})
        assert done.stdout.strip() == f"{times} [[2.0, 2.0, 1.0], [2.0, 2.0, 1.0]]", done.stderr


CALL = """
import sys
import numpy as np
sys.path.append(sys.argv[1])
import test_kernels_vectors as tests
from minigen.kernels.common import chunks
from minigen.kernels.once import num_threads
x = np.ones((2, 2), np.float32)
print(eval(sys.argv[2]))
"""


@pytest.mark.parametrize("inner, outer, result", [
    ("tests.of_lines(x)", "tests.of_lines_and_back(x)[1, 1]", "2.0"),
    ("num_threads()", "chunks(1)", "1")])
def test_code_compiled_with_cached_code_is_complete_in_the_cache(tmp_path, inner, outer, result):
    """A process compiles a function, a second one its caller, and a third finds both."""
    for call in (inner, outer, outer):
        done = subprocess.run([sys.executable, "-c", CALL, Path(__file__).parent, call],
                              capture_output=True, text=True,
                              env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)})
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == result


def test_no_two_functions_have_one_name_in_the_cache():
    """Of those made in a function, one for each operation, two could, if compiled in two processes;
    a third, which loads both, would find one of them under the name."""
    names = [(f.py_func.__module__, f.py_func.__qualname__) for f in _functions.values()]
    assert len(names) == len(set(names)) > 90


@threaded
def count(i, n, calls, pair, flag, nothing):
    if i >= pair[1]:
        raise ValueError
    if nothing is None and flag:
        calls[i] += n * pair[0]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_threaded_functions_are_called_for_every_number(n):
    calls = np.zeros(max(1, n), np.int64)
    for flag in (True, False, np.True_):
        count(n, calls, (3, n), flag, None)
    assert (calls == 6 * n).all()
    if n:
        with pytest.raises(RuntimeError, match=r"vectors.count failed"):
            count(n, calls, (3, n - 1), True, None)


def test_every_cached_kernel_is_found(tmp_path):
    """A second process compiles nothing. Functions made in a function, one for each operation, once
    had keys that differed from process to process."""
    code = SECOND.replace("KERNELS", NEIGHBOURS)
    counts = [int(subprocess.check_output(
        [sys.executable, "-c", code], env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}))
        for _ in range(2)]
    assert counts[0] > 20 and counts[1] == 0


ROUNDED = """
import zlib
import numpy as np
from minigen import kernels as k
g, x = np.random.default_rng(0).standard_normal((2, 8, 32, 784), np.float32)
mean, rstd = x.mean(2), 1 / x.std(2)
gx, _, _ = k.group_norm_backward(g, x, 32, None, None, mean, rstd, False)
print(zlib.crc32(gx))
"""


def test_cached_code_is_the_code_that_was_compiled(tmp_path):
    """The same bits from the process that compiles a kernel and from the next one, which does not:
    Numba's cache keeps one of several copies of a function, which round differently."""
    compiled, cached = (subprocess.check_output(
        [sys.executable, "-c", ROUNDED], env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)})
        for _ in range(2))
    assert compiled == cached


def test_processes_that_compile_at_once_keep_their_code_apart(tmp_path):
    """Two processes find no cache files, and each saves another kind of arguments at once."""
    ours, theirs = (IndexDataCacheFile(str(tmp_path), "f", "stamp") for _ in range(2))
    theirs._load_index, save = dict, ours._save_data
    ours._save_data = lambda *args: (theirs.save("doubles", "code for doubles"), save(*args))
    ours.save("bytes", "code for bytes")
    for kind in ("bytes", "doubles"):  # None: it is compiled again
        assert ours.load(kind) in (f"code for {kind}", None)
    assert ours.load("bytes") or ours.load("doubles")


def test_code_of_other_files_is_compiled_again_after_a_change(tmp_path):
    """Numba looks only at the file of the function itself: sigmoid's, which has not changed."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(kernels.__file__).parent, folder, ignore=lambda *_: ["__pycache__"])
    exponential = folder / "exponential.py"
    for factor, result in (("", "0.5"), ("3 * ", "0.25")):
        changed = exponential.read_text().replace("* scale + scale\n", f"* scale + {factor}scale\n")
        exponential.write_text(changed)
        run = ("import numpy as np; from kernels.activation import sigmoid; "
               "print(*sigmoid(np.zeros(1, np.float32)))")
        assert subprocess.check_output([sys.executable, "-c", run], cwd=tmp_path,
                                       text=True).strip() == result


def test_arrays_are_lent_to_compiled_functions():
    """Without the memory block (third argument of the call), whose references would be counted."""
    @njit
    def lend(x):
        doubled(x[0], 2)

    lend(np.ones((2, 3)))
    code = lend.overloads[lend.signatures[0]].library.get_llvm_str()
    call, = re.findall(r'call .*vectors\.doubled.*"\((.*)\)', code)
    assert call.split(", ")[2] == "ptr null"


def test_large_results_start_a_page():
    for shape in ((100, 200), (1, 3, 0), (7,), (64, 33, 5)):
        for dtype in DTYPES:
            a = empty(shape, dtype)
            assert a.shape == shape and a.dtype == dtype and a.flags.c_contiguous
            a[...] = 1  # ours to write
            assert a.nbytes < 4 * PAGE or a.ctypes.data % PAGE == 0


SECOND = """
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    exec('''KERNELS''')
print(sum(e.is_start for _, e in compiled.buffer))
"""

NEIGHBOURS = """
import numpy as np
from minigen import kernels as k
x, scalars = np.ones((2, 3, 16384), np.float32), (1.0, 0.1, 1)
k.add(x, x), k.multiply(x, x[:, :1, :1]), k.join(x[0], x[1])
k.select(x, x[0], x > 0), k.select(x, x[0, 0, :1], x > 0), k.clip(x, 0, 1), k.sign(x)
k.relu(x), k.relu_backward(x, x), k.softplus(x), k.softmax(x), k.log1p(x), k.erf(x)
k.adam(x, x.copy(), x.copy(), x.copy(), scalars, 0.9, 0.999, 1e-8, 0.0, False)
k.batch_norm(x, None, None, 1e-5), k.group_norm(x, 3, None, None, 1e-5, True)
"""


@pytest.mark.skipif(not binding.get_host_cpu_features().get("avx2"), reason="no gathers here")
def test_loops_over_neighbours_load_vectors(tmp_path):
    """Instead of gathering and scattering their numbers: see common.part."""
    done = subprocess.run([sys.executable, "-c", NEIGHBOURS], capture_output=True, text=True,
                          env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path),
                                            "NUMBA_DUMP_ASSEMBLY": "1"})
    assert done.returncode == 0, done.stderr
    assert re.search(r"\bvaddps\s+.*[yz]mm", done.stdout)
    assert not re.findall(r"\bvp?(?:gather|scatter)\w+", done.stdout)

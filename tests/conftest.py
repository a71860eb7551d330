"""Set-up for all tests."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest
from PIL import Image

# A failed assertion in a shared helper module shows its values, as one in a test does.
pytest.register_assert_rewrite("data_files", "cuda_checks", "kernel_checks", "tiny_demo")

# Parallel test processes (pytest -n) share the cores. Each has two threads, so that threaded code
# still runs with threads, and these sleep while they wait. NumPy's, of matrix products, would spin,
# so there is one. The libraries read the variables when they are loaded, which is later.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ |= {"NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive",
                   "OPENBLAS_NUM_THREADS": "1"}

# If a shell starts the tests in the background, they and the programs they start ignore Ctrl-C
# (SIGINT), which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The lecture's site, with one run of a demo: the folder `out`, written in `seconds`."""
    from minigen.lecture.__main__ import main

    runs, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("site")
    run = runs / "vae-glyphs"
    run.mkdir()
    (run / "config.json").write_text('{"system": "vae", "options": {"data": "glyphs"}}')
    (run / "metrics.json").write_text('{"test_neg_elbo_nats": 107.4}')
    for name in ("samples", "manifold"):
        Image.new("L", (8, 8)).save(run / f"{name}.png")
    began = time.process_time()  # CPU time: other load does not count
    assert main(["page", "--out", str(out), "--runs", str(runs)]) == 0
    return SimpleNamespace(out=out, seconds=time.process_time() - began)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests stay in one process, so that what they share is compiled once. On a device
    (pytest -m gpu) every test goes to whichever process is free: otherwise one would get all
    demos."""
    from xdist.scheduler import LoadFileScheduling, LoadScheduling
    return (LoadScheduling if config.option.markexpr == "gpu" else LoadFileScheduling)(config, log)


def pytest_collection_modifyitems(items):
    from cuda_checks import devices
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not devices():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def on(request):
    """Where a CUDA kernel runs: in the emulator, or on a device (marked gpu)."""
    from cuda_checks import Device, Emulated
    return Device() if request.param == "gpu" else Emulated()


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def cupy(request, monkeypatch):
    """The module `cupy`, or its stand-in."""
    from minigen.kernels import cuda
    if request.param == "stand-in":
        from cuda_checks import Emulated
        from stand_in import modules
        Emulated()  # or skip
        for name, module in modules().items():
            monkeypatch.setitem(sys.modules, name, module)
    cuda._function.cache_clear()
    yield __import__("cupy")
    cuda._function.cache_clear()


@pytest.fixture
def quick_cupy(cupy, monkeypatch):
    """The module `cupy`, or its stand-in with the CPU's kernels instead of the emulator: a hundred
    times as fast."""
    from stand_in import ndarray, with_kernels_of_the_cpu
    if cupy.ndarray is ndarray:
        with_kernels_of_the_cpu(monkeypatch)
    return cupy

"""One side of a benchmark, in a process of its own.

    python -m side_by_side.worker SIDE MODULE SHARED THREADS DEVICE [BATCH SIDE_LENGTH]

SIDE is minigen, recorded (minigen with recorded steps), pytorch or compiled (PyTorch with
torch.compile). It writes lines of JSON: at the start the names of its functions, with the first
loss and the memory used if it trains; then, for each input line ``NAME SECONDS``, the seconds per
call of that function, averaged over about SECONDS. On a device (cuda) products of float32 round
their factors to TF32.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

from side_by_side import Target


def main(answers, side, module, shared, threads, device, *sizes):
    for library in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[library] = threads
    ours = side in ("minigen", "recorded")
    wait = (minigen if ours else pytorch)(int(threads), device)
    imported = peak()
    module = importlib.import_module(f"side_by_side.{module}")
    if ours:
        calls = module.minigen(shared, Target(device, side == "recorded"), *map(int, sizes))
    else:
        import torch
        calls = module.pytorch(shared, torch.compile if side == "compiled" else lambda f: f)
    first = {}
    if "train" in calls:
        first = {"loss": calls["train"]()}
        for _ in range(4):
            calls["train"]()
        first["memory"] = peak() - imported
    if side == "recorded":  # the first call is not recorded, the second one is
        for _ in range(2):
            calls["sample"]()
    answer(answers, names=list(calls), **first)
    for line in sys.stdin:
        name, _, seconds = line.strip().rpartition(" ")
        answer(answers, seconds=timed(calls[name], float(seconds), wait))


def minigen(threads, device):
    """Prepare minigen's side; returns a function that waits for the device."""
    from minigen.memory import keep_freed
    keep_freed()
    if device == "cpu":
        return lambda: None
    import cupy
    os.environ["MINIGEN_PRECISION"] = "tf32"
    return cupy.cuda.runtime.deviceSynchronize


def pytorch(threads, device):
    """Prepare PyTorch's side; returns a function that waits for the device."""
    import torch
    torch.set_num_threads(threads)
    if device == "cpu":
        return lambda: None
    torch.set_default_device(device)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    return torch.cuda.synchronize


def timed(call, seconds, wait):
    """Seconds per call, the mean of as many calls as fit in about `seconds`. Before these, one call
    that may have to compile, and one that shows how long a call takes."""
    def run(n):
        began = time.perf_counter()
        for _ in range(n):
            call()
        wait()
        return (time.perf_counter() - began) / n

    run(1)
    once = run(1)
    n = round(seconds / once)
    return run(n) if n > 1 else once


def peak():
    """The peak memory of this process in MiB. Linux's ru_maxrss would also count the memory that
    the parent process had when it started this one."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (
            20 if sys.platform == "darwin" else 10)


def answer(answers, **message):
    print(json.dumps(message), file=answers, flush=True)


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not mix with answers
    main(answers, *sys.argv[1:])

"""The proof that an equation's check can fail: alter its line, and its tests must notice.

For each id, each line tagged with it and each mutant of that line, the tests tagged with the id run
on a copy of the checkout that holds the mutant. A mutant is killed when a test fails; that it only
crashes (any exception but an assertion's) proves little, so at least one mutant of each line must
be noticed by an assertion.
"""

import contextlib
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minigen.lecture.mutate import MOST, mutants
from minigen.lecture.tags import checkout, scan

SECONDS = 120  # a mutant may loop forever
PARTS = ("minigen", "kernels", "tests", "demos", "pyproject.toml", "README.md")
SUMMARY = re.compile(r"^(?:FAILED|ERROR) (\S+)(.*)$", re.M)


def prove(ids, root=None, workers=2, most=MOST, say=print):
    """Print a line for each mutant (at most `most`) of each line tagged with one of the ids, and
    give the complaints: a list of lines, empty when every check can fail. With fewer than MOST a
    crash is enough: which of a line's mutants meets an assertion is not known."""
    root = Path(root or checkout())
    found, bad, jobs = scan(root), [], []

    def complain(text):
        bad.append(text)
        say(text, flush=True)

    for id in ids:
        if not found.code[id] or not found.checks[id]:
            complain(f"{id}  has no {'check' if found.code[id] else 'line of code'}")
            continue
        tests = sorted({f"{spot.path}::{spot.name}" for spot in found.checks[id]})
        for spot in found.code[id]:
            altered = mutants((root / spot.path).read_text(encoding="utf-8"), spot.line) \
                if spot.path.endswith(".py") else []
            if not altered:
                complain(f"{id}  {spot}  nothing to alter: move the tag to the line that computes")
            jobs += [(id, spot, mutant, tests) for mutant in altered[:most]]

    with contextlib.ExitStack() as stack:
        copies = queue.SimpleQueue()
        for _ in range(min(workers, len(jobs))):
            copies.put(_copy(root, stack.enter_context(tempfile.TemporaryDirectory())))
        failing = {}
        if jobs:
            first = copies.get()
            failing = _run(first, sorted({test for job in jobs for test in job[3]}), stop=False)
            copies.put(first)
        for test in sorted(failing):
            complain(f"{test} fails before anything is altered ({failing[test]})")
        jobs = [job for job in jobs if not failing.keys() & set(job[3])]

        def attempt(job):
            _, spot, mutant, tests = job
            copy = copies.get()
            path = copy / spot.path
            original, times = path.read_bytes(), path.stat()
            try:
                path.write_text(mutant.text, encoding="utf-8")
                return next(iter(_run(copy, tests).values()), None)
            finally:  # the old time too, by which Numba knows the kernels it has compiled
                path.write_bytes(original)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
                copies.put(copy)

        noticed = {}
        with ThreadPoolExecutor(workers) as pool:
            for (id, spot, mutant, _), verdict in zip(jobs, pool.map(attempt, jobs), strict=True):
                line = f"{id}  {spot}  {mutant.change}"
                if verdict is None:
                    complain(f"{line}  SURVIVED")
                else:
                    say(f"{line}  killed ({verdict})", flush=True)
                noticed.setdefault((id, spot), []).append(verdict in (None, "assertion"))
    for (id, spot), verdicts in noticed.items():
        if most == MOST and not any(verdicts):
            complain(f"{id}  {spot}  SURVIVED: its mutants crash, but no assertion notices one")
    return bad


def _copy(root, folder):
    """What the tests need, with Numba's compiled kernels but without Python's (a mutant may have
    the size and the time of the file it replaces)."""
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, Path(folder, part), ignore=shutil.ignore_patterns("*.pyc"))
        elif (root / part).exists():
            shutil.copy2(root / part, Path(folder, part))
    return Path(folder)


def _run(copy, tests, stop=True):
    """The tests that fail, and how: "assertion" or the name of another exception. A file that
    cannot be read, or a test that takes forever, fails all tests."""
    env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "500",
                        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # a second saved at each start
    command = [sys.executable, "-m", "pytest", *["-x"] * stop, "-q", "-rfE", "--tb=no", "-p",
               "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True,
                              timeout=SECONDS if stop else None)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(tests, f"not done in {SECONDS} s")
    failed = {}
    for test, why in SUMMARY.findall(done.stdout):
        error = re.match(r" - ([\w.]+)(?=:|$)", why)
        kind = error[1].rpartition(".")[2] if error else "assertion"
        kind = "assertion" if kind in ("AssertionError", "Failed") else kind
        file, name = test.partition("::")[0], test.partition("[")[0]
        failed |= {t: kind for t in tests if t == name or test == file == t.partition("::")[0]}
    if (done.returncode == 0) == bool(failed):
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{done.stdout}{done.stderr}")
    return failed

"""The proof that an equation's check can fail: when its line is altered, its tests must notice.

For each id, each line tagged with it and each mutant of that line, the tests tagged with the id are
run on a copy of the checkout that contains the mutant. A mutant is killed when a test fails. A
crash (any exception but an assertion's) proves little, so at least one mutant of each line must be
noticed by an assertion.
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

from minigen.lecture.mutate import MAX_MUTANTS, mutants
from minigen.lecture.tags import checkout, scan

SECONDS = 120  # a mutant may loop forever
PARTS = ("minigen", "kernels", "tests", "demos", "pyproject.toml", "README.md")
SUMMARY = re.compile(r"^(?:FAILED|ERROR) (\S+)(.*)$", re.M)


def prove(ids, root=None, workers=2, max_mutants=MAX_MUTANTS, log=print):
    """Print a line for each mutant (at most `max_mutants`) of each line tagged with one of the ids,
    and return the complaints: a list of lines, empty when every check can fail. With fewer than
    MAX_MUTANTS a crash is enough, since it is not known which of a line's mutants an assertion
    notices."""
    root = Path(root or checkout())
    found, complaints, jobs = scan(root), [], []

    def complain(text):
        complaints.append(text)
        log(text, flush=True)

    for id in ids:
        if not found.code[id] or not found.checks[id]:
            complain(f"{id}  has no {'check' if found.code[id] else 'line of code'}")
            continue
        tests = sorted({f"{tag.path}::{tag.name}" for tag in found.checks[id]})
        for tag in found.code[id]:
            mutated = mutants((root / tag.path).read_text(encoding="utf-8"), tag.line) \
                if tag.path.endswith(".py") else []
            if not mutated:
                complain(f"{id}  {tag}  nothing to alter: move the tag to the line that computes")
            jobs += [(id, tag, mutant, tests) for mutant in mutated[:max_mutants]]

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
            _, tag, mutant, tests = job
            copy = copies.get()
            path = copy / tag.path
            original, times = path.read_bytes(), path.stat()
            try:
                path.write_text(mutant.text, encoding="utf-8")
                return next(iter(_run(copy, tests).values()), None)
            finally:  # with its old time: Numba's cache of compiled kernels depends on it
                path.write_bytes(original)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
                copies.put(copy)

        by_assertion = {}
        with ThreadPoolExecutor(workers) as pool:
            for (id, tag, mutant, _), verdict in zip(jobs, pool.map(attempt, jobs), strict=True):
                line = f"{id}  {tag}  {mutant.change}"
                if verdict is None:
                    complain(f"{line}  SURVIVED")
                else:
                    log(f"{line}  killed ({verdict})", flush=True)
                by_assertion.setdefault((id, tag), []).append(verdict in (None, "assertion"))
    for (id, tag), verdicts in by_assertion.items():
        if max_mutants == MAX_MUTANTS and not any(verdicts):
            complain(f"{id}  {tag}  SURVIVED: its mutants crash, but no assertion notices one")
    return complaints


def _copy(root, folder):
    """Copy what the tests need: Numba's compiled kernels, except those being written, but no Python
    bytecode (a mutant may have the same size and time as the file it replaces)."""
    ignore = shutil.ignore_patterns("*.pyc", "*.tmp.*")
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, Path(folder, part), ignore=ignore)
        elif (root / part).exists():
            shutil.copy2(root / part, Path(folder, part))
    return Path(folder)


def _run(copy, tests, stop=True):
    """The failing tests, each with "assertion" or the name of another exception. If a file cannot
    be read, all its tests fail; if the run takes too long, all tests do."""
    env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "500",
                        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # saves a second per start
    command = [sys.executable, "-m", "pytest", *["-x"] * stop, "-q", "-rfE", "--tb=no", "-p",
               "no:cacheprovider", *tests]
    try:
        result = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True,
                                timeout=SECONDS if stop else None)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(tests, f"not done in {SECONDS} s")
    failed = {}
    for test, why in SUMMARY.findall(result.stdout):
        error = re.match(r" - ([\w.]+)(?=:|$)", why)
        kind = error[1].rpartition(".")[2] if error else "assertion"
        kind = "assertion" if kind in ("AssertionError", "Failed") else kind
        file, name = test.partition("::")[0], test.partition("[")[0]
        failed |= {t: kind for t in tests if t == name or test == file == t.partition("::")[0]}
    if (result.returncode == 0) == bool(failed):
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n"
                           f"{result.stdout}{result.stderr}")
    return failed

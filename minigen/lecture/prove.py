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

from minigen.lecture.mutate import mutants
from minigen.lecture.tags import checkout, scan

SECONDS = 120  # a mutant may loop forever
PARTS = ("minigen", "kernels", "tests", "demos", "pyproject.toml", "README.md")
SUMMARY = re.compile(r"^(?:FAILED|ERROR) \S+(?: - (?P<why>.*))?$", re.M)


def prove(ids, root=None, workers=2, say=print):
    """Print a line for every mutant of every line tagged with one of the ids, and give what
    survived: a list of lines, empty when every check can fail."""
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
            jobs += [(id, spot, mutant, tests) for mutant in altered]

    with contextlib.ExitStack() as stack:
        copies = queue.SimpleQueue()
        for _ in range(min(workers, max(1, len(jobs)))):
            copies.put(_copy(root, stack.enter_context(tempfile.TemporaryDirectory())))
        every = sorted({test for job in jobs for test in job[3]})
        if every:
            first = copies.get()
            verdict = _run(first, every)
            copies.put(first)
            if verdict:
                complain(f"the tests fail before anything is altered: {verdict}")
                return bad

        def attempt(job):
            _, spot, mutant, tests = job
            copy = copies.get()
            try:
                (copy / spot.path).write_text(mutant.text, encoding="utf-8")
                return _run(copy, tests)
            finally:
                shutil.copy2(root / spot.path, copy / spot.path)
                copies.put(copy)

        asserted = {}
        with ThreadPoolExecutor(workers) as pool:
            for (id, spot, mutant, _), verdict in zip(jobs, pool.map(attempt, jobs), strict=True):
                line = f"{id}  {spot}  {mutant.change}"
                if verdict is None:
                    complain(f"{line}  SURVIVED")
                else:
                    say(f"{line}  killed ({verdict})", flush=True)
                key = (id, spot)
                asserted[key] = asserted.get(key, False) or verdict in (None, "assertion")
    for (id, spot), noticed in asserted.items():
        if not noticed:
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


def _run(copy, tests):
    """How the tests fail: None (they pass), "assertion", or the name of another exception."""
    env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "500"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p",
               "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True,
                              timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"over {SECONDS} s"
    if done.returncode == 0:
        return None
    found = SUMMARY.search(done.stdout)
    if done.returncode not in (1, 2) or not found:
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{done.stdout}{done.stderr}")
    why = found["why"] or "assertion"
    name = re.match(r"[\w.]+(?=:|$)", why)
    if not name or name[0].rpartition(".")[2] in ("AssertionError", "Failed", "assertion"):
        return "assertion"
    return name[0]

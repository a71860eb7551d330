"""minigen against PyTorch on the same cores: training steps, samples, ops, memory, imports.

    python demos/bench.py                          all rows (about 5 minutes)
    python demos/bench.py --only models            vae, dcgan, pixelcnn and ddpm
    python demos/bench.py --device cuda            models and kernels on a CUDA device (8 minutes)
    python demos/bench.py --json FILE              also write the numbers to a file
    python demos/bench.py --quick                  a moment for each row: to see that it runs

Each side runs in its own process with the same number of threads, from the same weights, on the
same batch, in float32 (demos/side_by_side/ has both). The sides take turns, and the median over the
rounds is reported. A ratio is PyTorch's time over minigen's: above 1, minigen is faster. Needs
`pip install torch`; nothing else should be running.

On a device both sides round the factors of the models' products to TF32, "recorded" is minigen with
recorded steps, and a kernel's rate is given with the rate that PyTorch's matrix product of the same
precision (or its copy) reaches there.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minigen import info
from minigen.demo import at_least, cli
from minigen.nn.parameters import write_bytes
from minigen.train import UserError
from side_by_side.kernels import ceilings, precision, table

ROOT = Path(__file__).resolve().parent.parent
MODELS = {"vae": "VAE", "dcgan": "DCGAN", "pixelcnn": "PixelCNN", "ddpm": "DDPM"}
GROUPS = {"cpu": ("imports", "models", "ops"), "cuda": ("models", "kernels")}
UNITS = {"TFLOP/s": 1e12, "GB/s": 1e9}
TOLERANCE = {"cpu": 1e-4, "cuda": 5e-3}  # relative tolerance between the sides' first losses


class Side:
    """A process that times functions on request: see side_by_side/worker.py."""

    def __init__(self, name, module, shared, threads, device="cpu", *sizes):
        self.name, self.process = name, subprocess.Popen(
            [sys.executable, "-m", "side_by_side.worker", name, module, shared,
             *map(str, [threads, device, *sizes])],
            cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.info = self._answer()

    def time(self, name, seconds):
        self.process.stdin.write(f"{name} {seconds}\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"the {self.name} side ended (exit code {self.process.wait()}): "
                            "see its message above")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("imports", "models", "ops", "kernels", *MODELS),
                        help="one part of the table")
    parser.add_argument("--device", choices=GROUPS, default="cpu", help="where to compute")
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count(), metavar="N",
                        help="threads of each side (default: all cores)")
    parser.add_argument("--rounds", type=at_least(1), metavar="N",
                        help="turns of each side (default: 7, or 5 on a device)")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    parser.add_argument("--quick", action="store_true", help="one short round")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("torch") is None:
        raise UserError("PyTorch is not installed, so there is nothing to compare with: "
                        "pip install torch")
    args.rounds = args.rounds or {"cpu": 7, "cuda": 5}[args.device]
    if args.quick:
        args.rounds = 1
    about = machine(args.threads, "torch")
    if args.device == "cuda":
        info.module(args.device)  # or a UserError
        about["device"] = info.driver()[1][0]
    print("; ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    rows = []
    for subject in subjects(args.only, GROUPS[args.device]):
        rows += measure(subject, args)
        if args.json:  # each time, so that a run that is cut short leaves what it has measured
            found = {**about, "rows": rows, **summary(rows)}
            write_bytes(Path(args.json), (json.dumps(found, indent=1) + "\n").encode())
    print(f"\n{markdown(rows)}\n\n" + "\n".join(f"{k}: {v}" for k, v in summary(rows).items()))
    return rows


def subjects(only, groups):
    if only in MODELS:
        return [only]
    if only not in (None, *groups):
        raise UserError(f"--only {only} is not measured on this device: give one of "
                        f"{', '.join(groups)}")
    return [s for group in groups if only in (None, group)
            for s in (MODELS if group == "models" else [group])]


def measure(subject, args):
    """The rows of a subject: dicts with `what` was timed, the milliseconds of each side, and the
    `ratio`, PyTorch's over minigen's."""
    if subject == "imports":
        return [imports(args.rounds)]
    seconds = 0.01 if args.quick else 0.5 if subject in MODELS else 0.1
    with tempfile.TemporaryDirectory() as shared:
        def side(name):
            return Side(name, subject, shared, args.threads, args.device)

        if subject == "kernels":
            with side("minigen") as ours, side("pytorch") as theirs:
                return rates(ours, theirs, seconds, args.rounds)
        print(f"{subject}: compiling", flush=True)
        with side("minigen"):  # fills the compile cache: compiling would count as memory
            pass
        with side("minigen") as ours, side("pytorch") as theirs:
            rows = [timed(subject, name, [ours, theirs], seconds, args.rounds)
                    for name in ours.info["names"] if name in theirs.info["names"]]
            rows += sampler_rows(subject, ours, theirs, seconds, args.rounds)
            if subject not in MODELS:
                return rows
            rows[0] |= agreement(ours.info["loss"], theirs.info["loss"], TOLERANCE[args.device])
            if not args.quick:
                with side("compiled") as compiled:
                    rows[0]["compiled"] = 1e3 * statistics.median(
                        compiled.time("train", seconds) for _ in range(args.rounds))
            if args.device == "cuda":
                return [*rows, *recorded(subject, rows, side, seconds, args.rounds)]
        return [*rows, {"what": f"{MODELS[subject]}: memory of a training step, MiB",
                        **ratio(ours.info["memory"], theirs.info["memory"])}]


def timed(subject, name, sides, seconds, rounds):
    """A row: the sides take turns, and the median of each is reported."""
    times = [[side.time(name, seconds) for side in sides] for _ in range(rounds)]
    ours, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    what = f"{MODELS[subject]}: {name}" if subject in MODELS else name
    print(f"  {what}: {ours:.3g} ms, PyTorch {theirs:.3g} ms", flush=True)
    return {"what": what, **ratio(ours, theirs)}


def recorded(subject, rows, side, seconds, rounds):
    """The rows of training and sampling once more, with minigen's steps recorded."""
    found = []
    with side("recorded") as ours:
        times = {name: 1e3 * statistics.median(ours.time(name, seconds) for _ in range(rounds))
                 for name in ("train", "sample")}
        for row in rows:
            name = row["what"].removeprefix(f"{MODELS[subject]}: ").partition(",")[0]
            if name in times:
                found.append({"what": f"{row['what']}, recorded",
                              **ratio(times[name], row["pytorch"])})
    return found


def rates(ours, theirs, seconds, rounds):
    """The rows of the kernels, with their rates, and these as shares of the ceiling."""
    def best_rate(unit):
        return ceilings()[unit][1] / min(theirs.time(unit, seconds) for _ in range(rounds))

    rows, peaks = [], {unit: best_rate(unit) for unit in ceilings()}
    for name, (_, work, unit, *_) in table().items():
        row = timed("kernels", name, [ours, theirs], seconds, rounds)
        rate = 1e3 * work / row["minigen"]
        peak = peaks[unit if unit in peaks else f"{unit}, {precision(name)}"]
        rows.append(row | {"rate": f"{rate / UNITS[unit]:.3g} {unit}, {rate / peak:.0%} of "
                                   f"{peak / UNITS[unit]:.3g}"})
    return rows


def sampler_rows(subject, ours, theirs, seconds, rounds):
    """Rows that compare PixelCNN's sampler with the naive loop, PyTorch's and minigen's own."""
    if subject != "pixelcnn":
        return []
    naive = next(name for name in ours.info["names"] if "naively" in name)
    times = [[ours.time("sample", seconds), ours.time(naive, seconds), theirs.time(naive, seconds)]
             for _ in range(rounds)]
    cached, own, other = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    whole = 784 / int(naive.split()[0])
    return [{"what": "PixelCNN: sample, against the naive loop of PyTorch",
             **ratio(cached, whole * other)},
            {"what": "PixelCNN: sample, against minigen's own naive loop",
             **ratio(cached, whole * own)}]


def imports(rounds):
    """The row of the imports: milliseconds until a library is imported, in a new process each time.
    """
    def once(library):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {library}"], cwd=ROOT, env=environment(),
                       check=True)
        return 1e3 * (time.perf_counter() - began)

    times = [(once("minigen"), once("torch")) for _ in range(rounds + 1)][1:]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return {"what": "import", **ratio(ours, theirs)}


def agreement(ours, theirs, tolerance):
    error = abs(ours - theirs) / abs(theirs)
    return {"losses": "agree" if error <= tolerance else f"DIFFER by {error:.1e}"}


def ratio(ours, theirs):
    return {"minigen": ours, "pytorch": theirs, "ratio": theirs / ours}


def summary(rows):
    """Geometric means of the ratios."""
    def mean(*ends):
        found = [row["ratio"] for row in rows if row["what"].endswith(ends)]
        return math.exp(statistics.fmean(map(math.log, found))) if found else None

    convolutions = [row for row in rows if row["what"].startswith("conv")]
    means = {"training steps, geometric mean": mean(": train"),
             "sampling": mean(": sample")}
    for way in ("forward", "forward + backward"):
        found = [math.log(r["ratio"]) for r in convolutions if r["what"].endswith(f": {way}")]
        means[f"convolutions, {way}"] = math.exp(statistics.fmean(found)) if found else None
    return {key: round(value, 2) for key, value in means.items() if value}


def markdown(rows):
    lines = ["| | minigen | PyTorch | ratio | torch.compile | first losses; rate of the kernel |",
             "|---|---|---|---|---|---|"]
    for row in rows:
        compiled = f"{row['compiled']:.3g}" if "compiled" in row else ""
        lines.append(f"| {row['what']} | {row['minigen']:.3g} | {row['pytorch']:.3g} | "
                     f"{row['ratio']:.2f} | {compiled} | "
                     f"{row.get('losses', row.get('rate', ''))} |")
    return "\n".join(lines)


def machine(threads, *libraries):
    """The hardware and the versions on which the numbers depend."""
    cpu = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "numba", *libraries)}
    return {"cpu": cpu, "threads": threads, "python": platform.python_version(), **versions}


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(
        [str(ROOT), str(ROOT / "demos"), *filter(None, [os.environ.get("PYTHONPATH")])])}


if __name__ == "__main__":
    cli(main)

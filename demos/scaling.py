"""How the time of minigen's training steps grows with the batch, the image and the threads.

    python demos/scaling.py                        the table, and runs/scaling/scaling.png
    python demos/scaling.py --quick                two small sizes, to see that it runs

Each model of demos/bench.py is timed at its demo's size except for what is varied, in a separate
process for each number of threads. What counts is the time per image: where it stops falling with
the batch size, the machine is saturated; where a second thread does not halve it, something else
limits the speed.
"""

import argparse
import math
import os
import tempfile
from pathlib import Path

from bench import MODELS, Side, machine
from minigen import pictures
from minigen.demo import cli
from minigen.nn.parameters import write_bytes
from minigen.train import writing

BATCHES, SIDES = (1, 4, 16, 64, 256), (16, 28, 48, 64)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/scaling", metavar="DIR",
                        help="folder of the table and the plot")
    parser.add_argument("--quick", action="store_true", help="two small sizes of one model")
    args = parser.parse_args(argv)
    out = Path(args.out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    models = ["vae"] if args.quick else MODELS
    sizes = [(1, 28), (4, 28)] if args.quick else [
        *((batch, 28) for batch in BATCHES), *((16, side) for side in SIDES if side != 28)]
    threads = sorted({1, os.cpu_count()})
    seconds = 0.01 if args.quick else 1.0
    times = {(model, n, *size): step(model, n, *size, seconds)
             for model in models for size in sizes for n in threads}
    text = table(times, models, sizes, threads)
    about = "; ".join(f"{key} {value}" for key, value in machine(max(threads)).items())
    print(f"{about}\n\n{text}")
    write_bytes(out / "scaling.md", f"{about}\n\n{text}\n".encode())
    batches = [batch for batch, side in sizes if side == 28]
    with writing(out / "scaling.png"):
        pictures.lines(out / "scaling.png",
                       *(panel(times, model, batches, threads) for model in models))


def panel(times, model, batches, threads):
    """A panel for pictures.lines: time per image over batch size, a curve per number of threads."""
    curves = {f"{n} thread{'s' * (n > 1)}": (
        batches, [1e3 * times[model, n, b, 28] / b for b in batches]) for n in threads}
    found = [y for _, ys in curves.values() for y in ys]
    ticks = [2.0**k for k in range(math.floor(math.log2(min(found))),
                                   math.ceil(math.log2(max(found))) + 1)]
    return {"title": MODELS[model], "curves": curves, "xlabel": "batch size", "xscale": "log",
            "xticks": batches, "xticklabels": batches, "ylabel": "milliseconds per image",
            "yscale": "log", "yticks": ticks, "yticklabels": [f"{tick:g}" for tick in ticks]}


def step(model, threads, batch, side, seconds):
    """Seconds per training step."""
    sizes = "cpu", batch, side
    with tempfile.TemporaryDirectory() as shared, Side("minigen", model, shared, threads,
                                                       *sizes) as worker:
        found = worker.time("train", seconds)
    print(f"{MODELS[model]}: {batch} images of {side}×{side}, {threads} threads: "
          f"{1e3 * found:.3g} ms", flush=True)
    return found


def table(times, models, sizes, threads):
    """Milliseconds per step: a row for each size, a column for each model and number of threads."""
    columns = [(model, n) for model in models for n in threads]
    lines = ["| images | " + " | ".join(f"{MODELS[m]}, {n}" for m, n in columns) + " |",
             "|---|" + "---|" * len(columns)]
    for batch, side in sizes:
        cells = " | ".join(f"{1e3 * times[model, n, batch, side]:.3g}" for model, n in columns)
        lines.append(f"| {batch} of {side}×{side} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli(main)

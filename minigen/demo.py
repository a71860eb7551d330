"""The command line of a demo: its flags, its data, and its folder of results.

    def main(argv=None):
        run = Demo("vae", __doc__, argv, data=("glyphs", "mnist"), batch=128,
                   steps={"glyphs": 1000, "mnist": 4000},
                   flags=lambda p: p.add_argument("--latent", type=at_least(1), default=16))
        model = convolutional(run.data.shape, run.args.latent)
        nn.init(model, run.rng)
        opt = optim.Adam(nn.parameters(model), lr=1e-3)

        def step(t, rng):
            loss, parts = model.loss(binarise(run.batch(t) / np.float32(255), rng), rng)
            return train.descend(opt, loss, parts)

        run.fit(step, model=model, opt=opt)
        run.picture("samples", model.generate(100, run.rng).mean)
        run.finish({"test_neg_elbo_nats": ...})

    if __name__ == "__main__":
        cli(main)

Every demo accepts --data, --data-dir, --download, --steps, --batch, --seed, --device, --precision,
--out, --resume and --quick, and writes into --out: config.json, log.jsonl, losses.png, its
pictures, metrics.json and last.safetensors.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import shlex
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import numba
import numpy as np

from minigen import data, kernels, nn, pictures, train
from minigen.info import module
from minigen.nn.parameters import write_bytes
from minigen.recorded import recorded_step
from minigen.train import UserError, writing

QUICK = {"steps": 4, "batch": 8, "n_train": 64, "n_test": 32}
# Options that may differ when a run is resumed.
MAY_CHANGE = {"data_dir", "download", "out", "resume", "device", "precision"}
INIT = 0x1417  # separates the generator of the initial weights from that of step t, (seed, t)


def cli(main):
    """Run a demo's `main` as a program: a mistake of the user's prints one line and exits with code
    2, Ctrl-C prints one line and exits with 130."""
    sys.stdout.reconfigure(errors="replace")  # some terminals cannot show ×
    try:
        main()
    except (UserError, data.DataError) as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as e:
        print(f"error: not enough memory ({e}): smaller sizes or a smaller --batch need less",
              file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as e:
        print(str(e) or "interrupted", file=sys.stderr)
        sys.exit(130)


class Demo:
    """One run of a demo.

    system: the demo's name; doc: its docstring, whose first paragraph --help shows
    argv: the arguments; None means those of the process
    data: the names of the data sets it accepts, the default first; a name that is not in data.NAMES
        means that the demo generates its own samples: `run.data` is then None
    steps, batch: the defaults of --steps and --batch: a number, or a dict by data set
    flags: a function that adds the demo's own flags to an argparse parser
    complete: a function that may change the arguments once they are parsed
    min_batch: the smallest --batch allowed; 2 if the loss compares one pair with others
    staged: whether the steps are divided into stages: a resumed run must then keep their number

    Attributes: `args`, all flags by name; `data`, the Dataset; `rng`, the generator for the initial
    weights, then for samples; `quick`, whether everything should be tiny; `out`, the folder.

    Raises UserError for arguments that cannot be satisfied, DataError for missing data.
    """

    def __init__(self, system, doc, argv=None, *, data=data.NAMES, steps, batch, flags=None,
                 complete=lambda args: None, min_batch=1, staged=False):
        self.system, self.started, self.earlier = system, time.perf_counter(), 0.0
        self._arguments(doc, argv, data, steps, batch, flags, complete, min_batch, staged)
        self.out, self.quick = Path(self.args.out), self.args.quick
        self.rng = np.random.default_rng((self.args.seed, 0, INIT))
        self.xp, self.device = np, module(self.args.device)
        self.data = _load(self.args)
        print(f"{system}: {self.args.steps} steps of {self.args.batch} "
              f"{'images' if self.data else 'samples'}, seed {self.args.seed}, results in "
              f"{self.out}", flush=True)
        if self.data:
            print(self.data, flush=True)
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=self.out).close()

    def indices(self, t):
        """The indices of the training images in batch t: integers (batch,), given by (seed, t)."""
        return data.batch_indices(len(self.data.train_x), self.args.batch, self.args.seed, t)

    def batch(self, t):
        """The images of batch t: uint8 (batch, C, H, W), on the device during training."""
        return self.xp.asarray(self.data.train_x[self.indices(t)])

    def fit(self, step, **parts):
        """Train on the device, or continue with --resume: see `train.fit`. Before and afterwards,
        the parts and the batches are in CPU memory, where pictures and metrics are computed."""
        config = {"system": self.system, "options": self._options(), "versions": _versions()}
        began = time.perf_counter()
        self.xp = self.device
        for part in parts.values():
            nn.to(part, self.args.device)
        try:
            seconds = train.fit(step, self.args.steps, seed=self.args.seed, out=self.out,
                                resume=self.args.resume, config=config,
                                precision=self.args.precision, **parts)
        except KeyboardInterrupt as e:
            rest = [part for key in ("data_dir", "device", "precision")
                    if (value := getattr(self.args, key)) not in (None, "cpu")
                    for part in (f"--{key.replace('_', '-')}", value)]
            command = shlex.join(["python", sys.argv[0], "--resume", "--out", str(self.out), *rest])
            raise KeyboardInterrupt(f"{e or 'interrupted'}; to go on: {command}") from None
        self.xp = np
        for part in parts.values():
            nn.to(part, "cpu")
        self.earlier = seconds - (time.perf_counter() - began)  # in earlier commands

    def recorded(self, train_step):
        """With the flag --recorded, `train_step(*arrays, rng)` recorded on the device, where it
        draws its noise from a seed taken from rng; without the flag, `train_step` itself."""
        if not self.args.recorded:
            return train_step
        if self.args.device == "cpu":
            raise UserError("--recorded is for a device: add --device cuda, or leave it out")
        return recorded_step(train_step)

    def picture(self, name, images, columns=10):
        """Write <name>.png: `images` (N, C, H, W) in [0, 1] side by side, `columns` per row."""
        path = self.out / f"{name}.png"
        with writing(path):
            pictures.save(path, pictures.grid(images, columns))

    def animation(self, name, frames, columns=10):
        """Write <name>.gif: `frames` is a list of images (N, C, H, W) in [0, 1]; each frame shows
        its N images side by side, `columns` per row."""
        path = self.out / f"{name}.gif"
        with writing(path):
            pictures.animate(path, [pictures.grid(images, columns) for images in frames])

    def finish(self, metrics):
        """Print `metrics` and write them to metrics.json, a flat dict, after the numbers of steps
        and images and before the wall time of the whole command in seconds (including training by
        earlier commands). Numbers that are not finite are written as null."""
        sizes = {"train_images": len(self.data.train_x),
                 "test_images": len(self.data.test_x)} if self.data else {}
        numbers = {"steps": self.args.steps, **sizes,
                   **{key: float(value) for key, value in metrics.items()},
                   "seconds": round(self.earlier + time.perf_counter() - self.started, 1)}
        with writing(self.out / "metrics.json"):
            finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
            write_bytes(self.out / "metrics.json", (json.dumps(finite, indent=1) + "\n").encode())
        for key, value in numbers.items():
            print(f"{key:<28} {value:,.6g}")
        print(f"pictures, numbers and weights are in {self.out}")

    def _arguments(self, doc, argv, names, steps, batch, flags, complete, min_batch, staged):
        """Set `args` from the command line and, with --resume, from the run's configuration."""
        p = _Parser(prog=f"{self.system}.py", formatter_class=_Help,
                    description=" ".join(doc.partition("\n\n")[0].split()))
        add = p.add_argument
        add("--data", choices=names, default=names[0], help="data set")
        add("--data-dir", metavar="DIR", help="folder of the data files (or set MINIGEN_DATA)")
        add("--download", action="store_true", help="fetch the data set if it is not there")
        add("--steps", type=at_least(1), metavar="N",
            help=f"total steps (default: {_format_default(steps)})")
        add("--batch", type=at_least(min_batch), metavar="N",
            help=f"images per step (default: {_format_default(batch)})")
        add("--seed", type=at_least(0), default=0, metavar="N",
            help="seed of weights, batches and noise")
        add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
        add("--precision", choices=kernels.PRECISIONS,
            help="of the factors of products on a device; weights and sums stay float32")
        add("--out", metavar="DIR",
            help=f"folder of the results (default: runs/{self.system}-<data>[-quick])")
        add("--resume", action="store_true", help="continue the run in --out; a finished run "
            "computes its pictures and numbers again")
        add("--quick", action="store_true", help="a few tiny steps, to see that it works")
        if flags:
            flags(p)

        def parse():
            args = p.parse_args(argv)
            complete(args)
            args.out = args.out or f"runs/{self.system}-{args.data}{'-quick' * args.quick}"
            for name, default in (("steps", steps), ("batch", batch)):
                if getattr(args, name) is None:
                    usual = default[args.data] if isinstance(default, dict) else default
                    setattr(args, name, QUICK[name] if args.quick else usual)
            return args

        self.args = parse()
        if self.args.resume:
            options = self._saved_options(Path(self.args.out, "config.json"))
            p.set_defaults(**options)  # options not given now keep their values
            for a in p._actions:
                if a.choices and options.get(a.dest) not in (None, *a.choices):
                    p.error(f"config.json: {a.dest} is none of {', '.join(a.choices)}")
            out, self.args = self.args.out, parse()
            self.args.out = out
            for key, now in self._options().items():
                if (staged or key != "steps") and now != options.get(key, now):
                    raise UserError(f"--{key.replace('_', '-')} is {now}, but the run in {out} has "
                                    f"{options[key]}: leave it out, or start anew in another --out")

    def _saved_options(self, path):
        """The options of the run to be resumed."""
        try:
            config = json.loads(path.read_text())
            system, options, versions = (config[k] for k in ("system", "options", "versions"))
            options, versions = dict(**options), dict(**versions)
        except FileNotFoundError:
            raise UserError(f"--resume: there is no {path}; leave --resume out to start, or name "
                            "the run's folder with --out") from None
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(f"{path}: not the configuration of a run ({e})") from None
        if system != self.system:
            raise UserError(f"{path} is of {system}, not of {self.system}")
        for name, now in _versions().items():
            if versions.get(name) != now:
                print(f"note: {name} was {versions.get(name)} and is {now}: not bit for bit the "
                      "uninterrupted run")
        return options

    def _options(self):
        """The options that determine the run, as JSON stores them."""
        mine = {k: v for k, v in vars(self.args).items() if k not in MAY_CHANGE}
        return json.loads(json.dumps(mine, default=str))


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message} (--help lists all flags)")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):  # show a default only if it is a value
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def recordable(parser):
    """Add --recorded, for demos that pass their training step to `run.recorded`."""
    parser.add_argument("--recorded", action="store_true", help="record the training step of a "
                        "device once, as a CUDA graph, and replay it")


def at_least(minimum):
    """For a flag's `type=`: a whole number of at least `minimum`."""
    def number(text):
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum}")
        return int(text)
    return number


def _format_default(default):
    if isinstance(default, dict):
        return ", ".join(f"{n:,} on {name}" for name, n in default.items())
    return f"{default:,}"


def _load(args):
    if args.data not in data.NAMES:
        return None  # the demo draws its own samples
    sizes = {k: QUICK[k] for k in ("n_train", "n_test") if args.quick}
    return data.load(args.data, args.data_dir, args.download, **sizes)


def _versions():
    try:
        minigen = importlib.metadata.version("minigen")
    except importlib.metadata.PackageNotFoundError:
        minigen = "a checkout"
    return {"python": platform.python_version(), "numpy": np.__version__,
            "numba": numba.__version__, "minigen": minigen, "threads": numba.get_num_threads()}

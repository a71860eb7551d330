"""Training: `fit` calls a step repeatedly, shows its progress, and saves checkpoints.

    def step(t, rng):
        x = batch(t)
        loss, parts = model.loss(x, rng)
        return train.descend(opt, loss, parts)

    train.fit(step, 1000, seed=0, out="runs/mine", model=model, opt=opt)

Step t = 0, 1, ... draws random numbers only from `default_rng((seed, t))` and takes a batch that
depends only on (seed, t). So a checkpoint needs only arrays and a step number, and a resumed run is
bit for bit the same as one that was never interrupted.
"""

import contextlib
import json
import math
import os
import time
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from minigen import kernels, nn, pictures
from minigen.autodiff import grad
from minigen.finite import finite, gradient_origin, origin
from minigen.memory import keep_freed
from minigen.nn.parameters import write_bytes
from minigen.optim import Optimizer, clip_factor
from minigen.progress import Progress, interrupts
from minigen.tensor import Tensor, last_write, readable

SAVE_EVERY = 30  # seconds between checkpoints


class UserError(ValueError):
    """A mistake that the user can fix: one line that says what is wrong, where, and what to do."""


def descend(opt, loss, parts=None, name="loss", max_norm=None):
    """Take one optimiser step down the gradient of `loss`. Returns the numbers to log, a dict with
    the loss under `name` and with `parts` (a dict of scalars, such as reconstruction and KL).

    max_norm: the gradients' joint norm is limited to this, as in `optim.clip_grad_norm`.

    Raises FloatingPointError, before anything is written, if the loss or a gradient is not finite;
    the message names the operation and the parameter. Checking costs one pass over the gradients.
    A recorded step (recorded.py) also writes nothing then, but its loss, a tensor, is NaN instead.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"descend: the {name} is a {type(loss).__name__}, expected a tensor")
    on_host, parts = readable(loss.data), parts or {}
    for key, x in {name: loss, **parts}.items():
        if np.size(x) != 1:
            raise ValueError(f"the {key} has shape {np.shape(x)}, not one element: take its sum or "
                             "mean")
    if on_host and not math.isfinite(loss.item()):
        raise FloatingPointError(f"the {name} is {loss.item()}: {origin(loss, opt.params)}")
    grads = grad(loss, opt.params)
    norm = sum(kernels.square_sum([g.data for g in grads.values()])) ** 0.5
    factor = 1.0 if max_norm is None else clip_factor(norm, max_norm)
    if on_host and not math.isfinite(norm):
        for key, g in grads.items():
            if not finite(g.data):  # it is not only its square that overflows
                raise FloatingPointError(
                    f"the {name} is {loss.item():g} but its gradient by {key} is not finite: "
                    f"{gradient_origin(loss, opt.params)}")
        if max_norm is not None:  # only the factor 0 would bring it to max_norm
            raise FloatingPointError(f"the {name} is {loss.item():g} but its gradient's norm "
                                     f"is {norm}: its square is too large for {g.dtype}")
    if not on_host:
        nan_guard = 0 * (loss.data.reshape(()) + norm)  # 0, or NaN: then nothing is written
        factor, loss = factor + nan_guard, Tensor(loss.data + nan_guard)
    opt.step(grads, factor)
    return {key: float(x) if on_host else x for key, x in {name: loss, **parts}.items()}


# ---------------------------------------------------------------------------------- checkpoints

def save_checkpoint(path, metadata, **parts):
    """Write models, optimisers and EMAs, each under its name, to one safetensors file, with the
    dict of strings `metadata`. The file is replaced whole or not at all (UserError)."""
    with writing(path):
        nn.save_arrays(path, nn.state_dict(_stored(parts)), metadata)


def load_checkpoint(path, **parts):
    """Read parts of a checkpoint back into the objects they were saved from. Returns the metadata
    stored with the arrays (a dict of strings: step, seconds, config).

        train.load_checkpoint("runs/vae-glyphs/last.safetensors", model=model)

    Raises UserError, before anything is changed, if the file is missing, truncated, or of another
    model; the message says which arrays are missing, unexpected or of another shape. The file is
    only read.
    """
    try:
        arrays, metadata = nn.load_arrays(path)
    except (OSError, ValueError) as e:
        raise UserError(str(e)) from None
    stored = _stored(parts)
    try:
        nn.load_state_dict(stored, {key: a for key, a in arrays.items()
                                    if key.partition(".")[0] in parts})
    except ValueError as e:
        errors = str(e).removeprefix("load_state_dict: ").split("; ")
        more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
        raise UserError(f"{path} is of another model: {'; '.join(errors[:3])}{more}; "
                        "it was left as it is") from None
    for name, part in parts.items():
        if isinstance(part, (Optimizer, nn.EMA)):
            part.t = int(stored[name]["t"].item())
    return metadata


def _stored(parts):
    """The parts as one model, in which the arrays of optimisers and EMAs are wrapped as tensors."""
    def view(part):
        count = Tensor(np.array(getattr(part, "t", 0)))
        if isinstance(part, Optimizer):
            return {"t": count, "state": {key: {m: Tensor(a) for m, a in arrays.items()}
                                          for key, arrays in part.state.items()}}
        if isinstance(part, nn.EMA):
            return {"t": count, "average": {key: Tensor(a) for key, a in part.average.items()}}
        return part
    return {name: view(part) for name, part in parts.items()}


@contextlib.contextmanager
def writing(path):
    """A context that turns a failure to write into a UserError, which says so in one line."""
    try:
        yield
    except (OSError, SafetensorError) as e:
        raise UserError(f"{path}: cannot be written "
                        f"({getattr(e, 'strerror', None) or str(e).rpartition('error: ')[2]})"
                        ) from None


# ---------------------------------------------------------------------------------- the loop

def fit(step, steps, *, seed, out, resume=False, config=None, precision=None, **parts):
    """Train: call ``step(t, rng)`` for t = 0 … steps − 1. Each call returns the numbers to log, a
    dict of finite numbers. `parts` gives, by name, everything that the steps change: models,
    optimisers, and EMAs, which are updated here after each step.

    Writes into the existing folder `out`:
        config.json        the dict `config`
        last.safetensors   the parts and `config`, at the start, every SAVE_EVERY seconds and at the
                           end; an older run's file becomes previous.safetensors
        log.jsonl          a line per step: the steps done, what `step` returned, the seconds spent
        losses.png         curves of the logged numbers
    resume: continue from last.safetensors; log lines of later steps are dropped
    precision: "tf32" or "bf16" rounds the factors of products on a device (`kernels.precision`),
        "fp32" does not; weights, gradients, sums and the optimiser stay float32

    Returns the seconds spent on training, including earlier commands. Raises ValueError if steps is
    negative; UserError, leaving the checkpoint as it is, for a number that is not finite, a
    checkpoint that does not fit, or a folder that cannot be written. Ctrl-C lets the step finish,
    saves, and raises KeyboardInterrupt with a line that says so; a second Ctrl-C does not wait for
    the step.
    """
    if steps < 0 or steps != int(steps):
        raise ValueError(f"fit: steps must be an integer and not negative, got {steps}")
    known, nested = {id(part) for part in parts.values()}, [*nn.walk(parts)]
    for name, part in nested:
        if isinstance(part, (Optimizer, nn.EMA)) and id(part) not in known:
            raise TypeError(f"fit: {name} is within another part, and would be neither saved nor "
                            "updated: give each optimiser and EMA by a name of its own")
    keep_freed()
    tensors = [t for _, t in nested if isinstance(t, Tensor)]
    if precision not in (None, "fp32") and any(isinstance(t.data, np.ndarray) for t in tensors):
        raise UserError(f"precision {precision} is for the products of a device, and the model is "
                        "on the CPU: leave it out, or train with --device cuda")
    last, log = Path(out, "last.safetensors"), Path(out, "log.jsonl")
    config = config or {}
    done, earlier, start = 0, 0.0, time.perf_counter()
    if resume:
        metadata = load_checkpoint(last, **parts)
        try:
            done, earlier = int(metadata["step"]), float(metadata["seconds"])
        except (KeyError, ValueError):
            raise UserError(f"{last} is not a checkpoint of a training run: it was left as it is"
                            ) from None
        if done > steps:
            raise UserError(f"{last} has done {done} steps, more than the {steps} asked for")
        if missing := set(json.loads(metadata.get("parts", "[]"))) - set(parts):
            raise UserError(f"{last} also holds {', '.join(sorted(missing))}, which would be lost: "
                            "give all parts of the run")
        if metadata.get("seed", str(seed)) != str(seed):
            raise UserError(f"{last} is of seed {metadata['seed']}, not of {seed}")

    def seconds():
        return earlier + time.perf_counter() - start

    def save():
        save_checkpoint(last, {"step": str(done), "seconds": f"{seconds():.3f}",
                               "seed": str(seed), "parts": json.dumps([*parts]),
                               "config": json.dumps(config)}, **parts)
        return time.perf_counter(), f"{last} keeps step {done}"

    with writing(out):
        if last.exists() and not resume:
            os.replace(last, last.with_name("previous.safetensors"))
        if not resume:
            last.with_name("metrics.json").unlink(missing_ok=True)  # an older run's
        write_bytes(last.with_name("config.json"),
                    (json.dumps(config, indent=1) + "\n").encode())
        write_bytes(log, _lines_until(done, log).encode())
    saved, kept = save() if not resume else (start, f"{last} keeps step {done}")
    counters = [part for part in parts.values() if isinstance(part, (Optimizer, nn.EMA))]

    def version():  # changes with any write
        return [last_write(t)[0] for t in tensors] + [part.t for part in counters]

    with (Progress(done, steps) as progress, interrupts() as pressed, np.errstate(all="ignore"),
          kernels.precision(precision) if precision else contextlib.nullcontext()):
        if resume:
            progress.write(f"going on after step {done} of {steps}")
        while done < steps:
            before = version()
            try:
                numbers = step(done, np.random.default_rng((seed, done)))
                if not isinstance(numbers, dict):
                    raise TypeError(f"fit: the step gave a {type(numbers).__name__}, expected a "
                                    "dict of numbers to log, as `descend` gives")
                for key, value in numbers.items():
                    if not math.isfinite(value):
                        raise FloatingPointError(f"{key} is {value}")
            except FloatingPointError as e:
                raise UserError(f"step {done + 1}: {e}; {kept}") from e
            except KeyboardInterrupt:
                if version() != before:
                    raise KeyboardInterrupt(f"stopped within step {done + 1}; {kept}") from None
                save()
                raise KeyboardInterrupt(f"stopped after step {done} of {steps}, saved") from None
            for part in counters:
                if isinstance(part, nn.EMA):
                    part.update()
            done += 1
            numbers = {key: float(value) for key, value in numbers.items()}
            line = json.dumps({**numbers, "step": done, "seconds": round(seconds(), 3)})
            with writing(log), open(log, "a") as lines:
                lines.write(line + "\n")
            progress.show(done, numbers)
            if pressed or done == steps or time.perf_counter() > saved + SAVE_EVERY:
                saved, kept = save()
            if pressed:
                raise KeyboardInterrupt(f"stopped after step {done} of {steps}, saved")
    with writing(last.with_name("losses.png")):
        pictures.curves(log, last.with_name("losses.png"))
    return seconds()


def _lines_until(done, log):
    """The lines of the log up to step `done`; a truncated line is left out."""
    kept = []
    for line in log.read_text(errors="replace").splitlines() if done and log.exists() else ():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if json.loads(line)["step"] <= done:
                kept.append(line + "\n")
    return "".join(kept)

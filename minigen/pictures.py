"""Pictures of what a model does: images side by side, the curves of a training run (PNG), and
animations (GIF)."""

import json
from pathlib import Path

import numpy as np

from minigen.tensor import tensor

GREY = 128  # between the images of a grid: neither their black nor their white


def grid(images, columns=10, gap=2):
    """Images side by side, row by row: uint8, (height, width) for C = 1, else (height, width, 3).

    images: (N, C, H, W) with C = 1 or 3; uint8, or floats in [0, 1] (values beyond are clipped)
    columns: images per row; gap: pixels between the images and around the grid

    Raises ValueError for another shape, other integers, values that are not finite, or no columns.
    """
    x = tensor(images).numpy()
    if x.dtype != np.uint8 and x.dtype.kind not in "fb" or columns < 1:
        raise ValueError(f"grid: images are {x.dtype} in {columns} columns, expected uint8 or "
                         "floats in [0, 1], and at least one column")
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise ValueError(f"grid: images have shape {x.shape}, expected (N, 1 or 3, H, W)")
    if not np.isfinite(x).all():
        raise ValueError("grid: images are not finite")
    if x.dtype != np.uint8:
        x = np.rint(x.clip(0, 1) * 255).astype(np.uint8)
    N, C, H, W = x.shape
    columns = min(columns, N)
    rows = -(-N // columns)
    sheet = np.full((gap + rows * (H + gap), gap + columns * (W + gap), C), GREY, np.uint8)
    for n, image in enumerate(x):
        top, left = (gap + i * (size + gap) for i, size in zip(divmod(n, columns), (H, W),
                                                                strict=True))
        sheet[top:top + H, left:left + W] = image.transpose(1, 2, 0)
    return sheet[:, :, 0] if C == 1 else sheet


def save(path, picture, width=600):
    """Write a picture, uint8 (height, width) or (height, width, 3), as PNG. Each pixel becomes a
    square, so that the file is about `width` pixels wide, or wider if the picture is."""
    from PIL import Image
    image = Image.fromarray(picture)
    zoom = max(1, round(width / image.width))
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
    image.save(path, "PNG", optimize=True)


def animate(path, frames, width=300, seconds=5.0):
    """Write frames, pictures as for `save`, all of one size, as an animated GIF that lasts about
    `seconds`, then holds its last frame for two seconds, and starts again."""
    from PIL import Image
    if not len(frames) or any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError(f"animate: expected one or more frames of one shape, got "
                         f"{sorted({frame.shape for frame in frames})}")
    zoom = max(1, round(width / frames[0].shape[1]))
    first, *others = (Image.fromarray(frame).resize((frame.shape[1] * zoom, frame.shape[0] * zoom),
                                                    Image.Resampling.NEAREST) for frame in frames)
    frame_ms = max(20, round(1000 * seconds / len(frames)))  # browsers show nothing shorter
    first.save(path, "GIF", save_all=True, append_images=others, loop=0,
               duration=[frame_ms] * len(others) + [2000])


def read_log(path):
    """The lines of a run's log.jsonl, as dicts."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def curves(log, path):
    """Draw a run's log as PNG: each number on axes of its own, the logged values in a pale colour
    and their running mean over a fiftieth of the run in a dark one.

    log: the path of a log.jsonl, or its lines as dicts; "step" is the horizontal axis, "seconds" is
    left out.
    """
    from matplotlib.figure import Figure  # without pyplot, so the caller's back end is not changed
    if isinstance(log, (str, Path)):
        log = read_log(log)
    names = list(dict.fromkeys(name for line in log for name in line))
    names = [name for name in names if name not in ("step", "seconds")] or ["loss"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), dpi=100, layout="constrained")
    for k, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, k + 1)
        steps = [line["step"] for line in log if name in line]
        values = [line[name] for line in log if name in line]
        axes.plot(steps, values, color="C0", alpha=0.3, linewidth=0.8)
        window = max(1, len(values) // 50)
        if window > 1:
            mean = np.convolve(values, np.full(window, 1 / window), "valid")
            axes.plot(steps[window - 1:], mean, color="C0")
        axes.set(title=name.replace("_", " "), xlabel="step")
        axes.grid(alpha=0.3)
    figure.savefig(path, format="png")


def lines(path, *panels):
    """Draw curves as PNG, the panels side by side. A panel is a dict: `curves` maps a label to the
    sequences x and y and optionally a style ("o-" by default), and the other keys are those of
    matplotlib's `Axes.set`: title, xlabel, ylabel, xscale, yscale, ylim, xticks, …"""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(4.6 * len(panels), 3.6), dpi=100, layout="constrained")
    for k, panel in enumerate(panels):
        axes, options = figure.add_subplot(1, len(panels), k + 1), dict(panel)
        for label, (x, y, *style) in options.pop("curves").items():
            axes.plot(x, y, *(style or ["o-"]), label=label, markersize=3)
        axes.set(**options)
        if "xticks" in options:  # no others between them
            axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, format="png")


def text_image(path, lines):
    """Draw lines of text as PNG. Each line is a pair (text, matplotlib colour)."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 0.2 * len(lines) + 0.1), dpi=100)
    for k, (text, colour) in enumerate(lines):
        figure.text(0.01, 1 - (k + 0.75) / (len(lines) + 0.5), text, color=colour, fontsize=8)
    figure.savefig(path, format="png")


def captioned(path, images, texts, columns=2):
    """Draw images (N, C, H, W) in [0, 1] as PNG, each with its text to the right, line breaks as
    given; a text may be a pair (text, matplotlib colour)."""
    from matplotlib.figure import Figure
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(4.6 * columns, 0.9 * rows), dpi=100, layout="constrained")
    grids = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1, 4.5] * columns)
    for axes in grids.flat:
        axes.axis("off")
    for k, (image, text) in enumerate(zip(images, texts, strict=True)):
        left, right = grids[k // columns, 2 * (k % columns):][:2]
        left.imshow(grid(image[None], gap=0), cmap="gray", vmin=0, vmax=255,
                    interpolation="nearest")
        text, colour = text if isinstance(text, tuple) else (text, "black")
        right.text(0, 0.5, text, color=colour, va="center", fontsize=8)
    figure.savefig(path, format="png")

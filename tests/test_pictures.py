"""Sheets of images, PNG files and curves."""

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import minigen as mg
from minigen import data, pictures


def test_grid():
    x = np.zeros((5, 1, 2, 3))
    x[0], x[1], x[4, 0, 1, 2] = 1, 0.5, 7
    sheet = pictures.grid(x, columns=2, gap=1)
    assert sheet.shape == (10, 9) and sheet.dtype == np.uint8
    assert (sheet[1:3, 1:4] == 255).all() and (sheet[1:3, 5:8] == 128).all()
    assert (sheet[0] == pictures.GREY).all() and (sheet[7:, 5:] == pictures.GREY).all()
    assert sheet[8, 3] == 255 and (sheet[7, 1:4] == 0).all()
    colour = pictures.grid(mg.tensor(np.arange(24, dtype=np.uint8).reshape(1, 3, 2, 4)), gap=0)
    assert colour.shape == (2, 4, 3) and colour[1, 2].tolist() == [6, 14, 22]
    for bad in (np.zeros((2, 28, 28)), np.zeros((2, 2, 4, 4)), np.zeros((0, 1, 4, 4)),
                np.full((1, 1, 2, 2), np.nan), np.zeros((2, 1, 4, 4), int)):
        with pytest.raises(ValueError, match="grid: images"):
            pictures.grid(bad)


def test_png_is_small_and_sharp(tmp_path):
    sheet = pictures.grid(data.load("glyphs", n_train=100, n_test=1).train_x)
    pictures.save(tmp_path / "a.png", sheet)
    assert (tmp_path / "a.png").stat().st_size < 100_000
    back = np.asarray(Image.open(tmp_path / "a.png"))
    zoom = back.shape[1] // sheet.shape[1]
    assert zoom == 2 and np.array_equal(back, sheet.repeat(2, 0).repeat(2, 1))


def test_an_animation_shows_every_frame_and_rests_on_the_last(tmp_path):
    rng = np.random.default_rng(0)
    frames = [pictures.grid(rng.random((3, C, 8, 8)), columns=3) for C in (1, 1, 1, 1)]
    pictures.animate(tmp_path / "a.gif", frames, width=64, seconds=1.0)
    film = Image.open(tmp_path / "a.gif")
    assert film.n_frames == 4 and film.size == (64, 24) and film.info["loop"] == 0
    durations = []
    for i, frame in enumerate(frames):
        film.seek(i)
        durations.append(film.info["duration"])
        seen = np.asarray(film.convert("L"))[::2, ::2].astype(int)
        assert np.abs(seen - frame).max() <= 1
    assert durations == [250, 250, 250, 2000]
    for bad in ([], [frames[0], frames[1][:-1]]):
        with pytest.raises(ValueError, match="animate: expected one or more frames of one shape"):
            pictures.animate(tmp_path / "b.gif", bad)


def test_curves(tmp_path):
    lines = [{"step": t, "loss": 1 / t, "seconds": t} | ({"fid": t} if t % 50 == 0 else {})
             for t in range(1, 201)]
    pictures.curves(lines, tmp_path / "two.png")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pictures.curves(tmp_path / "log.jsonl", tmp_path / "same.png")
    assert (tmp_path / "two.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    assert Image.open(tmp_path / "two.png").size == (840, 280)  # two panels: seconds have none
    pictures.curves([], tmp_path / "empty.png")


def test_images_with_their_texts(tmp_path):
    x = np.zeros((3, 3, 8, 8), np.float32)
    x[:, 0] = 1
    pictures.captioned(tmp_path / "a.png", x, ["one", ("two", "green"), "three\nlines"])
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    red = (sheet == [255, 0, 0]).all(-1)
    across, down = np.flatnonzero(np.diff(red.any(0))), np.flatnonzero(np.diff(red.any(1)))
    assert len(across) == len(down) == 4  # two columns, two rows
    assert red.sum() == 3 * (down[1] - down[0]) * (across[1] - across[0])
    green = (sheet == [0, 128, 0]).all(-1).any(0)  # beside the second
    assert green.any() and np.flatnonzero(green).min() > across[3]
    with pytest.raises(ValueError, match="zip"):
        pictures.captioned(tmp_path / "b.png", x, ["one"])


def test_lines_of_text_stand_below_each_other_in_their_colours(tmp_path):
    colours = {"red": [255, 0, 0], "green": [0, 128, 0], "blue": [0, 0, 255]}
    pictures.text_image(tmp_path / "a.png", [("HHH", colour) for colour in colours])
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    ends = [np.flatnonzero((sheet == rgb).all(-1).any(1))[[0, -1]] for rgb in colours.values()]
    assert 2 < ends[0][0] and all(a[1] < b[0] for a, b in pairwise(ends))
    assert ends[2][1] < len(sheet) - 2

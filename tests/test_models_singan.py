"""SinGAN as a whole: what a step changes, what a pyramid needs, and its demo, whose steps are those
of all scales together."""

import importlib
import json

import numpy as np
import pytest
from PIL import Image

import minigen
from minigen import nn, optim, train
from minigen.models.gan import dcgan, singan

RNG = np.random.default_rng


def pyramid(size=(18, 24), **options):
    x = RNG(10).uniform(-1, 1, (3, *size)).astype("f4")
    return singan.SinGAN(x, **{"smallest": 11, "width": 4, "rng": RNG(11)} | options)


@pytest.mark.parametrize("n", [2, 1, 0])
def test_a_step_moves_the_networks_of_its_scale_and_nothing_else(n):
    model = pyramid()
    model.begin(n)
    before = nn.state_dict(model)
    for networks, loss in ((["D"], model.d_loss(n, 2, RNG(12))),
                           (["D", "psi"], model.g_loss(n, 2, RNG(12))[0])):
        slopes = minigen.grad(loss, nn.parameters(model), allow_unused=True)
        reached = {key.rsplit(".", 2)[0] for key, g in slopes.items() if (g.numpy() != 0).any()}
        assert reached == {f"{name}.{n}" for name in networks}
    train.descend(dcgan.adam(nn.parameters(model.D[n])), model.d_loss(n, 2, RNG(12)))
    train.descend(dcgan.adam(nn.parameters(model.psi[n])), *model.g_loss(n, 2, RNG(12)))
    after = nn.state_dict(model)
    moved = {key for key in after if not np.array_equal(after[key], before[key])}
    mine = {key for key in after if key.startswith((f"D.{n}.", f"psi.{n}."))}
    # a bias of D whose unit is on for all patches, as the last one is, cancels in the distance
    assert {key for key in mine if not key.startswith("D") or "weight" in key} <= moved <= mine
    assert not model.sample(2, RNG(13)).requires_grad


def test_a_pyramid_learns_its_image_and_draws_others_of_any_size():
    model = pyramid((14, 20), smallest=12, factor=1.15)
    opt, losses = optim.Adam(nn.parameters(model.psi[1]), 5e-3), []
    for t in range(80):
        losses.append(train.descend(opt, *model.g_loss(1, 1, RNG(t)))["L_rec"])
    assert losses[-1] < 0.3 * losses[0]
    assert model.sample(3, RNG(14)).shape == (3, 3, 14, 20)
    assert model.sample(1, RNG(14), (20, 33)).shape == (1, 3, 20, 33)
    a, b = (model.sample(1, RNG(seed)).numpy() for seed in (15, 16))
    assert np.abs(a - b).mean() > 0.05 and np.abs(a).max() < 3
    assert np.array_equal(model.reconstruct().numpy(), model.reconstruct().numpy())


@pytest.mark.parametrize(("call", "message"), [
    (lambda: pyramid((10, 30)), r"the image is \(3, 10, 30\), to be reduced to 11: expected"),
    (lambda: pyramid(smallest=10), "H, W ≥ the smallest size ≥ 11"),
    (lambda: singan.SinGAN(np.ones((2, 3, 30, 30))), r"the image is \(2, 3, 30, 30\)"),
    (lambda: pyramid().inject(np.ones((3, 18, 24)), 0, RNG(0)), r"x is \(3, 18, 24\) and n is 0"),
    (lambda: pyramid().inject(np.ones((1, 3, 18, 24)), 2, RNG(0)), "n is 2: .* n from 0 to 1"),
])
def test_a_pyramid_says_what_it_needs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_singan_demo_learns_a_file(tmp_path):
    demo = importlib.import_module("demos.singan")
    path = tmp_path / "photo.png"
    Image.fromarray(RNG(17).integers(0, 255, (80, 70), np.uint8), "L").save(path)
    assert demo.read(path, 40).shape == (3, 46, 40) and demo.read(path, 90).shape == (3, 80, 70)
    out = ["--quick", "--steps", "2", "--out", str(tmp_path / "out")]
    demo.main([*out, "--image", str(path)])
    assert Image.open(tmp_path / "out" / "wide.png").width > 600
    for size, flags, message in (((80, 20), [], "has 20×80 pixels, expected 24 or more"),
                                 ((80, 30), ["--smallest", "26"], "1.2 times --smallest")):
        Image.new("RGB", size[::-1]).save(path)
        with pytest.raises(train.UserError, match=message):
            demo.main([*out, *flags, "--image", str(path)])
    path.write_text("no image")
    with pytest.raises(train.UserError, match="--image .*photo.png: cannot be read as an image"):
        demo.main([*out, "--image", str(path)])


@pytest.fixture
def watched(monkeypatch):
    """The scales that a demo begins, those of its steps, and at which step it is interrupted. It
    measures nothing, which would take longer."""
    begun, trained, stop = [], [], []
    begin, d_loss = singan.SinGAN.begin, singan.SinGAN.d_loss

    def watched_begin(model, n):
        begun.append(n)
        begin(model, n)

    def watched_loss(model, n, *given):
        if len(trained) in stop:
            stop.clear()
            raise KeyboardInterrupt
        trained.append(n)
        return d_loss(model, n, *given)

    monkeypatch.setattr(singan.SinGAN, "begin", watched_begin)
    monkeypatch.setattr(singan.SinGAN, "d_loss", watched_loss)
    for name in ("distance", "apart"):
        monkeypatch.setattr(f"demos.singan.{name}", lambda images, x: 0.0)
    return begun, trained, stop


def go(out, *flags):
    importlib.import_module("demos.singan").main(["--out", str(out), *flags])
    return nn.load_arrays(out / "last.safetensors")[0]


FIVE_SCALES = ("--quick", "--smallest", "11", "--steps")


@pytest.mark.parametrize(("steps", "shares"), [
    (5, [1, 1, 1, 1, 1]), (6, [2, 1, 1, 1, 1]), (12, [3, 2, 3, 2, 2])])
def test_the_singan_demo_trains_every_scale(tmp_path, watched, steps, shares):
    begun, trained, _ = watched
    sigma = go(tmp_path, *FIVE_SCALES, str(steps))["model.sigma"]
    assert begun == [4, 3, 2, 1, 0]
    assert trained == [n for n, share in zip(begun, shares, strict=True) for _ in range(share)]
    assert (sigma[:4] < 0.5).all() and sigma[4] == 1  # a tenth of an RMSE; 1 at scale N


def test_the_singan_demo_goes_on_where_it_stopped(tmp_path, watched):
    begun, trained, stop = watched
    whole = go(tmp_path / "whole", *FIVE_SCALES, "9")
    trained.clear()
    stop.append(3)  # in the middle of scale 3
    with pytest.raises(KeyboardInterrupt, match="stopped after step 3 of 9"):
        go(tmp_path, *FIVE_SCALES, "9")
    with pytest.raises(train.UserError, match="--steps is 18, but the run in .* has 9: leave it"):
        go(tmp_path, "--resume", "--steps", "18")
    parts = go(tmp_path, "--resume")
    assert begun == [4, 3, 2, 1, 0] * 2
    assert all(np.array_equal(a, parts[key]) for key, a in whole.items())


def test_the_singan_demo_needs_a_step_for_each_scale(tmp_path):
    with pytest.raises(train.UserError, match="--steps is 4, but there are 5 scales"):
        go(tmp_path, *FIVE_SCALES, "4")


@pytest.mark.usefixtures("watched")
def test_the_singan_demo_keeps_the_runs_of_several_files_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = importlib.import_module("demos.singan")
    for name in ("lake.png", "sea.jpg"):
        Image.fromarray(RNG(20).integers(0, 255, (30, 40, 3), np.uint8)).save(name)
        demo.main(["--image", name, "--data", "cifar10", "--quick"])
        options = json.loads((tmp_path / "runs" / f"singan-{name[:-4]}-quick" / "config.json"
                              ).read_text())["options"]
        assert options["image"] == name and options["data"] is None
    demo.main(["--image", "lake.png", "--quick", "--resume"])
    with pytest.raises(train.UserError, match="--image is sea.jpg, but the run in .* has lake.png"):
        demo.main(["--image", "sea.jpg", "--resume", "--out", "runs/singan-lake-quick"])
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "singan-lake-quick", "singan-sea-quick"]


def test_singans_numbers_tell_images_apart():
    demo = importlib.import_module("demos.singan")
    x = RNG(18).uniform(-1, 1, (1, 3, 32, 40)).astype("f4")
    assert demo.distance(np.concatenate([x, x]), x) < 1e-6 < demo.distance(0.5 * x, x)
    assert demo.apart(x, x) < 1e-6
    assert np.isclose(demo.apart(0 * x + 3, 0 * x), 0.5)  # clipped to [−1, 1]; in [0, 1]
    noise = demo.noise(x, 2, RNG(19))
    assert np.allclose(abs(np.fft.fft2(noise)), abs(np.fft.fft2(x)), atol=1e-3)
    assert np.allclose(noise.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
    assert np.abs(noise - x).mean() > 0.3 and np.abs(noise[0] - noise[1]).mean() > 0.3
    assert ((demo.pasted(x) != x).any(1).sum(), len(np.unique(demo.mosaic(x)))) == (16 * 10, 60)

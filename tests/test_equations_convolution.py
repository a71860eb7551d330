"""Section "convolution, up-sampling, U-Net": each equation is checked by a second route."""

import numpy as np
import pytest

import minigen
from minigen import conv2d, conv_transpose2d, grad, gradcheck, interpolate, tensor
from minigen.nn.unet import UNet
from minigen.ops import conv_output_size, conv_transpose_output_size


def matrix_of(linear, shape):
    """The matrix C of a linear map on images of `shape`, column by column from unit images."""
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.stack([linear(u[None]).numpy().ravel() for u in units], axis=1)


def windows(i, k, s, p, d):
    """The number of positions at which a filter fits, counted by placing it."""
    return sum(1 for start in range(-p, i + p, s) if start + d * (k - 1) < i + p)


@pytest.mark.parametrize("i, k, s, p, d", [(5, 3, 2, 0, 1), (28, 4, 2, 1, 1), (7, 3, 1, 1, 1),
                                           (9, 2, 3, 2, 1), (11, 3, 2, 2, 2)])
def test_conv_output_size(i, k, s, p, d):
    assert conv_output_size(i, k, s, p, d) == windows(i, k, s, p, d)  # eq: conv-output-size
    x, w = np.zeros((1, 1, i, i)), np.zeros((1, 1, k, k))
    assert conv2d(x, w, None, s, p, d).shape[2:] == (windows(i, k, s, p, d),) * 2


def test_the_slides_example_of_a_convolution():
    assert conv_output_size(5, 3, s=2) == 2


@pytest.mark.parametrize("i, k, s, p, extra", [(2, 3, 1, 0, 0), (7, 4, 2, 1, 0), (4, 3, 2, 1, 1),
                                               (3, 2, 3, 0, 2)])
def test_transposed_conv_output_size(i, k, s, p, extra):
    # by definition: a convolution with these options maps the result back to length i, and the
    # smallest such length is the one without output_padding
    lengths = [n for n in range(1, 60) if windows(n, k, s, p, 1) == i]
    assert conv_transpose_output_size(i, k, s, p, extra) == lengths[extra]  # eq: tconv-output-size
    x, w = np.zeros((1, 1, i, i)), np.zeros((1, 1, k, k))
    assert conv_transpose2d(x, w, None, s, p, extra).shape[2:] == (lengths[extra],) * 2


def test_the_slides_transposed_convolution_is_4x4():
    # The slide says that a 2×2 input, 3×3 filter and stride 1 give 3×3. In fact each input pixel
    # paints a 3×3 patch, and patches one apart cover 4×4; 3×3 takes stride 2 and padding 1.
    x, w = np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))
    canvas = np.zeros((4, 4))
    for i in range(2):
        for j in range(2):
            canvas[i:i + 3, j:j + 3] += 1
    y = conv_transpose2d(x, w, stride=1)
    assert y.shape == (1, 1, 4, 4) and np.array_equal(y.numpy()[0, 0], canvas)  # slide error: 1
    assert conv_transpose2d(x, w, stride=2, padding=1).shape == (1, 1, 3, 3)


@pytest.mark.parametrize("stride, padding", [(1, 0), (2, 1), (3, 2)])
def test_transposed_convolution_is_the_transpose(stride, padding):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 2, 7, 7)), rng.normal(size=(3, 2, 3, 3))
    C = matrix_of(lambda u: conv2d(u, w, stride=stride, padding=padding), x.shape[1:])
    y = conv2d(x, w, stride=stride, padding=padding).numpy()
    assert np.allclose(y.ravel(), C @ x.ravel())
    extra = 7 - conv_transpose_output_size(y.shape[2], 3, stride, padding)
    x_hat = conv_transpose2d(y, w, stride=stride, padding=padding, output_padding=extra)
    assert np.allclose(x_hat.numpy().ravel(), C.T @ y.ravel())  # eq: tconv-as-transpose


def test_transposed_convolution_is_the_backward_pass_of_convolution():
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(1, 2, 6, 6)), rng.normal(size=(3, 2, 3, 3))
    C = matrix_of(lambda u: conv2d(u, w, padding=1, stride=2), x.shape[1:])
    t = tensor(x, requires_grad=True)
    y = conv2d(t, w, padding=1, stride=2)
    dL_dy = np.cos(y.numpy())
    dL_dx = grad(minigen.sin(y).sum(), t).numpy()
    assert np.allclose(dL_dx.ravel(), C.T @ dL_dy.ravel())  # eq: tconv-is-conv-backward
    gradcheck(lambda a, b: minigen.sin(conv2d(a, b, padding=1, stride=2)), x, w)


@pytest.mark.parametrize("stride, padding, k", [(2, 0, 3), (2, 1, 4), (3, 1, 3)])
def test_fractionally_strided_convolution_is_the_transposed_one(stride, padding, k):
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(2, 3, 4, 4)), rng.normal(size=(3, 2, k, k))
    spread = np.zeros((2, 3, 3 * stride + 1, 3 * stride + 1))
    spread[:, :, ::stride, ::stride] = x  # stride − 1 zeros between the pixels
    flipped = w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    y = conv2d(spread, flipped, padding=k - 1 - padding)
    expected = y.numpy()
    got = conv_transpose2d(x, w, stride=stride, padding=padding).numpy()
    assert np.allclose(got, expected)  # eq: fractional-stride-conv


@pytest.mark.parametrize("r", [2, 3])
def test_nearest_upsampling_repeats_pixels(r):
    x = np.random.default_rng(3).normal(size=(2, 3, 4, 5))
    y = interpolate(x, scale_factor=r, mode="nearest").numpy()
    assert np.array_equal(y, np.kron(x, np.ones((r, r))))  # eq: upsample-nearest


def test_bilinear_upsampling_is_a_weighted_mean_of_four():
    x = np.random.default_rng(4).normal(size=(1, 1, 5, 6))
    y = interpolate(x, scale_factor=2, mode="bilinear").numpy()
    expected = np.zeros((10, 12))
    for i in range(10):
        for j in range(12):
            u, v = np.clip((i + 0.5) / 2 - 0.5, 0, 4), np.clip((j + 0.5) / 2 - 0.5, 0, 5)
            a, b = int(u), int(v)
            for da, wa in ((0, 1 - (u - a)), (1, u - a)):
                for db, wb in ((0, 1 - (v - b)), (1, v - b)):
                    expected[i, j] += wa * wb * x[0, 0, min(a + da, 4), min(b + db, 5)]
    assert np.allclose(y[0, 0], expected)  # eq: upsample-bilinear


def test_unet_skip_joins_encoder_and_decoder():
    rng = np.random.default_rng(5)
    net = UNet(1, 1, widths=(4, 6), rng=rng)
    x = tensor(rng.normal(size=(1, 1, 8, 8)).astype(np.float32), requires_grad=True)
    # by hand, with the merging filter's two halves applied separately: to up(d), then to e
    e0 = minigen.relu(net.first(x))
    d = net.up[0](minigen.relu(net.down[0](e0)))
    w = net.merge[0].weight
    merged = (conv2d(d, w[:, :4], padding=1) + conv2d(e0, w[:, 4:], net.merge[0].bias, padding=1))
    expected = net.last(minigen.relu(merged)).numpy()
    assert np.allclose(net(x).numpy(), expected, atol=1e-5)  # eq: unet-skip
    # the skip carries what the bottleneck cannot: with the lower path cut, detail still passes
    net.up[0].weight.data[:] = 0
    assert np.abs(grad(net(x).sum(), x).numpy()).max() > 0
    with pytest.raises(ValueError, match="divisible by 2"):
        net(np.zeros((1, 1, 7, 8), np.float32))

"""The transposed convolution: multiplication by the transpose, and what back-propagation does.

    python demos/derivations/transposed_convolution.py

A convolution of a 4×4 image with a 3×3 filter is a matrix C with 4 rows (outputs) and 16
columns (inputs). The entries are small integers, so every line can be checked by hand.
"""

import numpy as np

from minigen import conv2d, conv_transpose2d, grad, tensor
from minigen.lecture.steps import Step, cli
from minigen.ops import conv_output_size, conv_transpose_output_size


def matrix(w, size):
    """C for a filter w (k, k) sliding over an image (size, size), from the definition: output
    (p, q) takes input (p + r, q + s) times w[r, s]."""
    out = size - len(w) + 1
    C = np.zeros((out, out, size, size), int)
    for p, q in np.ndindex(out, out):
        C[p, q, p:p + len(w), q:q + len(w)] = w
    return C.reshape(out * out, size * size)


def whole(y):
    """A result of minigen's ops as integers (P, Q)."""
    return y.numpy()[0, 0].round(9).astype(int)


def derive(rng):
    """The convolution as a matrix, its transpose, its gradient; zeros between; sizes."""
    w, x, y = (rng.integers(-3, 4, (n, n)) for n in (3, 4, 2))
    C = matrix(w, 4)
    images = [tensor(a[None, None].astype(float), requires_grad=True) for a in (w, x, y)]
    tw, tx, ty = images
    gx = grad(conv2d(tx, tw), tx, cotangent=ty)

    spread = np.zeros((3, 3))  # stride 2: the outputs of y with a zero between
    spread[::2, ::2] = y
    around = np.pad(spread, 2)[None, None]
    flipped = w[None, None, ::-1, ::-1].astype(float)

    return [
        ("The matrix C of the convolution", [
            Step("C x, against conv2d", (C @ x.ravel()).reshape(2, 2), "=",
                 whole(conv2d(tx, tw)))]),
        ("Its transpose", [
            Step("Cᵀ y, against conv_transpose2d", (C.T @ y.ravel()).reshape(4, 4), "=",
                 whole(conv_transpose2d(ty, tw))),
            Step("Cᵀ ∂L/∂y, against ∂L/∂x by back-propagation through conv2d",
                 (C.T @ y.ravel()).reshape(4, 4), "=", whole(gx)),
            Step("⟨C x, y⟩, against ⟨x, Cᵀ y⟩", (C @ x.ravel()) @ y.ravel(), "=",
                 x.ravel() @ (C.T @ y.ravel()))]),
        ("With stride 2: zeros between the inputs, and a convolution with the flipped filter", [
            Step("conv_transpose2d, against that",
                 whole(conv_transpose2d(ty, tw, stride=2)), "=",
                 whole(conv2d(around, flipped)))]),
        ("Sizes", [
            Step("5×5, filter 3×3, stride 2: the slide's 2×2",
                 conv_output_size(5, 3, s=2), "=", 2),
            Step("2×2, filter 3×3, stride 1, transposed: the size of the output",
                 conv_transpose_output_size(2, 3), "=", conv_transpose2d(ty, tw).shape[2]),
            Step("the slide's 3×3", 3, "=", conv_transpose2d(ty, tw).shape[2], error=1),
            Step("3×3 needs stride 2 and padding 1", 3, "=",
                 conv_transpose2d(ty, tw, stride=2, padding=1).shape[2])]),
    ]


def main(argv=None):
    cli(__doc__, derive, argv)


if __name__ == "__main__":
    main()

"""A linear predictor of pixels: a baseline for the pixel models, fitted in seconds.

    a_c(i, j) = w_c · (the pixels in the rows above and to the left of (i, j), within a window)
    x̂_c = a_c + Σ_{c'<c} B_cc' (v_c' − a_c')            v: the pixel itself, in [−1, 1]
    p(x_c | all before) = P(x_c | x̂_c, s_c)             the discretised logistic of logistic.py

w and B are fitted by least squares, s_c by maximum likelihood. Regressing the residual v − a of
channel c on the residuals of the channels before it gives the same x̂ as one joint regression.
"""

import numpy as np

from minigen import conv2d, no_grad, sum, tensor
from minigen.logistic import LogisticMixture, check_levels, log_bin, rescale
from minigen.nn import initializers
from minigen.tensor import write

UP, SIDE = 3, 3  # the window: rows above, columns to either side
MAX_IMAGES = 10_000  # images to fit to: about 100,000 equations for every unknown
SCALE_IMAGES = 1_000  # images to fit the scales to


class LinearPredictor:
    """For images with C channels. Until `fit` is called it predicts grey. Its arrays are buffers:
    saved with a model that contains it, but not changed by optimisers."""

    def __init__(self, C):
        self.C = C
        # for the pixels, and for a channel of ones that distinguishes the image from the padding
        self.weight = tensor(np.zeros((C, C + 1, UP + 1, 2 * SIDE + 1), np.float32))
        self.B = tensor(np.zeros(C * (C - 1) // 2, np.float32))  # in the order 10, 20, 21
        self.log_s = tensor(np.full(C, -1, np.float32))

    def fit(self, x):
        """Fit to images x (N, C, H, W), integers 0 … 255; returns self. ValueError if N is 0."""
        x = self._checked(x[:MAX_IMAGES])
        if not len(x):
            raise ValueError("LinearPredictor.fit: no images came, expected one or more")
        mask = np.ones((self.C + 1, UP + 1, 2 * SIDE + 1), bool)
        mask[:-1, UP, SIDE:] = mask[-1, UP, SIDE + 1:] = False  # the pixel and what comes after it
        n, moments = np.count_nonzero(mask), 0.0
        for i in range(0, len(x), 50):
            v = rescale(x[i:i + 50], dtype=np.float32)
            windows = np.lib.stride_tricks.sliding_window_view(
                pad_context(v), mask.shape[1:], (2, 3))  # (N, C + 1, H, W, ...)
            windows = windows.transpose(0, 2, 3, 1, 4, 5)
            rows = np.concatenate([windows[..., mask], v.transpose(0, 2, 3, 1)], -1)
            rows = rows.reshape(-1, n + self.C)
            moments = moments + (rows.T @ rows).astype(np.float64)
        ridge = 1e-7 * np.trace(moments) * np.eye(n)  # in case all images are one flat colour
        w = np.linalg.solve(moments[:n, :n] + ridge, moments[:n, n:])  # (n, C)
        R = np.concatenate([-w, np.eye(self.C)])  # from a row to the residuals v − a
        S = R.T @ moments @ R + 1e-7 * np.eye(self.C)  # covariance of v − a × pixel count
        B = [np.linalg.solve(S[:c, :c], S[:c, c]) for c in range(1, self.C)]
        write(self.weight, lambda a: a.__setitem__((slice(None), mask), w.T))
        initializers.values(self.B, np.concatenate([[], *B]))
        initializers.values(self.log_s, self._scales(x[:SCALE_IMAGES]))
        return self

    def _scales(self, x):
        from scipy.optimize import minimize_scalar
        mean = self.mixture(x).mean(rescale(x, dtype=np.float32)).numpy()[:, 0]

        def most_likely(x, mean):
            def nll(log_s): return -log_bin(x, mean, tensor([log_s])).numpy().mean()
            return minimize_scalar(nll, bounds=(-7, 1)).x
        return [most_likely(x[:, c], mean[:, c]) for c in range(self.C)]

    def predict(self, v):
        """a: the prediction from the preceding pixels, (N, C, H, W), for v (N, C, H, W) in [−1, 1].
        """
        return self.predict_padded(pad_context(v))

    def predict_padded(self, v_padded):
        """a for `pad_context(v)` or a part of it, UP rows and 2 SIDE columns smaller than the
        input."""
        with no_grad():
            return conv2d(v_padded, self.weight).numpy()

    def mixture(self, x):
        """p(x) for integers x (N, C, H, W): a mixture with a single component."""
        def expand(t):  # (n,) → (N, 1, n, H, W)
            return np.broadcast_to(t.numpy()[:, None, None], (N, 1, t.size, H, W))
        N, C, H, W = x.shape
        v = rescale(self._checked(x), dtype=self.weight.dtype)
        zeros = np.zeros((N, 1, C, H, W), v.dtype)
        return LogisticMixture(zeros[:, :, 0], zeros, expand(self.log_s), expand(self.B),
                               centre=self.predict(v))

    def log_prob(self, x):
        """log p(x) of each image, in nats: (N,). x is (N, C, H, W), integers 0 … 255."""
        return sum(self.mixture(x).log_prob(x), (1, 2))

    @property
    def s(self):
        """The scales of the channels, an array (C,)."""
        return np.exp(self.log_s.numpy())

    def _checked(self, x):
        x = check_levels("LinearPredictor", x)
        if x.ndim != 4 or x.shape[1] != self.C:
            raise ValueError(f"LinearPredictor: images are {x.shape}, expected (N, {self.C}, H, W)")
        return x


def pad_context(v):
    """v (N, C, H, W) with a channel of ones added, then zero-padded as far as the window reaches.
    """
    ones = np.ones_like(v[:, :1])
    return np.pad(np.concatenate([v, ones], 1), ((0, 0), (0, 0), (UP, 0), (SIDE, SIDE)))

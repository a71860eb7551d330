"""Normally distributed images: all conditional distributions are known in closed form, and so is
the prediction of a perfect network, whatever it is conditioned on."""

import numpy as np

from minigen import tensor


def recording_unet(seen):
    """A U-Net that records its arguments in `seen` and returns the first channel of x."""
    return lambda x, e: seen.append((x.numpy(), e.numpy())) or x[:, :1]


def alpha_bar_of(schedule):
    """ᾱ from the definition, one product at a time."""
    out = [1.0]
    for beta in schedule.beta[1:]:
        out.append(out[-1] * (1 - beta))
    return np.array(out)


class World:
    """Images x ~ N(0, Σ) of 2×2 pixels. Networks see c = B x + √r ε, one r for each row of B."""

    root = np.array([[8, 0, 0, 0], [5, 5, 0, 0], [4, 1, 6, 0], [3, 4, 2, 3]]) / 30
    sigma = root @ root.T
    mean = np.full((1, 4), 0.25)  # B of super-resolution

    def __init__(self, schedule):
        self.alpha_bar = alpha_bar_of(schedule)

    def sample(self, n, rng):
        return (rng.standard_normal((n, 4)) @ self.root.T).reshape(n, 1, 2, 2)

    def posterior(self, B, r):
        """The normal distribution of x given c: the matrix K of its mean K c, its covariance."""
        K = self.sigma @ B.T @ np.linalg.pinv(B @ self.sigma @ B.T + np.diag(r))
        return K, self.sigma - K @ B @ self.sigma

    def eps_posterior(self, t, B, r):
        """That of the noise ε of x_t given (x_t, c): K of its mean K (x_t, c), its covariance."""
        a = self.alpha_bar[t]
        H = np.concatenate([a**0.5 * np.eye(4), B])
        R = np.diag([*[1 - a] * 4, *r])
        with_eps = np.concatenate([(1 - a) ** 0.5 * np.eye(4), np.zeros_like(B)])  # covariance
        K = with_eps.T @ np.linalg.pinv(H @ self.sigma @ H.T + R)
        return K, np.eye(4) - K @ with_eps

    def eps_star(self, x_t, t, cond, B, r):
        """The mean of ε for each image; t and the rows of r may differ between images."""
        out = np.empty_like(x_t)
        x_t = np.concatenate([x_t.reshape(-1, 4), cond], 1)
        for one in np.unique(np.column_stack([t, r]), axis=0):
            of = (np.column_stack([t, r]) == one).all(1)
            K, _ = self.eps_posterior(int(one[0]), B, one[1:])
            out[of] = (x_t[of] @ K.T).reshape(-1, 1, 2, 2)
        return out

    def sr3(self, x_t, t, y, s=0):
        """A perfect AugmentedSR3Denoiser; with s = 0, a perfect SR3Denoiser. c is y / √ᾱ_s."""
        a = self.alpha_bar[np.broadcast_to(s, len(y))]
        cond, r = tensor(y).numpy().reshape(-1, 1) / a[:, None] ** 0.5, ((1 - a) / a)[:, None]
        return tensor(self.eps_star(x_t.numpy(), t, cond, self.mean, r))

    def unconditional(self, x_t, t):
        """A perfect unconditional network."""
        empty = np.zeros((len(x_t), 0))
        return tensor(self.eps_star(x_t.numpy(), t, empty, np.zeros((0, 4)), empty))

    def inpainter(self, x_t, t, x_0, m):
        """A perfect Inpainter, with one mask for all images."""
        B = np.eye(4)[m[0].ravel() == 0]
        r = np.zeros((len(x_0), len(B)))
        return tensor(self.eps_star(x_t.numpy(), t, x_0.reshape(-1, 4) @ B.T, B, r))


def shrink(x):
    """Each image reduced to the mean of its pixels, (N, C, 1, 1)."""
    return x.mean((2, 3), keepdims=True)

"""A world of normal images, where all conditional distributions are known, and with them what a
perfect network says, whatever it is shown."""

import numpy as np

from minigen import tensor


def recorder(seen):
    """A U-Net that says nothing and notes what came."""
    return lambda x, e: seen.append((x.numpy(), e.numpy())) or x[:, :1]


def alpha_bar_of(schedule):
    """ᾱ from the definition, one product at a time."""
    out = [1.0]
    for beta in schedule.beta[1:]:
        out.append(out[-1] * (1 - beta))
    return np.array(out)


class World:
    """x ~ N(0, Σ), images of 2×2 pixels, of which B x + √r ε is shown, r a number for each row."""

    root = np.array([[8, 0, 0, 0], [5, 5, 0, 0], [4, 1, 6, 0], [3, 4, 2, 3]]) / 30
    sigma = root @ root.T
    mean = np.full((1, 4), 0.25)  # B of super-resolution

    def __init__(self, schedule):
        self.alpha_bar = alpha_bar_of(schedule)

    def draw(self, n, rng):
        return (rng.standard_normal((n, 4)) @ self.root.T).reshape(n, 1, 2, 2)

    def given(self, B, r):
        """x given what is shown, normal: the matrix of its mean, and its covariance."""
        K = self.sigma @ B.T @ np.linalg.pinv(B @ self.sigma @ B.T + np.diag(r))
        return K, self.sigma - K @ B @ self.sigma

    def noise(self, t, B, r):
        """ε given x_t and what is shown, likewise."""
        a = self.alpha_bar[t]
        H = np.concatenate([a**0.5 * np.eye(4), B])
        R = np.diag([*[1 - a] * 4, *r])
        with_eps = np.concatenate([(1 - a) ** 0.5 * np.eye(4), np.zeros_like(B)])  # covariance
        K = with_eps.T @ np.linalg.pinv(H @ self.sigma @ H.T + R)
        return K, np.eye(4) - K @ with_eps

    def best(self, x_t, t, shown, B, r):
        """The mean of ε for each image; t, and rows of r, differ from one to the next."""
        out = np.empty_like(x_t)
        x_t = np.concatenate([x_t.reshape(-1, 4), shown], 1)
        for one in np.unique(np.column_stack([t, r]), axis=0):
            of = (np.column_stack([t, r]) == one).all(1)
            K, _ = self.noise(int(one[0]), B, one[1:])
            out[of] = (x_t[of] @ K.T).reshape(-1, 1, 2, 2)
        return out

    def enlarger(self, x_t, t, y, s=0):
        """A perfect AugmentedEnlarger; s = 0: a perfect Enlarger. y as if not scaled by √ᾱ_s."""
        a = self.alpha_bar[np.broadcast_to(s, len(y))]
        shown, r = tensor(y).numpy().reshape(-1, 1) / a[:, None] ** 0.5, ((1 - a) / a)[:, None]
        return tensor(self.best(x_t.numpy(), t, shown, self.mean, r))

    def plain(self, x_t, t):
        """A perfect network that is shown nothing."""
        nothing = np.zeros((len(x_t), 0))
        return tensor(self.best(x_t.numpy(), t, nothing, np.zeros((0, 4)), nothing))

    def taught(self, x_t, t, x_0, m):
        """A perfect Inpainter, of one mask for all images."""
        B = np.eye(4)[m[0].ravel() == 0]
        r = np.zeros((len(x_0), len(B)))
        return tensor(self.best(x_t.numpy(), t, x_0.reshape(-1, 4) @ B.T, B, r))


def shrink(x):
    """Images as the means of their pixels."""
    return x.mean((2, 3), keepdims=True)

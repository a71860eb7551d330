"""Numbers by which models are compared, computed in the same way everywhere.

All are in nats for each image, over held-out images; noise comes from ``default_rng(0)``.
"""

import numpy as np

from minigen.tensor import no_grad, tensor


def binarise(x, rng):
    """Images in [0, 1] as zeros and ones (float32): a pixel is 1 with its value as probability."""
    if x.dtype.kind != "f":
        raise TypeError(f"binarise: expected values in [0, 1], got {x.dtype}: divide by 255 first")
    return (rng.random(x.shape) < x).astype(np.float32)


def neg_elbo(vae, x, *given, batch=500):
    """−ELBO, its reconstruction part and its KL part, averaged over all images x (N, C, H, W), with
    one z for each: three numbers whose first is the sum of the others."""
    rng, totals = np.random.default_rng(0), np.zeros(3)
    for i in range(0, len(x), batch):
        with no_grad():
            parts = vae.elbo(tensor(x[i:i + batch]), rng, *(y[i:i + batch] for y in given))
        totals += [-parts[0].numpy().sum(dtype=np.float64),
                   -parts[1].numpy().sum(dtype=np.float64), parts[2].numpy().sum(dtype=np.float64)]
    return tuple((totals / len(x)).tolist())


def iw_nll(vae, x, *given, K=50, batch=500):
    """−log p(x), bounded from above by K importance-weighted samples, averaged over x."""
    rng, total = np.random.default_rng(0), 0.0
    for i in range(0, len(x), batch):
        y = (y[i:i + batch] for y in given)
        total -= vae.log_prob(tensor(x[i:i + batch]), rng, *y, K=K).numpy().sum(dtype=np.float64)
    return float(total / len(x))

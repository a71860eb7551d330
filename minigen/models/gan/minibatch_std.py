"""Minibatch standard deviation (Karras et al. 2018): D sees how much the images of a batch vary.

    σ(h) = mean_{c,i,j} √var_n(h_{ncij})        one more channel, the same number everywhere

A discriminator that judges each image by itself cannot object if G generates the same few good
images again and again. With this channel it can, so that variety pays.
"""

from minigen import broadcast_to, concatenate, mean, var


def minibatch_std(h):
    """h (N, C, H, W) with one more channel, σ(h) everywhere: (N, C + 1, H, W)."""
    std = mean((var(h, axis=0) + 1e-8) ** 0.5)  # eq: minibatch-std
    return concatenate([h, broadcast_to(std, shape=(len(h), 1, *h.shape[2:]))], axis=1)

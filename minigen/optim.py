"""Optimisers: one short class each, its equation above the kernel that computes it.

    params = nn.parameters(model)
    opt = optim.Adam(params, lr=1e-3)
    opt.step(grad(loss, params))

`params` is a dict of tensors; `opt.state[key]` holds the optimiser's arrays for the parameter of
that key, `opt.t` counts steps, and `opt.lr` may be set between steps (see the schedules below).
"""

import math
from bisect import bisect_right

import numpy as np

from minigen import kernels
from minigen.tensor import Tensor, as_array, device_scalars, recording, write, xp

__all__ = ["Adam", "AdamW", "Optimizer", "RMSprop", "SGD", "clip_factor", "clip_grad_norm",
           "clip_grad_value", "cosine", "stage_at", "step_decay", "warmup", "warmup_cosine"]


class Optimizer:
    """What all optimisers share: the parameters, the state, and the loop over both."""

    moments = ()  # the names of the arrays kept for each parameter

    def __init__(self, params, lr):
        if not isinstance(params, (dict, list, tuple)) or not params:
            raise ValueError(f"{type(self).__name__}: expected a dict or list of parameters "
                             f"(nn.parameters(model)), got {type(params).__name__}"
                             f"{' without any' if isinstance(params, (dict, list, tuple)) else ''}")
        for name in ("momentum", "weight_decay"):
            if not getattr(self, name, 0) >= 0:
                raise ValueError(f"{type(self).__name__}: {name} must not be negative, got "
                                 f"{getattr(self, name)}")
        if not lr >= 0:
            raise ValueError(f"{type(self).__name__}: lr must not be negative, got {lr}")
        self.params = params if isinstance(params, dict) else {str(i): p
                                                               for i, p in enumerate(params)}
        for key, p in self.params.items():
            if not (isinstance(p, Tensor) and p.requires_grad):
                raise TypeError(f"{type(self).__name__}: {key} is not a tensor that requires grad")
        if len({id(p) for p in self.params.values()}) < len(self.params):
            raise ValueError(f"{type(self).__name__}: a parameter was given twice")
        self.lr, self.t, self.scalars = lr, 0, None
        self.state = {key: {name: xp(p.data).zeros_like(p.data) for name in self.moments}
                      for key, p in self.params.items()}

    def step(self, grads, factor=1.0):
        """Take one step down `factor` times the gradients, a dict (or list) like the parameters."""
        if not isinstance(grads, dict):
            if len(grads) != len(self.params):
                raise ValueError(f"{type(self).__name__}.step: {len(grads)} gradients for "
                                 f"{len(self.params)} parameters")
            grads = dict(zip(self.params, grads, strict=True))
        if grads.keys() != self.params.keys():
            odd = next(iter(grads.keys() ^ self.params.keys()))
            raise ValueError(f"{type(self).__name__}.step: gradients and parameters differ at "
                             f"{odd!r}")
        for key, p in self.params.items():
            g = grads[key]
            if not isinstance(g, Tensor) or g.shape != p.shape or g.dtype != p.dtype:
                came = f"{g.shape} {g.dtype}" if isinstance(g, Tensor) else f"a {type(g).__name__}"
                raise ValueError(f"{type(self).__name__}.step: {key} is {p.shape} {p.dtype}, its "
                                 f"gradient {came}: nothing was changed")
        recording().register(self) if recording() else self.upload()
        self.t += 1
        scalars = self.scalars
        if scalars is None:
            scalars = (factor, self.lr, self.t)
        else:
            scalars[0] = factor
            scalars[2] += 1
        g = [grads[key].data for key in self.params]
        state = [[self.state[key][name] for key in self.params] for name in self.moments]
        write([*self.params.values()], lambda *p: self.update([*p], g, scalars, *state))

    def upload(self):
        """On a device, put lr and t where its kernels read them: `scalars`, (factor, lr, t)."""
        p = next(iter(self.params.values()))
        self.scalars = device_scalars(self.scalars, [1.0, self.lr, self.t], p.data)

    def update(self, p, g, scalars):
        """Write the list p of the parameters' arrays in place, given the list g of their gradients
        and scalars = (factor, lr, t); further arguments are lists of the state's arrays."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent with momentum μ and weight decay λ, as in PyTorch:

        g ← g + λ p      b ← μ b + (1 − dampening) g  (b = g at first)
        p ← p − lr · b   (Nesterov: p ← p − lr (g + μ b))
    """

    moments = ("b",)

    def __init__(self, params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0,
                 nesterov=False):
        if nesterov and (momentum == 0 or dampening):
            raise ValueError("SGD: nesterov needs momentum > 0 and no dampening")
        self.momentum, self.dampening = momentum, dampening
        self.weight_decay, self.nesterov = weight_decay, bool(nesterov)
        super().__init__(params, lr)

    def update(self, p, g, scalars, b):
        kernels.sgd(p, g, b, scalars, self.momentum, self.dampening, self.weight_decay,
                    self.nesterov)


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient (Hinton 2012), as in PyTorch:

        g ← g + λ p     v ← α v + (1 − α) g²     b ← μ b + g / (√v + ε)     p ← p − lr · b
    """

    moments = ("v", "b")

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
        if not 0 <= alpha < 1 or not eps >= 0:
            raise ValueError(f"RMSprop: alpha must lie in [0, 1) and eps must not be negative, got "
                             f"{alpha} and {eps}")
        self.alpha, self.eps, self.weight_decay, self.momentum = alpha, eps, weight_decay, momentum
        super().__init__(params, lr)

    def update(self, p, g, scalars, v, b):
        kernels.rmsprop(p, g, v, b, scalars, self.alpha, self.eps, self.weight_decay, self.momentum)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), with weight decay λ as a part of the gradient:

        g ← g + λ p
        m ← β₁ m + (1 − β₁) g            v ← β₂ v + (1 − β₂) g²
        p ← p − lr · m̂ / (√v̂ + ε)        m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)
    """

    moments = ("m", "v")
    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        if np.size(betas) != 2 or not all(0 <= beta < 1 for beta in betas) or not eps >= 0:
            raise ValueError(f"{type(self).__name__}: two betas must lie in [0, 1) and eps must "
                             f"not be negative, got {betas} and {eps}")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        super().__init__(params, lr)

    def update(self, p, g, scalars, m, v):
        kernels.adam(p, g, m, v, scalars, *self.betas, self.eps, self.weight_decay, self.decoupled)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): p ← (1 − lr λ) p is applied
    first, and g is left unchanged."""

    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


# ---------------------------------------------------------------------------------- gradients

def clip_grad_norm(grads, max_norm):
    """Scale all gradients in a dict by one factor, so that their joint norm √Σg² is at most
    `max_norm`. Returns the scaled dict and the norm before scaling. TypeError for a list."""
    _check_dict("clip_grad_norm", grads)
    total = math.sqrt(sum(kernels.square_sum([g.data for g in grads.values()])))
    factor = clip_factor(total, max_norm)
    return {key: Tensor(as_array(g.data * g.dtype.type(factor))) for key, g in grads.items()}, total


def _check_dict(name, grads):
    if not isinstance(grads, dict):
        raise TypeError(f"{name}: expected a dict of gradients, got a {type(grads).__name__}: ask "
                        "`grad` for a dict, such as optimiser.params")


def clip_factor(norm, max_norm):
    """The factor ≤ 1 that makes a norm at most `max_norm`; NaN for NaN."""
    if not max_norm >= 0:
        raise ValueError(f"max_norm must not be negative, got {max_norm}")
    factor = max_norm / (norm + 1e-6)  # PyTorch's guard against division by 0
    return xp(factor).minimum(factor, 1.0)


def clip_grad_value(grads, max_value):
    """The dict of gradients with every entry limited to [−max_value, max_value]. TypeError for a
    list."""
    _check_dict("clip_grad_value", grads)
    if not max_value >= 0:
        raise ValueError(f"max_value must not be negative, got {max_value}")
    most = float(max_value)  # a NumPy scalar would promote float32 to float64
    return {key: Tensor(as_array(g.data.clip(-most, most))) for key, g in grads.items()}


# ---------------------------------------------------------------------------------- schedules
# Functions from the step t = 0, 1, … to a factor for the learning rate: opt.lr = lr * cosine(t, T).

def warmup(t, steps):
    """A linear rise from 1/steps to 1 over the first `steps` steps, then 1; 0 before t = 0."""
    if steps < 0:
        raise ValueError(f"warmup: steps must not be negative, got {steps}")
    return min(1.0, max(0, t + 1) / steps) if steps else 1.0


def cosine(t, steps, floor=0.0):
    """Half a cosine from 1 at t = 0 to `floor` at t = steps (Loshchilov & Hutter 2017)."""
    if not steps > 0:
        raise ValueError(f"cosine: steps must be positive, got {steps}")
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(t / steps, 1))) / 2


def warmup_cosine(t, start, end, warmup_steps=50, floor=0.0):
    """Warm-up times cosine for the stage of a training run from step `start` to step `end`: a rise
    over `warmup_steps` steps, then a fall to `floor`."""
    return warmup(t - start, warmup_steps) * cosine(t - start, end - start, floor)


def stage_at(t, shares, steps):
    """The stage of a training run that step t belongs to, 1, 2, …, and the steps from which and up
    to which it lasts. `shares`: of all `steps`, at which the stages begin, and 1, the end."""
    starts = [int(share * steps) for share in shares]
    stage = bisect_right(starts, t)
    return stage, starts[stage - 1], starts[stage]


def step_decay(t, every, gamma=0.1):
    """γ^⌊t / every⌋: the factor is multiplied by γ after every `every` steps."""
    if not every > 0:
        raise ValueError(f"step_decay: every must be positive, got {every}")
    return gamma ** (t // every)

"""The R₁ penalty (Mescheder, Geiger & Nowozin 2018): D is kept flat around the data.

    L_D = −V(G, D) + γ/2 E_x ‖∇_x a(x)‖²       a: the logit of D

Where samples are distributed like the data, nothing distinguishes them, and D should be constant.
Without the penalty, a D that is not pushes G away again, and gradient steps may circle around that
point for ever; with it they converge. The loss contains a gradient, so its own gradient
differentiates D twice.
"""

from minigen import grad, mean, sum, tensor


def r1(D, x):
    """E ‖∇_x D(x)‖² over real samples x (N, ...), differentiable in D's parameters."""
    x = tensor(x, requires_grad=True)
    slope = grad(sum(D(x)), x, create_graph=True)
    return mean(sum(slope.flatten(1) ** 2, axis=1))  # eq: r1-penalty

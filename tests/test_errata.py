"""Slide errors in equations whose systems are not built yet: what is printed, what is true.

The others stand with the equations they concern, under `# slide error: N` in the other test files.
"""

import numpy as np

from minigen import grad, sum, tensor

RNG = np.random.default_rng


def test_with_the_printed_plus_the_discriminator_profits_from_believing_fakes():
    """∂𝓛/∂D(x̂) of −½ log(1 − D) is ½ / (1 − D) > 0, so that descent lowers D; with a plus it
    raises it, and the loss has no lower bound as D → 1."""
    D = tensor(np.linspace(0.01, 0.99, 50), requires_grad=True)
    true, printed = -0.5 * (1 - D).log(), 0.5 * (1 - D).log()
    slope = 0.5 / (1 - D.numpy())
    assert np.allclose(grad(sum(true), D).numpy(), slope) and (slope > 0).all()
    assert np.allclose(grad(sum(printed), D).numpy(), -slope)  # slide error: 9
    assert printed.numpy().argmin() == 49 and true.numpy().argmin() == 0


def test_an_attack_is_added_to_the_image():
    """d = η sign(w): each pixel moves by η, the score by η Σ|wᵢ|; w (x + b) * d is not near it."""
    rng, eta = RNG(1), 0.01
    w, x, b = rng.normal(size=784), rng.uniform(size=784), 0.3
    d = eta * np.sign(w)
    attacked = w @ (x + d) + b
    assert np.isclose(attacked - (w @ x + b), w @ d) and np.isclose(w @ d, eta * abs(w).sum())
    assert w @ d > 100 * abs(d).max()  # many changes too small to be seen add up
    printed = w @ ((x + b) * d)
    assert abs(printed - attacked) > 1 and not np.isclose(printed - w @ (x + b), w @ d)
    assert not np.isclose(w @ (x + b), w @ x + b)  # slide error: 10

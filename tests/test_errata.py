"""Slide errors 9 and 10: what the slides print and what is true.

The others are tested with the equations they concern, at `# slide error: N` in other test files.
"""

import numpy as np

from minigen import tensor
from minigen.models.classifier import input_optimisation as inputs
from minigen.models.text_to_image import stackgan

RNG = np.random.default_rng


def test_with_the_printed_plus_the_discriminator_profits_from_believing_fakes():
    """−½ log(1 − D(x̂)) grows with D(x̂), so that descent lowers D; with a plus it falls, without a
    lower bound as D → 1."""
    D, zero = lambda x, e_bar: (x, x), tensor(np.zeros((1, 1)))
    logits = np.linspace(-5, 5, 50)
    true = np.array([stackgan.d_loss(D, zero, tensor(np.full((1, 1), a)), None).item()
                     for a in logits])
    of_fakes = true - np.log(2)  # real image: ½ log 2 alone, ½ log 2 with the sentence
    assert np.allclose(of_fakes, np.log1p(np.exp(logits)))
    assert (np.diff(np.log(2) + of_fakes) > 0).all()
    assert (np.diff(np.log(2) - of_fakes) < 0).all()  # slide error: 9


def test_an_attack_is_added_to_the_image():
    """d = η sign(w): each pixel moves by η, the score by η Σ|wᵢ|; w (x + b) * d is far from it."""
    rng, eta = RNG(1), 0.01
    w, x, b = rng.normal(size=784), rng.uniform(size=784), 0.3
    d = inputs.worst_perturbation(w, eta)
    attacked = w @ (x + d) + b
    assert np.isclose(attacked - (w @ x + b), inputs.score_change(w, d))
    assert np.isclose(inputs.score_change(w, d), eta * abs(w).sum())
    assert inputs.score_change(w, d) > 100 * abs(d).max()  # many imperceptible changes add up
    printed = w @ ((x + b) * d)
    assert abs(printed - attacked) > 1 and not np.isclose(printed - w @ (x + b), w @ d)
    assert not np.isclose(w @ (x + b), w @ x + b)  # slide error: 10

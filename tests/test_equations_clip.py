"""Section "CLIP", the loss and the best scores: each equation is checked by a second route."""

import numpy as np
import pytest
from scipy.optimize import minimize

from minigen import grad, gradcheck, nn, optim, tensor
from minigen.data import scenes
from minigen.models.clip import clip
from minigen.models.clip.optimal_critic import expected_loss, pointwise_mutual_information

RNG = np.random.default_rng


def little(rng=0):
    """A small CLIP for images of 3×8×8 and word indices below 9."""
    rng = RNG(rng)
    return clip.CLIP(clip.ImageEncoder((3, 8, 8), 6, (8, 8), rng),
                     clip.TextEncoder(9, 5, 6, D=8, layers=1, heads=2, rng=rng))


def pairs(n=4):
    """Images, and texts of 2 to 5 words."""
    words = RNG(1).integers(1, 9, (n, 5)) * (np.arange(5) < RNG(2).integers(2, 6, n)[:, None])
    return RNG(0).normal(size=(n, 3, 8, 8)).astype(np.float32), words


def printed(s, i, j):
    """The slide's loss of one pair, as printed: numerator fᵢ·gⱼ, sums over texts and images."""
    texts = np.logaddexp.reduce([s[i, k] for k in range(len(s))])
    images = np.logaddexp.reduce([s[k, j] for k in range(len(s))])
    return texts - s[i, j] + images - s[i, j]


def units(n, d, rng):
    """n random unit vectors in d dimensions."""
    codes = rng.normal(size=(n, d))
    return codes / np.sqrt((codes ** 2).sum(1, keepdims=True))


# The loss -----------------------------------------------------------------------------------------


def test_the_loss_against_loops():
    s = 5 * RNG(0).normal(size=(6, 6))
    want = np.mean([printed(s, i, i) for i in range(6)])
    assert clip.contrastive_loss(tensor(s)).item() == pytest.approx(want)  # eq: clip-contrastive
    gradcheck(clip.contrastive_loss, s)


def test_the_loss_of_the_networks():
    model, (x, c) = little(), pairs()
    f, g = (codes.numpy() for codes in (model.f(tensor(x)), model.g(c)))
    assert np.allclose((f ** 2).sum(1), 1) and np.allclose((g ** 2).sum(1), 1)
    s = np.array([[f_i @ g_j / 0.07 for g_j in g] for f_i in f])
    assert np.allclose(model.logits(tensor(x), c).numpy(), s, rtol=1e-4, atol=1e-4)
    loss, parts = model.loss(tensor(x), c)
    want = np.mean([printed(s, i, i) for i in range(4)])
    assert loss.item() == pytest.approx(want, rel=1e-4)  # eq: clip-contrastive
    assert parts["tau"].item() == pytest.approx(0.07)


def test_the_contrastive_loss_compares_the_pair_that_belongs_together():
    """With fᵢ·gⱼ, j ≠ i, in the numerator, training would make the matching texts less probable:
    where images and texts agree, the correct loss is nearly 0 and the printed one is largest."""
    f, g = units(6, 4, RNG(2)), units(6, 4, RNG(3))
    agreeing = f @ f.T / 0.1
    own, right = (clip.contrastive_loss(tensor(s)).item() for s in (f @ g.T / 0.1, agreeing))
    wrong = np.mean([printed(agreeing, i, (i + 1) % 6) for i in range(6)])
    assert right < own < wrong  # slide error: 17


def test_own_texts_are_drawn_near_and_others_pushed_away():
    f, g = units(5, 3, RNG(0)), units(5, 3, RNG(1))
    own, others = clip.agreement(tensor(f @ g.T))
    diagonal = [f[i] @ g[i] for i in range(5)]
    rest = [f[i] @ g[j] for i in range(5) for j in range(5) if i != j]
    assert own.item() == pytest.approx(np.mean(diagonal))  # eq: clip-pairwise-goal
    assert others.item() == pytest.approx(np.mean(rest))  # eq: clip-pairwise-goal
    s = tensor(f @ g.T / 0.5, requires_grad=True)
    slope = grad(clip.contrastive_loss(s), s).numpy()  # descent raises the matching scores
    assert (np.diag(slope) < 0).all() and (slope[~np.eye(5, dtype=bool)] > 0).all()
    model, (x, c) = little(), pairs()
    opt = optim.Adam(nn.parameters(model), 1e-2)
    seen = []
    for _ in range(30):
        loss, parts = model.loss(tensor(x), c)
        seen.append((parts["own"].item(), parts["others"].item()))
        opt.step(grad(loss, opt.params))
    (own, others), (first, _) = seen[-1], seen[0]
    assert own > first + 0.2 and own - others > 0.8


def test_a_text_that_stands_twice_costs_log_2_and_no_more():
    g = units(6, 6, RNG(0))
    g[1] = g[0]
    sure = 1000 * g @ g.T  # f = g: the best possible scores
    assert clip.contrastive_loss(tensor(sure)).item() == pytest.approx(2 * 2 * np.log(2) / 6)
    f = tensor(np.linalg.qr(RNG(1).normal(size=(6, 6)))[0], requires_grad=True)
    slope = grad(clip.contrastive_loss(f @ g.T / 0.1), f).numpy()
    for i in range(6):  # by hand; the two equal texts pull in one direction
        q = np.exp(f.numpy() @ g.T / 0.1)
        rows, columns = q / q.sum(1, keepdims=True), q / q.sum(0)
        pull = sum((rows[i, k] + columns[i, k] - 2 * (k == i)) * g[k] for k in range(6)) / 0.1 / 6
        assert np.allclose(slope[i], pull)


# The best scores ----------------------------------------------------------------------------------


def table(X=3, C=4, seed=0):
    return RNG(seed).dirichlet(np.full(X * C, 0.7)).reshape(X, C)


def test_pointwise_mutual_information_against_loops():
    p = table()
    for x, c in np.ndindex(p.shape):
        p_x, p_c = sum(p[x, k] for k in range(4)), sum(p[k, c] for k in range(3))
        found = pointwise_mutual_information(p)[x, c]
        assert found == pytest.approx(np.log(p[x, c] / p_x / p_c))  # eq: clip-optimal-critic
        assert found == pytest.approx(np.log(p[x, c] / p_x) - np.log(p_c))
    assert pointwise_mutual_information(np.eye(2) / 2)[0, 1] == -np.inf
    assert np.allclose(pointwise_mutual_information(np.outer([0.2, 0.8], [0.5, 0.3, 0.2])), 0)


def test_the_expected_loss_is_the_mean_over_drawn_batches():
    p, s = table(2, 3), RNG(1).normal(size=(2, 3))
    rng, N = RNG(2), 3
    drawn = [np.divmod(rng.choice(6, N, p=p.ravel()), 3) for _ in range(4000)]
    losses = [np.mean([printed(s[np.ix_(x, c)], i, i) for i in range(N)]) for x, c in drawn]
    found = expected_loss(tensor(s), p, N).item()
    assert found == pytest.approx(np.mean(losses), abs=4 * np.std(losses) / 4000 ** 0.5)


def test_two_that_never_meet_have_no_part_in_the_expected_loss():
    p = np.array([[0.5, 0], [0.25, 0.25]])
    s = pointwise_mutual_information(p)
    assert s[0, 1] == -np.inf
    near = expected_loss(tensor(np.maximum(s, -1e3)), p, 3).item()
    assert expected_loss(tensor(s), p, 3).item() == pytest.approx(near)


@pytest.mark.parametrize("p, N", [(table(), 2), (table(2, 3), 3)])
def test_the_best_scores_are_the_pointwise_mutual_information_and_a_constant(p, N):
    """Found by descent from 0. With N = 3, most batches contain equal texts."""
    def loss(s):
        s = tensor(s.reshape(p.shape), requires_grad=True)
        value = expected_loss(s, p, N)
        return value.item(), grad(value, s).numpy().ravel()

    best = minimize(loss, np.zeros(p.size), jac=True, options={"gtol": 1e-9}).x.reshape(p.shape)
    away = best - pointwise_mutual_information(p)
    assert np.ptp(best) > 0.4 and np.ptp(away) < 1e-5  # eq: clip-optimal-critic


def test_one_term_of_the_loss_leaves_a_constant_for_each_image():
    """The first term has the same value at s* + a constant for each image, and larger values
    elsewhere; both terms together leave only one common constant free."""
    p = table()

    def first_term(s, p):
        value = 0
        for a, b in np.ndindex(12, 12):
            (x, c), (y, k) = divmod(a, 4), divmod(b, 4)
            two = [s[x, c], s[x, k]]
            value += p[x, c] * p[y, k] * (np.logaddexp(*two) - two[0])
        return value

    s = pointwise_mutual_information(p)
    shifted = s + np.array([[3.0], [-1.0], [0.5]])
    assert first_term(shifted, p) == pytest.approx(first_term(s, p))
    both = [expected_loss(tensor(a), p).item() for a in (s, s + 7, shifted)]
    assert both[0] == pytest.approx(both[1]) and both[2] > both[0] + 0.1
    for k in range(20):
        other = s + 0.3 * RNG(k).normal(size=s.shape)
        assert first_term(other, p) > first_term(s, p)


def test_the_product_of_unit_codes_is_not_the_pointwise_mutual_information_itself():
    """A slide equates the two. But f·g ≤ 1, while s* is larger for an image and a text that seldom
    occur apart, and with f·g in place of f·g / τ the loss stays far from its minimum."""
    p = np.full((5, 5), 0.002) + 0.19 * np.eye(5)
    p /= p.sum()
    s = pointwise_mutual_information(p)
    assert s.max() > 1.5 and s.min() < -2.5
    codes = tensor(np.eye(5))
    best = expected_loss(tensor(s), p).item()
    at = lambda tau: expected_loss(codes @ codes.T / tau, p).item()
    assert at(1.0) > 1.2 * best
    assert at(1 / np.ptp(s)) == pytest.approx(best)  # for this τ alone: s* + a constant


# The networks -------------------------------------------------------------------------------------


def test_words_that_are_not_there_do_not_count_and_their_order_does():
    model = little()
    a = model.g(np.array([[1, 2, 3, 0, 0]])).numpy()
    assert np.allclose(model.g(np.array([[1, 2, 3]])).numpy(), a, atol=1e-6)
    assert not np.allclose(model.g(np.array([[3, 2, 1, 0, 0]])).numpy(), a, atol=1e-2)
    together = model.g(np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])).numpy()
    assert np.allclose(together[0], a[0], atol=1e-6)


def test_all_weights_learn():
    model, (x, c) = little(), pairs()
    params = nn.parameters(model)
    assert "tau.weight" in params
    slopes = grad(model.loss(tensor(x), c)[0], params)
    assert all(np.abs(g.numpy()).max() > 0 for g in slopes.values())


def test_sentences_of_another_vocabulary():
    found = scenes.encode(["a dog", "a"], ("", "a", "dog"), 3)
    assert found.tolist() == [[1, 2, 0], [1, 0, 0]]
    with pytest.raises(ValueError, match="'cat' is not in the vocabulary"):
        scenes.encode(["a cat"], ("", "a", "dog"), 3)


@pytest.mark.parametrize("wrong, says", [
    (lambda: clip.contrastive_loss(tensor(np.zeros((3, 4)))), r"\(3, 4\), expected \(N, N\)"),
    (lambda: clip.contrastive_loss(tensor(np.zeros((1, 1)))), "N at least 2"),
    (lambda: little().loss(pairs(3)[0], pairs(4)[1]), r"\(3, 4\), expected \(N, N\)"),
    (lambda: pointwise_mutual_information(np.array([[0, 0], [0.5, 0.5]])),
     "a row or a column of p is 0"),
    (lambda: little().g(np.ones((2, 6), int)), r"\(2, 6\), expected \(N, L\), L at most 5"),
    (lambda: little().g(np.ones(3, int)), r"\(3,\), expected \(N, L\)"),
    (lambda: little().g(np.array([[0, 0]])), "a text without words"),
])
def test_bad_input_is_one_clear_line(wrong, says):
    with pytest.raises(ValueError, match=says) as e:
        wrong()
    assert "\n" not in str(e.value)

"""Section "CLIP": each equation by a second route."""

import numpy as np
import pytest
from scipy.optimize import minimize

from minigen import grad, gradcheck, metrics, nn, optim, tensor
from minigen.data import scenes
from minigen.models.clip import clip, retrieval
from minigen.models.clip.optimal_critic import expected_loss, pointwise_information
from minigen.models.diffusion import clip_guidance
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.exact import Mixture
from minigen.models.diffusion.noisy_classifier import NoisyClassifier
from minigen.models.diffusion.schedule import linear, respaced

RNG = np.random.default_rng


def little(rng=0):
    """A small CLIP of images of 3×8×8, and words below 9."""
    rng = RNG(rng)
    return clip.CLIP(clip.ImageEncoder((3, 8, 8), 6, (8, 8), rng),
                     clip.TextEncoder(9, 5, 6, D=8, layers=1, heads=2, rng=rng))


def pairs(n=4):
    """Images, and texts of 2 to 5 words."""
    words = RNG(1).integers(1, 9, (n, 5)) * (np.arange(5) < RNG(2).integers(2, 6, n)[:, None])
    return RNG(0).normal(size=(n, 3, 8, 8)).astype(np.float32), words


def printed(s, i, j):
    """The slide's loss of one pair as it stands: numerator fᵢ·gⱼ, sums over texts and images."""
    texts = np.logaddexp.reduce([s[i, k] for k in range(len(s))])
    images = np.logaddexp.reduce([s[k, j] for k in range(len(s))])
    return texts - s[i, j] + images - s[i, j]


def units(n, d, rng):
    """n random directions."""
    codes = rng.normal(size=(n, d))
    return codes / np.sqrt((codes ** 2).sum(1, keepdims=True))


# The loss -----------------------------------------------------------------------------------------


def test_the_loss_against_loops():
    s = 5 * RNG(0).normal(size=(6, 6))
    want = np.mean([printed(s, i, i) for i in range(6)])
    assert clip.contrastive(tensor(s)).item() == pytest.approx(want)  # eq: clip-contrastive
    gradcheck(clip.contrastive, s)


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
    """With fᵢ·gⱼ above, j another, the texts that belong to the images are made less probable:
    where image and text agree, the right loss is nearly 0, the printed one is largest."""
    f, g = units(6, 4, RNG(2)), units(6, 4, RNG(3))
    agreeing = f @ f.T / 0.1
    own, right = (clip.contrastive(tensor(s)).item() for s in (f @ g.T / 0.1, agreeing))
    wrong = np.mean([printed(agreeing, i, (i + 1) % 6) for i in range(6)])
    assert right < own < wrong  # slide error: 18


def test_own_texts_are_drawn_near_and_others_pushed_away():
    f, g = units(5, 3, RNG(0)), units(5, 3, RNG(1))
    own, others = clip.agreement(tensor(f @ g.T))
    diagonal = [f[i] @ g[i] for i in range(5)]
    rest = [f[i] @ g[j] for i in range(5) for j in range(5) if i != j]
    assert own.item() == pytest.approx(np.mean(diagonal))  # eq: clip-pairwise-goal
    assert others.item() == pytest.approx(np.mean(rest))  # eq: clip-pairwise-goal
    s = tensor(f @ g.T / 0.5, requires_grad=True)
    slope = grad(clip.contrastive(s), s).numpy()  # down it: what belongs together gains
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
    sure = 1000 * g @ g.T  # f = g: as right as can be
    assert clip.contrastive(tensor(sure)).item() == pytest.approx(2 * 2 * np.log(2) / 6)
    f = tensor(np.linalg.qr(RNG(1).normal(size=(6, 6)))[0], requires_grad=True)
    slope = grad(clip.contrastive(f @ g.T / 0.1), f).numpy()
    for i in range(6):  # an image is not pushed from the text because that is another's, too
        q = np.exp(f.numpy() @ g.T / 0.1)
        rows, columns = q / q.sum(1, keepdims=True), q / q.sum(0)
        pull = sum((rows[i, k] + columns[i, k] - 2 * (k == i)) * g[k] for k in range(6)) / 0.1 / 6
        assert np.allclose(slope[i], pull)


# The best scores ----------------------------------------------------------------------------------


def table(X=3, C=4, seed=0):
    return RNG(seed).dirichlet(np.full(X * C, 0.7)).reshape(X, C)


def test_pointwise_information_against_loops():
    p = table()
    for x, c in np.ndindex(p.shape):
        p_x, p_c = sum(p[x, k] for k in range(4)), sum(p[k, c] for k in range(3))
        found = pointwise_information(p)[x, c]
        assert found == pytest.approx(np.log(p[x, c] / p_x / p_c))  # eq: clip-optimal-critic
        assert found == pytest.approx(np.log(p[x, c] / p_x) - np.log(p_c))
    assert pointwise_information(np.eye(2) / 2)[0, 1] == -np.inf
    assert np.allclose(pointwise_information(np.outer([0.2, 0.8], [0.5, 0.3, 0.2])), 0)


def test_the_expected_loss_is_the_mean_over_drawn_batches():
    p, s = table(2, 3), RNG(1).normal(size=(2, 3))
    rng, N = RNG(2), 3
    drawn = [np.divmod(rng.choice(6, N, p=p.ravel()), 3) for _ in range(4000)]
    losses = [np.mean([printed(s[np.ix_(x, c)], i, i) for i in range(N)]) for x, c in drawn]
    found = expected_loss(tensor(s), p, N).item()
    assert found == pytest.approx(np.mean(losses), abs=4 * np.std(losses) / 4000 ** 0.5)


@pytest.mark.parametrize("p, N", [(table(), 2), (table(2, 3), 3)])
def test_the_best_scores_are_the_pointwise_information_and_a_constant(p, N):
    """By descent from 0. Most of the batches hold equal texts if N = 3."""
    def loss(s):
        s = tensor(s.reshape(p.shape), requires_grad=True)
        value = expected_loss(s, p, N)
        return value.item(), grad(value, s).numpy().ravel()

    best = minimize(loss, np.zeros(p.size), jac=True, options={"gtol": 1e-9}).x.reshape(p.shape)
    away = best - pointwise_information(p)
    assert np.ptp(best) > 0.4 and np.ptp(away) < 1e-5  # eq: clip-optimal-critic


def test_one_term_of_the_loss_leaves_a_constant_for_each_image():
    """Its loss is the same at s* + a number for each image, and larger elsewhere; both terms leave
    one number for all."""
    p = table()

    def first_term(s, p):
        value = 0
        for a, b in np.ndindex(12, 12):
            (x, c), (y, k) = divmod(a, 4), divmod(b, 4)
            two = [s[x, c], s[x, k]]
            value += p[x, c] * p[y, k] * (np.logaddexp(*two) - two[0])
        return value

    s = pointwise_information(p)
    shifted = s + np.array([[3.0], [-1.0], [0.5]])
    assert first_term(shifted, p) == pytest.approx(first_term(s, p))
    both = [expected_loss(tensor(a), p).item() for a in (s, s + 7, shifted)]
    assert both[0] == pytest.approx(both[1]) and both[2] > both[0] + 0.1
    for k in range(20):
        other = s + 0.3 * RNG(k).normal(size=s.shape)
        assert first_term(other, p) > first_term(s, p)


def test_the_product_of_unit_codes_is_not_the_pointwise_information_itself():
    """As a slide has it: f·g ≤ 1, while s* of a pair that is seldom alone is larger, and with f·g
    in place of f·g / τ the loss stays far from its least value."""
    p = np.full((5, 5), 0.002) + 0.19 * np.eye(5)
    p /= p.sum()
    s = pointwise_information(p)
    assert s.max() > 1.5 and s.min() < -2.5
    codes = tensor(np.eye(5))
    best = expected_loss(tensor(s), p).item()
    at = lambda tau: expected_loss(codes @ codes.T / tau, p).item()
    assert at(1.0) > 1.2 * best
    assert at(1 / np.ptp(s)) == pytest.approx(best)  # this one τ, and a constant


# What CLIP is used for ----------------------------------------------------------------------------


def cosine(a, b):
    return sum(a_i * b_i for a_i, b_i in zip(a, b, strict=True)) / (
        sum(a_i ** 2 for a_i in a) * sum(b_i ** 2 for b_i in b)) ** 0.5


def test_visual_similarity_is_the_cosine_of_the_angle():
    t, x = 3 * RNG(0).normal(size=(4, 5)), RNG(1).normal(size=(6, 5))
    VS = metrics.visual_similarity(t, x)
    assert np.allclose(VS, [[cosine(a, b) for b in x] for a in t])  # eq: visual-similarity
    angles = RNG(2).uniform(0, 3, 8)
    turned = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    found = metrics.visual_similarity([[0.3, 0.0]], turned)[0]
    assert np.allclose(np.arccos(found), angles)  # eq: visual-similarity
    for codes, says in ((np.ones((2, 3)), r"\(1, 2\) and \(2, 3\)"), (0 * turned, "no direction")):
        with pytest.raises(ValueError, match=says):
            metrics.visual_similarity([[0.3, 0.0]], codes)


def test_retrieval_finds_the_nearest_by_cosine_not_by_length():
    queries, stored = RNG(0).normal(size=(5, 3)), RNG(1).normal(size=(40, 3))
    stored *= RNG(2).uniform(0.1, 10, (40, 1))
    found = retrieval.retrieve(queries, stored, 4)
    for query, row in zip(queries, found, strict=True):
        order = sorted(range(40), key=lambda k, q=query: -cosine(q, stored[k]))
        assert row.tolist() == order[:4]  # eq: embed-and-retrieve
    near = np.concatenate([stored[:7], 100 * queries, stored[7:]])
    assert retrieval.retrieve(queries, near)[:, 0].tolist() == [7, 8, 9, 10, 11]


def test_reranking_puts_the_most_fitting_sample_first():
    f, g = units(30, 4, RNG(0)), units(1, 4, RNG(1))[0]
    order = retrieval.rerank(f, g)
    fit = {k: cosine(f[k], g) for k in range(30)}
    assert order.tolist() == sorted(fit, key=fit.get, reverse=True)  # eq: dalle-clip-rerank
    f[17] = g
    assert retrieval.rerank(f, g)[0] == 17


def test_zero_shot_names_an_image_by_the_nearest_description():
    g = units(12, 5, RNG(0)).reshape(4, 3, 5)  # 4 labels of 3 prompts
    labels = retrieval.label_codes(g)
    for k in range(4):
        mean = [sum(g[k, p, i] for p in range(3)) / 3 for i in range(5)]
        assert np.allclose(labels[k], np.array(mean) / sum(m * m for m in mean) ** 0.5)
    f = units(50, 5, RNG(1))
    want = [max(range(4), key=lambda k, a=a: cosine(a, labels[k])) for a in f]
    assert len(set(want)) == 4
    assert retrieval.zero_shot(f, labels).tolist() == want  # eq: clip-zero-shot


def test_codes_in_parts_are_those_of_the_whole():
    model, (x, c) = little(), pairs(7)
    nn.eval(model)
    assert np.allclose(retrieval.embed(model.f, x, batch=3), model.f(tensor(x)).numpy(), atol=1e-6)
    assert np.allclose(retrieval.embed(model.g, c, batch=2), model.g(c).numpy(), atol=1e-6)


def test_r_precision_with_planted_ranks():
    """Images of which so many other texts are nearer than their own: 0 to 99, each once."""
    rank = RNG(0).permutation(100)
    t, x = np.eye(100), np.zeros((100, 100))
    for i in range(100):
        others = np.delete(np.arange(100), i)
        x[i, others] = np.where(np.arange(99) < rank[i], 2.0, 0.5)
        x[i, i] = 1.0
    for r in (1, 5, 42, 100):
        assert metrics.r_precision(t, x, r, RNG(1)) == pytest.approx(r / 100)  # eq: r-precision
    assert metrics.r_precision(t, np.eye(100), 1, RNG(1)) == 1
    assert metrics.r_precision(t, -np.eye(100), 99, RNG(1)) == 0


def test_r_precision_by_brute_force():
    n, others = 12, 11  # all others, so that nothing is drawn
    t, x = RNG(0).normal(size=(n, 3)), RNG(1).normal(size=(n, 3))
    ranks = [sorted(range(n), key=lambda j, i=i: -cosine(x[i], t[j])).index(i) for i in range(n)]
    for r in range(1, n + 1):
        want = np.mean([rank < r for rank in ranks])
        found = metrics.r_precision(t, x, r, RNG(2), others)
        assert found == pytest.approx(want)  # eq: r-precision


def test_r_precision_of_drawn_texts():
    """Of 30 texts 9 are drawn beside the own one: it is the nearest if no nearer one is drawn."""
    n, others = 30, 9
    t, x = RNG(0).normal(size=(n, 4)), RNG(1).normal(size=(n, 4))
    nearer = [sum(cosine(x[i], t[j]) > cosine(x[i], t[i]) for j in range(n)) for i in range(n)]
    chance = [np.prod([(n - 1 - k - m) / (n - 1 - m) for m in range(others)]) for k in nearer]
    found = np.mean([metrics.r_precision(t, x, 1, RNG((2, k)), others) for k in range(400)])
    assert found == pytest.approx(np.mean(chance), abs=0.01)  # eq: r-precision


def test_equal_texts_are_told_apart_by_chance():
    x, t = units(100, 5, RNG(0)), np.ones((100, 5))
    for r in (1, 10):
        assert metrics.r_precision(t, x, r, RNG(1)) == pytest.approx(r / 100)  # eq: r-precision
    for n, r, says in ((99, 1, "at least 100"), (100, 0, "r = 0"), (100, 101, "r = 101")):
        with pytest.raises(ValueError, match=says):
            metrics.r_precision(t[:n], x[:n], r, RNG(0))


# Guidance -----------------------------------------------------------------------------------------

PI, MU, VAR = (0.2, 0.5, 0.3), ((-1.0, 0.5), (0.8, 0.9), (0.1, -1.1)), (0.3, 0.1, 0.2)


class ExactCLIP:
    """Codes whose products are log p(c | x_t) − log p(c), for the components c of a mixture: what
    a noisy CLIP tends to, τ being 1."""

    def __init__(self, mixture):
        self.mixture = mixture

    def f(self, x_t, t):
        log_joint = self.mixture.log_joint(x_t, t)
        return log_joint - log_joint.exp().sum(1, keepdims=True).log() - np.log(PI)

    def g(self, c):
        return np.eye(3)[c]


def log_p(x, t, schedule, c):
    """log p(x_t | c), written out."""
    a = schedule.alpha_bar[t]
    v = a * VAR[c] + 1 - a
    return -((x - np.sqrt(a) * np.array(MU[c])) ** 2).sum(1) / (2 * v) - np.log(2 * np.pi * v)


@pytest.mark.parametrize("omega", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("t", [3, 25])
def test_guidance_by_a_perfect_clip_follows_the_sharpened_density(t, omega):
    """ε̃ is −√(1 − ᾱ) ∇ log of p(x_t | c) p(c | x_t)^ω, by finite differences of the densities."""
    s = linear(40)
    mixture, x, c = Mixture(PI, MU, VAR, s), RNG(0).normal(size=(5, 2)), np.array([0, 1, 2, 1, 0])

    def sharpened(x):
        each = np.stack([log_p(x, t, s, k) for k in range(3)], 1)
        joint = each + np.log(PI)
        log_c = joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)  # log p(c | x_t)
        return (each + omega * log_c)[np.arange(5), c]

    h = 1e-5
    slope = np.stack([(sharpened(x + h * e) - sharpened(x - h * e)) / (2 * h) for e in np.eye(2)],
                     1)
    net = clip_guidance.CLIPGuided(mixture, ExactCLIP(mixture), s, omega)
    eps = net(x, t, c).numpy()
    assert np.allclose(eps, -np.sqrt(1 - s.alpha_bar[t]) * slope, atol=1e-6)  # eq: clip-guidance


def test_guided_samples_of_a_model_that_knows_no_text_are_of_the_text():
    s = linear(40)
    mixture, c = Mixture(PI, MU, VAR, s), np.full(500, 0)
    blind = lambda x_t, t, c: mixture(x_t, t)
    sure = []
    for omega in (0.0, 1.0, 3.0):
        net = clip_guidance.CLIPGuided(blind, ExactCLIP(mixture), s, omega)
        x = DDIM(net, respaced(s, 40)).decode(RNG(3).standard_normal((500, 2)), c).numpy()
        near = np.stack([log_p(x, 1, s, k) for k in range(3)], 1) + np.log(PI)
        sure.append((near.argmax(1) == 0).mean())
    assert sure[0] == pytest.approx(PI[0], abs=0.06) and 0.85 < sure[1] < sure[2]


def test_a_noisy_clip_learns_and_its_slope_leads_to_the_text():
    """Stripes across are called 0, upright ones 1; each stands 32 times in a batch of 64."""
    upright = np.tile(np.array([-0.5, 0.5], np.float32), (1, 8, 4))
    x = np.repeat(np.stack([upright.swapaxes(1, 2), upright]), 32, 0)
    c, model = np.repeat([0, 1], 32), DDPM(None, linear(50))
    net = clip.CLIP(NoisyClassifier((1, 8, 8), 8, widths=(8, 8), D=16), nn.Embedding(2, 8))
    nn.init(net, RNG(0))
    opt, losses = optim.Adam(nn.parameters(net), lr=1e-2), []
    for t in range(60):
        loss, _ = clip_guidance.noisy_loss(net, model, x, c, RNG((1, t)))
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert 2 * np.log(32) < np.mean(losses[-5:]) < 2 * np.log(64) - 0.2  # all right; by chance
    x_t = model.q_sample(x, 10, RNG(12).normal(size=x.shape).astype(np.float32))
    g = clip_guidance.fit_slope(net, x_t, np.full(64, 10), np.ones(64, int)).numpy()
    assert ((g * (upright - upright.swapaxes(1, 2))).sum((1, 2, 3)) > 0).mean() > 0.9


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
    assert "tau.log" in params
    slopes = grad(model.loss(tensor(x), c)[0], params)
    assert all(np.abs(g.numpy()).max() > 0 for g in slopes.values())


def test_sentences_of_another_vocabulary():
    found = scenes.encode(["a dog", "a"], ("", "a", "dog"), 3)
    assert found.tolist() == [[1, 2, 0], [1, 0, 0]]
    with pytest.raises(ValueError, match="'cat' is not in the vocabulary"):
        scenes.encode(["a cat"], ("", "a", "dog"), 3)


@pytest.mark.parametrize("wrong, says", [
    (lambda: clip.contrastive(tensor(np.zeros((3, 4)))), r"\(3, 4\), expected \(N, N\)"),
    (lambda: clip.contrastive(tensor(np.zeros((1, 1)))), "N at least 2"),
    (lambda: little().g(np.ones((2, 6), int)), r"\(2, 6\), expected \(N, L\), L at most 5"),
    (lambda: little().g(np.ones(3, int)), r"\(3,\), expected \(N, L\)"),
    (lambda: little().g(np.array([[0, 0]])), "a text without words"),
    (lambda: clip_guidance.CLIPGuided(None, None, linear(50), -1.0), "a weight is a number from 0"),
])
def test_bad_input_is_one_clear_line(wrong, says):
    with pytest.raises(ValueError, match=says) as e:
        wrong()
    assert "\n" not in str(e.value)

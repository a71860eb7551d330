"""Section "Vector quantisation": a dictionary of words, the loss that trains it, the prior."""

import numpy as np
import pytest
from small_worlds import all_of

from minigen import grad, nn, optim, tensor
from minigen.models.vae.gaussian_vae import fixed_variance_normal
from minigen.models.vae.vq_vae import VQVAE, Codebook, Prior, vq_vae

RNG = np.random.default_rng


def codebook(e):
    book = Codebook(*np.shape(e), RNG(0))
    book.weight.data[...] = e
    return book


def test_every_place_gets_the_nearest_word():
    e, z = RNG(0).normal(size=(5, 3)), RNG(1).normal(size=(4, 3, 2, 6)).astype(np.float32)
    book = codebook(e)
    k = book.nearest(z).numpy()
    distance = np.linalg.norm(z[:, None] - e[:, :, None, None], axis=2)
    assert np.array_equal(k, distance.argmin(1))  # eq: vq-quantize
    assert np.allclose(book(k).numpy(), np.moveaxis(e[k], -1, 1))  # eq: vq-quantize


def test_words_start_as_vectors_of_the_encoder():
    z, book = RNG(1).normal(size=(2, 3, 2, 2)).astype(np.float32), Codebook(50, 3, RNG(0))
    book.init_from(z, RNG(2))
    vectors = {tuple(v) for v in np.moveaxis(z, 1, -1).reshape(-1, 3)}
    assert {tuple(e) for e in book.weight.numpy()} == vectors  # 50 draws hit all 8


def linear_model(likelihood=fixed_variance_normal, **options):
    """An encoder and a decoder that multiply by a number, so that all can be computed by hand."""
    class Times:
        def __init__(self, a):
            self.a = tensor(np.array(a, np.float32), requires_grad=True)

        def __call__(self, x):
            return self.a * x
    e = RNG(3).normal(size=(4, 2))
    return VQVAE(Times(1.5), Times(0.7), codebook(e), Prior(4, (2, 3), 6, 1, RNG(4)), likelihood,
                 **options), e


def test_the_loss_is_the_printed_one_but_for_a_constant():
    model, e = linear_model()
    x = RNG(5).normal(size=(6, 2, 2, 3)).astype(np.float32)
    loss, parts = model.loss(x)
    z = 1.5 * x
    z_q = np.moveaxis(e[np.linalg.norm(z[:, None] - e[:, :, None, None], axis=2).argmin(1)], -1, 1)
    printed = ((x - 0.7 * z_q) ** 2).sum() + 2 * ((z - z_q) ** 2).sum()
    constant = np.log(np.pi) / 2 * x[0].size
    assert (loss - parts["prior"]).item() == pytest.approx(printed / 6 + constant)  # eq: vq-loss


def test_grids_and_vectors_of_another_size_are_refused():
    model = vq_vae((1, 8, 8), 4, 3, rng=RNG(0))
    with pytest.raises(ValueError, match=r"vectors are \(1, 5, 1, 2\), expected \(N, 3, h, w\)"):
        model.codebook.init_from(tensor(np.zeros((1, 5, 1, 2))), RNG(0))
    with pytest.raises(ValueError, match=r"grids are \(2, 1, 2\), expected \(N, 2, 2\)"):
        model.loss(np.zeros((2, 1, 4, 8), np.float32))


def test_without_words_the_decoder_sees_what_the_encoder_says():
    model, _ = linear_model()
    x = RNG(5).normal(size=(6, 2, 2, 3)).astype(np.float32)
    constant = np.log(np.pi) / 2 * x[0].size
    distance = model.loss_without_quantisation(x).item() - constant
    assert distance == pytest.approx(((1 - 0.7 * 1.5) * x).ravel() @ ((1 - 0.7 * 1.5) * x).ravel()
                                     / 6, rel=1e-3)


def test_each_term_moves_what_it_is_to_move():
    """The encoder gets the decoder's slope at z_q, passed straight through, and that of
    β ‖sg[z_q] − z‖²; words get the slope of ‖sg[z] − z_q‖² alone."""
    model, e = linear_model(beta=0.4)
    x = RNG(5).normal(size=(6, 2, 2, 3)).astype(np.float32)
    z = 1.5 * x
    k = model.codebook.nearest(z).numpy()
    z_q = np.moveaxis(e[k], -1, 1)
    loss, parts = model.loss(x)
    a, words = grad(loss - parts["prior"], [model.encoder.a, model.codebook.weight])
    through = 2 * (0.7 * z_q - x) * 0.7
    slope = ((through + 0.4 * 2 * (z - z_q)) * x).sum() / 6
    assert a.item() == pytest.approx(slope, rel=1e-5)  # eq: vq-loss
    pull = np.zeros_like(e)
    np.add.at(pull, k, np.moveaxis(2 * (z_q - z), 1, -1) / 6)
    assert np.allclose(words.numpy(), pull, atol=1e-5)  # eq: vq-loss


@pytest.fixture
def prior():
    prior = Prior(3, (2, 2), 12, 1, RNG(6))
    for p in nn.parameters(prior).values():
        p.data += RNG(7).normal(size=p.shape)
    return prior


GRIDS = all_of(3, 2, 2)


def test_the_prior_is_a_distribution_over_grids_word_by_word(prior):
    p = np.exp(prior.log_prob(GRIDS).numpy().astype(float))
    assert p.sum() == pytest.approx(1, abs=1e-5) and p.max() > 0.05  # eq: vq-prior-ar
    table, s = p.reshape(3, 3, 3, 3), prior.scores(GRIDS).numpy().reshape(-1, 3, 4)
    for i in range(4):  # p(k_i | k_<i), from the table of p alone
        upto = table.sum(tuple(range(i + 1, 4)))
        given = np.broadcast_to((upto / upto.sum(-1, keepdims=True)).reshape(*upto.shape, *[1] * (
            3 - i)), table.shape).ravel()
        softmax = np.exp(s[:, :, i]) / np.exp(s[:, :, i]).sum(1, keepdims=True)
        mine = softmax[np.arange(81), GRIDS.reshape(-1, 4)[:, i]]
        assert np.allclose(mine, given, atol=1e-4)  # eq: vq-prior-ar


def test_grids_are_drawn_as_often_as_they_are_probable(prior):
    n, p = 20_000, np.exp(prior.log_prob(GRIDS).numpy().astype(float))
    samples = prior.sample(n, RNG(8)).reshape(n, 4) @ [27, 9, 3, 1]
    frequencies = np.bincount(samples, minlength=81) / n
    assert np.all(abs(frequencies - p) < 5 * np.sqrt(p / n) + 1e-3)


def test_a_small_model_learns_draws_and_bounds_the_likelihood():
    model = vq_vae((1, 8, 8), K=2, D=3)
    nn.init(model, RNG(0))
    x = np.zeros((16, 1, 8, 8), np.float32)
    x[:8, :, :4], x[8:, :, :, :4] = 1, 1
    model.codebook.init_from(model.encoder(tensor(x)), RNG(1))
    opt, losses = optim.Adam(nn.parameters(model), 3e-3), []
    for _ in range(150):
        loss, parts = model.loss(x)
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert losses[-1] < losses[0] / 3 and set(parts) == {"reconstruction", "dictionary", "prior"}
    x_given_k, of_k = (p.numpy() for p in model.log_joint(x))
    grids = all_of(2, 2, 2)
    every = [model.decode(k).log_prob(x).numpy().sum((1, 2, 3)) + model.prior.log_prob(k).numpy()
             for k in (np.repeat(grid[None], 16, 0) for grid in grids)]
    total = np.logaddexp.reduce(every, axis=0)  # log p(x), over all sixteen grids
    assert (x_given_k + of_k <= total + 1e-4).all()
    assert model.generate(5, RNG(2)).mean.shape == (5, 1, 8, 8)
    with pytest.raises(ValueError, match="divisible by 4, got 8×6"):
        vq_vae((1, 8, 6))

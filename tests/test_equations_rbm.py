"""The restricted Boltzmann machine, on machines so small that every sum over states is done."""

import itertools

import numpy as np
import pytest

from minigen import grad, nn, optim, train
from minigen.models.energy import rbm as model

RNG = np.random.default_rng
SIGMAS = 4.5  # by which a count or a mean may differ from its expectation


def machine(D=4, K=3, seed=0, scale=1.0):
    """A machine with random parameters, in float64."""
    rbm, rng = model.RBM(D, K), RNG(seed)
    nn.astype(rbm, np.float64)
    for t in nn.parameters(rbm).values():
        t.data[...] = scale * rng.standard_normal(t.shape)
    return rbm


def states(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def unnormalised(rbm):
    """e^{−E(v, h)} of all images and all latents (2^D, 2^K), one pair of units at a time."""
    W, b, c = rbm.W.data, rbm.b.data, rbm.c.data
    V, H = states(len(b)), states(len(c))
    table = np.ones((len(V), len(H)))
    for (n, v), (m, h) in itertools.product(enumerate(V), enumerate(H)):
        for i in np.flatnonzero(v):
            table[n, m] *= np.exp(b[i])
        for j in np.flatnonzero(h):
            table[n, m] *= np.exp(c[j])
            for i in np.flatnonzero(v):
                table[n, m] *= np.exp(W[j, i])
    return V, H, table


def one_step(rbm):
    """p(v' | v) of one Gibbs step by Bayes' rule, (2^D, 2^D), and p(v) (2^D,)."""
    _, _, table = unnormalised(rbm)
    h_given_v = table / table.sum(1, keepdims=True)
    v_given_h = table / table.sum(0)
    return h_given_v @ v_given_h.T, table.sum(1) / table.sum()


def index(v):
    """The place of each image v (N, D) among all, as `states` orders them."""
    return (np.asarray(v) @ 2.0 ** np.arange(v.shape[1])[::-1]).astype(int)


def near(v, p):
    """Whether samples v (N, D) have the probabilities p (2^D,), up to chance."""
    n, counts = len(v), np.array([(v == s).all(1).sum() for s in states(v.shape[1])])
    return (np.abs(counts - n * p) <= SIGMAS * np.sqrt(n * p * (1 - p)) + 1e-9).all()


# ------------------------------------------------------------------------------------- the model

def test_the_energy_is_a_sum_over_pairs_of_units():
    rbm = machine()
    V, H, table = unnormalised(rbm)
    for h, column in zip(H, table.T, strict=True):
        E = rbm.energy(V, np.tile(h, (len(V), 1))).numpy()
        assert np.allclose(E, -np.log(column))  # eq: rbm-energy


@pytest.mark.parametrize("D, K", [(4, 3), (3, 5)])
def test_the_free_energy_sums_over_latents(D, K):
    rbm = machine(D, K)
    V, _, table = unnormalised(rbm)
    assert np.allclose(np.exp(-rbm.free_energy(V).numpy()), table.sum(1))  # eq: rbm-free-energy
    log_z = model.exact_log_z(rbm)
    assert np.isclose(log_z, np.log(table.sum()))
    p = np.exp(rbm.log_prob(V, log_z).numpy())
    assert np.allclose(p, table.sum(1) / table.sum())  # eq: rbm-free-energy


def test_the_conditionals_are_those_of_the_joint_distribution():
    rbm = machine()
    V, H, table = unnormalised(rbm)
    p_h = table @ H / table.sum(1, keepdims=True)
    p_v = table.T @ V / table.sum(0)[:, None]
    assert np.allclose(rbm.hidden(V).mean.numpy(), p_h)  # eq: rbm-conditionals
    assert np.allclose(rbm.visible(H).mean.numpy(), p_v)  # eq: rbm-conditionals


# ---------------------------------------------------------------------------------- the gradient

def test_the_loss_has_the_gradient_of_the_likelihood():
    rbm, data = machine(), states(4)[[3, 5, 5, 14]]
    params = nn.parameters(rbm)
    V, _, table = unnormalised(rbm)
    p = table.sum(1) / table.sum()
    expected = {key: 0.0 for key in params}  # over samples of the model, one at a time
    for v, p_v in zip(V, p, strict=True):
        for key, g in grad(rbm.loss(data, v[None]), params).items():
            expected[key] += p_v * g.numpy()

    def nll():
        table = unnormalised(rbm)[2]
        return -np.log(table.sum(1)[index(data)] / table.sum()).mean()

    for key, t in params.items():
        for at in np.ndindex(t.shape):
            sides = []
            for h in (1e-5, -1e-5):
                t.data[at] += h
                sides.append(nll())
                t.data[at] -= h
            numeric = (sides[0] - sides[1]) / 2e-5
            assert np.isclose(expected[key][at], numeric, atol=1e-8)  # eq: rbm-gradient


def test_gibbs_steps_have_the_probabilities_of_bayes_rule():
    rbm, n = machine(seed=1), 40_000
    P, p = one_step(rbm)
    assert np.allclose(p @ P, p)  # the model's distribution is stationary
    for k in (1, 2):
        start = states(4)[9]
        v = rbm.gibbs(np.tile(start, (n, 1)), RNG(k), k).numpy()
        assert near(v, np.linalg.matrix_power(P, k)[9])  # eq: rbm-cd


def test_chains_go_on_where_they_were():
    rbm, v = machine(), states(4)[:12]
    chains, rng, again = model.Chains(v.copy()), RNG(2), RNG(2)
    first, second = chains.advance(rbm, rng), chains.advance(rbm, rng, 2)
    expected = rbm.gibbs(v, again)
    assert np.array_equal(first.numpy(), expected.numpy())
    expected = rbm.gibbs(expected, again, 2)
    assert np.array_equal(second.numpy(), expected.numpy())  # eq: rbm-cd
    assert np.array_equal(chains.v.numpy(), expected.numpy())  # eq: rbm-cd
    assert list(nn.buffers({"chains": chains})) == ["chains.v"]  # so that checkpoints keep it


def test_chains_follow_the_model():
    rbm, n = machine(seed=3), 40_000
    chains, rng = model.Chains(np.zeros((n, 4))), RNG(3)
    for _ in range(30):
        v = chains.advance(rbm, rng)
    assert near(v.numpy(), one_step(rbm)[1])


def test_completions_are_samples_given_the_known_pixels():
    rbm, n = machine(seed=4), 20_000
    known = np.array([True, False, True, False])
    v = np.tile([1.0, 0.0, 0.0, 0.0], (n, 1))
    x = rbm.complete(v, known, RNG(4), 30).numpy()
    assert np.array_equal(x[:, known], v[:, known])
    p = one_step(rbm)[1]
    p = np.where((states(4)[:, known] == [1, 0]).all(1), p, 0)
    assert near(x, p / p.sum())


@pytest.mark.parametrize("persistent", [True, False])
def test_it_learns_a_distribution(persistent):
    """Two of sixteen images: −log p falls from about 2.8 nats towards log 2."""
    data = np.float32([[1, 1, 0, 0], [0, 0, 1, 1]])[RNG(5).integers(2, size=(1600, 20))]
    rbm = model.RBM(4, 6, RNG(6))
    opt, chains = optim.SGD(nn.parameters(rbm), 0.1), model.Chains(data[0].copy())
    for t, v in enumerate(data):
        rng, opt.lr = RNG((7, t)), 0.1 * (1 - t / 1600)
        v_model = chains.advance(rbm, rng) if persistent else rbm.gibbs(v, rng)
        train.descend(opt, rbm.loss(v, v_model))
    nll = -rbm.log_prob(data[0], model.exact_log_z(rbm)).numpy().mean()
    assert np.log(2) < nll < 0.9


def test_a_resumed_run_has_the_same_chains(tmp_path):
    def run(steps, resume=False, folder="parts"):
        rbm = model.RBM(4, 3, RNG(26))
        opt, chains = optim.SGD(nn.parameters(rbm), 0.1), model.Chains(np.zeros((5, 4), np.float32))
        data = np.float32(RNG(27).integers(2, size=(8, 5, 4)))

        def step(t, rng):
            return train.descend(opt, rbm.loss(data[t], chains.advance(rbm, rng)))
        (tmp_path / folder).mkdir(exist_ok=True)
        train.fit(step, steps, seed=0, out=tmp_path / folder, resume=resume, rbm=rbm, opt=opt,
                  chains=chains)
        return nn.state_dict([rbm, chains])

    run(4)
    resumed, whole = run(8, resume=True), run(8, folder="whole")
    assert resumed.keys() == whole.keys() and whole["1.v"].any()
    assert all(np.array_equal(resumed[key], whole[key]) for key in whole)


# ----------------------------------------------------------------------------------- the constant

def test_p_0_is_of_independent_pixels():
    rbm, b_0 = machine(5, 3, scale=0.0), np.array([0.3, -2.0, 1.0, 0.0, 4.0])
    rbm.b.data[...] = b_0
    table = unnormalised(rbm)[2]
    assert np.isclose(model.log_z_0(rbm, b_0), np.log(table.sum()))  # eq: ais-weight


def test_a_weight_is_a_ratio_of_probabilities_along_the_chain():
    """The chain's steps are computed again, from the same random numbers, with machines whose
    parameters are scaled."""
    rbm, b_0, betas = machine(seed=8), RNG(8).standard_normal(4), [0.0, 0.3, 0.6, 1.0]
    v = np.tile(states(4), (50, 1))
    log_w = model.anneal(rbm, b_0, v, betas, RNG(9))

    def at(beta):
        scaled = machine()
        scaled.W.data[...], scaled.c.data[...] = beta * rbm.W.data, beta * rbm.c.data
        scaled.b.data[...] = beta * rbm.b.data + (1 - beta) * b_0
        return scaled

    rng, expected = RNG(9), 0.0
    for last, beta in itertools.pairwise(betas):
        p_last, p = (unnormalised(at(s))[2].sum(1)[index(v)] for s in (last, beta))
        expected += np.log(p) - np.log(p_last)
        v = at(beta).gibbs(v, rng).numpy()
    assert log_w.dtype == np.float64 and np.allclose(log_w, expected)  # eq: ais-weight


@pytest.mark.parametrize("T", [1, 4, 30])
def test_log_z_is_unbiased_with_any_number_of_steps(T):
    rbm, b_0, n = machine(6, 5, seed=10), 0.5 * RNG(11).standard_normal(6), 20_000
    exact = model.exact_log_z(rbm)
    log_z, error = model.ais(rbm, b_0, n, T, RNG(12))
    assert 0 < error < 0.05 and abs(log_z - exact) < 4 * error  # eq: ais-weight
    p = np.exp(rbm.log_prob(states(6), exact).numpy())
    v = states(6)[RNG(13).choice(64, n, p=p)]
    log_z, error = model.reverse_ais(rbm, b_0, v, T, RNG(14))
    assert 0 < error < 0.05 and abs(log_z - exact) < 4 * error  # eq: ais-weight


def test_too_few_weights_err_on_the_stated_sides():
    rbm, b_0 = machine(6, 5, seed=10, scale=2.0), np.zeros(6)
    exact = model.exact_log_z(rbm)
    p = np.exp(rbm.log_prob(states(6), exact).numpy())
    below, above = [], []
    for seed in range(200):
        v = states(6)[RNG((15, seed)).choice(64, 3, p=p)]
        below.append(model.ais(rbm, b_0, 3, 4, RNG((16, seed)))[0])
        above.append(model.reverse_ais(rbm, b_0, v, 4, RNG((17, seed)))[0])
    for estimates, side in ((below, -1), (above, 1)):
        error = np.std(estimates) / 200**0.5
        assert side * (np.mean(estimates) - exact) > 3 * error


def test_the_standard_error_is_that_of_many_estimates():
    rbm, b_0 = machine(6, 5, seed=10), np.zeros(6)
    p = np.exp(rbm.log_prob(states(6), model.exact_log_z(rbm)).numpy())

    def reverse(seed):
        v = states(6)[RNG((18, seed)).choice(64, 100, p=p)]
        return model.reverse_ais(rbm, b_0, v, 4, RNG((19, seed)))
    for estimate in (lambda seed: model.ais(rbm, b_0, 100, 4, RNG((20, seed))), reverse):
        estimates, errors = zip(*map(estimate, range(300)), strict=True)
        assert np.isclose(np.mean(errors), np.std(estimates), rtol=0.2)  # eq: ais-weight
    log_w = 300 + 0.5 * RNG(21).standard_normal((2000, 400))
    estimates, errors = zip(*map(model.log_mean, log_w), strict=True)
    assert np.isclose(np.mean(errors), np.std(estimates), rtol=0.05)
    assert np.isclose(np.mean(estimates), 300 + 0.5**2 / 2, atol=0.002)
    with pytest.raises(ValueError, match="log_mean: 1 weights came"):
        model.log_mean(np.zeros(1))


def test_temperatures_and_first_biases():
    betas = np.array(model.inverse_temperatures(14_500))
    counts = [((betas > low) & (betas <= high)).sum() for low, high in ((0, 0.5), (0.5, 0.9),
                                                                         (0.9, 1))]
    assert (betas[0], betas[-1]) == (0, 1) and (np.diff(betas) > 0).all()
    assert np.allclose(counts, [500, 4000, 10_000], atol=1)
    v = (RNG(19).random((30, 5)) < [0.0, 0.2, 0.5, 0.9, 1.0]).astype(float)
    both = np.concatenate([v, np.zeros((1, 5)), np.ones((1, 5))])
    assert np.allclose(1 / (1 + np.exp(-model.log_odds(v.mean(0), 30))), both.mean(0))


def test_large_machines_are_refused():
    with pytest.raises(ValueError, match="exact_log_z: the RBM has 40 pixels and 17 latents"):
        model.exact_log_z(model.RBM(40, 17, RNG(0)))


def test_a_device_gives_the_same_estimates(quick_cupy):
    rbm, b_0 = model.RBM(6, 5, RNG(20)), RNG(21).standard_normal(6).astype(np.float32)
    v = (RNG(22).random((8, 6)) < 0.5).astype(np.float32)
    here = model.ais(rbm, b_0, 8, 5, RNG(23)), model.reverse_ais(rbm, b_0, v, 5, RNG(24))
    exact, chains = model.exact_log_z(rbm), model.Chains(v.copy())
    completed = rbm.complete(v, np.arange(6) < 3, RNG(25), 2).numpy()
    nn.to({"rbm": rbm, "chains": chains}, "cuda")
    on_device = chains.v
    there = (model.ais(rbm, b_0, 8, 5, RNG(23)),
             model.reverse_ais(rbm, b_0, on_device, 5, RNG(24)))
    assert np.allclose(here, there, rtol=1e-4)
    assert np.isclose(model.exact_log_z(rbm), exact, rtol=1e-5)
    known = quick_cupy.asarray(np.arange(6) < 3)
    assert np.array_equal(rbm.complete(on_device, known, RNG(25), 2).numpy(), completed)

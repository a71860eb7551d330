"""Section "autoregressive models": each equation is checked by a second route."""

import numpy as np
import pytest
from small_worlds import all_of

from minigen import grad, gradcheck, nn, no_grad, optim, tensor
from minigen.models.autoregressive.conditional_pixelcnn import conditional
from minigen.models.autoregressive.decoding import sample
from minigen.models.autoregressive.gated_pixelcnn import gate, gated_pixelcnn
from minigen.models.autoregressive.pixelcnn import pixelcnn
from minigen.models.autoregressive.pixelrnn import PixelRNN, anti_diagonals, pixelrnn
from minigen.models.autoregressive.rnn import RNN
from minigen.models.autoregressive.structure_pixelcnn import structure_pixelcnn

RNG = np.random.default_rng


def double(model, seed=0):
    nn.init(model, RNG(seed))
    nn.astype(model, np.float64)
    return model


def softmax(s, axis=-1):
    return np.exp(s) / np.exp(s).sum(axis, keepdims=True)


def sigma(a):
    return 1 / (1 + np.exp(-a))


# The chain rule ---------------------------------------------------------------------------------


def test_the_recurrence_written_out():
    model = double(RNN(3, 5))
    E, W, b, U, c = (p.numpy() for p in nn.parameters(model).values())
    x = np.array([2, 0, 1, 1])
    h, last, log_p = np.zeros(5), 3, 0.0
    for v in x:
        h = np.tanh(W @ h + b + E[last])
        log_p += np.log(softmax(U @ h + c)[v])
        last = v
    assert model.log_prob(x[None]).item() == pytest.approx(log_p)  # eq: ar-rnn-state


def test_the_chain_rule_over_all_sequences():
    V, T = 3, 4
    model = double(RNN(V, 6))
    model.out.weight.data *= 4
    joint = np.exp(model.log_prob(all_of(V, T)).numpy()).reshape([V] * T)
    assert joint.sum() == pytest.approx(1)
    # the conditionals computed from the joint equal those that the network gives
    x, product_ = (1, 2, 0, 2), 1.0
    h, last = model.start(1)
    for t, v in enumerate(x):
        s, h = model.step(h, last)
        marginal = joint[x[:t]].reshape(V, -1).sum(1)
        assert np.allclose(softmax(s)[0], marginal / marginal.sum())
        product_ *= softmax(s)[0, v]
        last = np.array([v])
    assert joint[x] == pytest.approx(product_)  # eq: ar-chain-rule


BUILD = {
    "pixelrnn": lambda shape, V: pixelrnn(shape, V, 6),
    "pixelcnn": lambda shape, V: pixelcnn(shape, V, 12, 2),
    "gated_pixelcnn": lambda shape, V: gated_pixelcnn(shape, V, 24, 2),
    "conditional_pixelcnn": lambda shape, V: conditional(shape, 3, V, 24, 2),
    "structure_pixelcnn": lambda shape, V: structure_pixelcnn(shape, 2, 2, V, 24, 2, 8),
}
GATED = ("gated_pixelcnn", "conditional_pixelcnn", "structure_pixelcnn")
COLOUR = ("pixelcnn", *GATED)


def given(name, n, shape):
    """What each of n images is conditioned on: the same label, or the same word codes and map."""
    kinds = np.arange(shape[1] * shape[2]).reshape(1, 1, *shape[1:]) % 3 % 2
    return {"conditional_pixelcnn": (np.full(n, 2),),
            "structure_pixelcnn": (np.full((n, 3, 2), 0.5), kinds.repeat(n, 0))}.get(name, ())


@pytest.mark.parametrize("name, shape, V", [(name, (1, 2, 3), 2) for name in BUILD]
                         + [(name, (3, 1, 2), 2) for name in COLOUR])
def test_an_images_factors_multiply_to_a_distribution(name, shape, V):
    model, every = double(BUILD[name](shape, V)), all_of(V, *shape)
    joint = np.exp(model.log_prob(every, *given(name, len(every), shape)).numpy())
    assert joint.sum() == pytest.approx(1)
    # p(x_t | x_<t), from the network and from the joint, value by value in raster order
    x, one = every[37 % len(every)], given(name, 1, shape)
    before, log_p = np.ones(len(every), bool), 0.0
    for i, j, c in np.ndindex(shape[1], shape[2], shape[0]):
        s = model.scores(tensor(model._scaled(x[None])), *one).numpy()[0, c, :, i, j]
        now = before & (every[:, c, i, j] == x[c, i, j])
        assert softmax(s)[x[c, i, j]] == pytest.approx(joint[now].sum() / joint[before].sum())
        before, log_p = now, log_p + np.log(softmax(s)[x[c, i, j]])
    assert model.log_prob(x[None], *one).item() == pytest.approx(log_p)  # eq: ar-model


def test_maximum_likelihood_finds_the_datas_distribution():
    every = all_of(2, 1, 2, 2)
    p_data = RNG(0).dirichlet(np.ones(16))
    counts = 1 + np.rint(p_data * 400).astype(int)
    data = np.repeat(every, counts, 0)
    model = double(pixelcnn((1, 2, 2), 2, 16, 1))
    nll = -(counts * model.log_prob(every).numpy()).sum() / counts.sum()
    assert model.loss(data).item() == pytest.approx(nll)  # eq: pixelcnn-mle
    opt = optim.Adam(nn.parameters(model), 0.02)
    for _ in range(300):
        opt.step(grad(model.loss(data), opt.params))
    frequencies = counts / counts.sum()
    assert np.allclose(np.exp(model.log_prob(every).numpy()), frequencies, atol=0.01)
    entropy = -(frequencies * np.log(frequencies)).sum()  # no model can do better
    assert entropy <= model.loss(data).item() <= entropy + 0.005


def test_each_colour_has_a_softmax_over_256_values():
    model = double(pixelcnn((3, 2, 2), 256, 6, 1))
    x = RNG(1).integers(0, 256, (1, 3, 2, 2))
    for c in range(3):  # vary one colour of the last pixel, sum what follows it
        all_v = np.repeat(x, 256, 0)
        all_v[:, c, 1, 1] = np.arange(256)
        s = model.net(tensor(model._scaled(x))).numpy()[0].reshape(3, 256, 2, 2)[c, :, 1, 1]
        p = np.exp(s) / sum(np.exp(w) for w in s)
        joint = model.log_prob(all_v).numpy()
        rest = np.zeros(256)  # later colours' factors vary as well and are subtracted
        for later in range(c + 1, 3):
            t = model.net(tensor(model._scaled(all_v))).numpy().reshape(256, 3, 256, 2, 2)
            rest += np.log(softmax(t[:, later, :, 1, 1]))[:, x[0, later, 1, 1]]
        assert np.allclose(softmax(joint - rest), p)
        assert np.allclose(joint - rest - np.log(p), (joint - rest - np.log(p))[0])
        here = joint[x[0, c, 1, 1]] - model.log_prob(x).item()
        assert here == pytest.approx(0, abs=1e-9)
    s = model.net(tensor(model._scaled(x))).numpy()[0].reshape(3, 256, 4)
    by_hand = sum(np.log(softmax(s[c, :, q])[x[0, c].ravel()[q]]) for c in range(3)
                  for q in range(4))
    assert model.log_prob(x).item() == pytest.approx(by_hand)  # eq: pixel-softmax-256


# What depends on what ---------------------------------------------------------------------------


def dependence(f, shape, outputs=1):
    """Whether output t depends on input u, by ∂out/∂in at random inputs: booleans (T, T), in raster
    order: row by row, pixel by pixel, red, green, blue."""
    C, H, W = shape
    x = tensor(RNG(2).normal(size=(6, *shape)), requires_grad=True)
    y = f(x)
    rows = []
    for i, j, c in np.ndindex(H, W, C):
        g = np.zeros(y.shape)
        g[:, c * outputs:(c + 1) * outputs, i, j] = RNG(3).normal(size=(6, outputs))
        found = grad(y, x, cotangent=g, allow_unused=True).numpy()
        # with Winograd convolution, masked inputs cancel only up to rounding error
        rows.append((abs(found) > 1e-12).any(0).transpose(1, 2, 0).ravel())
    return np.array(rows)


def earlier(T):
    return np.tri(T, k=-1, dtype=bool)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", ["A", "B"])
def test_masks(kind, colours):
    shape = (colours, 5, 6)
    layer = double(nn.MaskedConv2d(colours, colours, 3, kind, colours))
    by_hand = np.zeros(layer.weight.shape)
    for k, c, r, s in np.ndindex(by_hand.shape):  # (row, column, channel) is raster order
        by_hand[k, c, r, s] = (r, s, c) < (1, 1, k + (kind == "B"))
    assert np.array_equal(layer.mask, by_hand)  # eq: masked-conv
    position = np.array(list(np.ndindex(5, 6, colours)))[:, :2]
    near = (abs(position[:, None] - position).max(2) <= 1)  # within the 3×3 window
    expected = near & (earlier(len(near)) | (kind == "B") * np.eye(len(near), dtype=bool))
    assert (dependence(layer, shape) == expected).all()


def test_rows_mask_sees_the_row_and_those_above():
    layer = double(nn.MaskedConv2d(1, 1, 3, "rows"))
    position = np.array(list(np.ndindex(5, 6)))
    off = position[:, None] - position
    expected = (abs(off[..., 1]) <= 1) & (off[..., 0] >= 0) & (off[..., 0] <= 1)
    assert (dependence(layer, (1, 5, 6)) == expected).all()


@pytest.mark.parametrize("name, C", [*((name, 1) for name in BUILD), *((n, 3) for n in COLOUR)])
def test_no_value_depends_on_later_ones(name, C):
    shape, V = (C, 4, 5), 3
    model = double(BUILD[name](shape, V))
    found = dependence(lambda x: model.net(x, *given(name, 6, shape)), shape, outputs=V)
    assert not (found & ~earlier(len(found))).any()
    if name in GATED:  # and each depends on all earlier ones
        assert (found == earlier(len(found))).all()
    if name == "pixelrnn":  # and each on all above and to the left
        position = np.array(list(np.ndindex(4, 5)))
        corner = (position[:, None] >= position).all(2) & earlier(20)
        assert (found == corner).all()


def test_the_blind_spot_of_plain_masks():
    """With 3×3 windows the receptive field reaches one column further right per row upwards. Pixels
    beyond it in the rows above stay unseen, however many layers there are; two stacks see them."""
    H, W = 6, 9
    plain = double(pixelcnn((1, H, W), 2, 12, 8))
    gated = double(gated_pixelcnn((1, H, W), 2, 12, 8))
    i, j = 5, 2
    seen, all_seen = (dependence(m.net, (1, H, W))[i * W + j].reshape(H, W) for m in (plain, gated))
    rows, columns = np.indices((H, W))
    before = (rows < i) | (rows == i) & (columns < j)
    # the first layer's 7×7 window reaches three columns right; each row above i − 1 adds one
    reach = j + 3 + np.maximum(i - rows - 1, 0)
    blind = before & (columns > reach)
    assert blind.any() and not seen[blind].any()
    assert (all_seen == before).all()


def test_red_then_green_then_blue():
    # the slide has "red, then blue, then green"; in the paper and here, blue depends on green
    red, green, blue = range(3)
    found = dependence(double(pixelcnn((3, 1, 1), 4, 12, 1)).net, (3, 1, 1), outputs=4)
    assert found[green].tolist() == [True, False, False]
    assert found[blue, green] and not found[green, blue]  # slide error: 15
    assert not found[red].any()


@pytest.mark.parametrize("colours", [1, 3])
def test_the_gate(colours):
    h, x = 6, RNG(4).normal(size=(2, 12, 3, 4))
    groups = np.split(x, colours, axis=1)  # for each colour: W_f ∗ x, then W_g ∗ x
    by_hand = np.concatenate([np.tanh(g[:, :h // colours]) * sigma(g[:, h // colours:])
                              for g in groups], 1)
    assert np.allclose(gate(tensor(x), colours).numpy(), by_hand)  # eq: gated-conv-layer
    gradcheck(lambda x: gate(x, colours), x)


# PixelRNN ---------------------------------------------------------------------------------------


def test_the_diagonal_pass_equals_the_double_loop():
    H, W, d = 4, 6, 5
    model = double(pixelrnn((1, H, W), 3, d))
    M, b = model.net.cell.W.weight.numpy(), model.net.cell.W.bias.numpy()
    x = RNG(5).normal(size=(2, 1, H, W))
    h, c = np.zeros((2, 2, H + 1, W + 1, d))  # a border of zeros above and on the left
    by_hand = np.zeros((2, 3, H, W))
    for n in range(2):
        state, cell = h.copy()[0], c.copy()[0]
        for i, j in np.ndindex(H, W):
            left, above = state[i + 1, j], state[i, j + 1]
            values = [x[n, 0, i, j - 1] if j else 0, x[n, 0, i - 1, j] if i else 0]
            gates = M @ np.concatenate([left, above, values]) + b
            I, F, O, G = np.split(gates, 4)
            cell[i + 1, j + 1] = sigma(F) * cell[i + 1, j] + sigma(I) * np.tanh(G)
            state[i + 1, j + 1] = sigma(O) * np.tanh(cell[i + 1, j + 1])
            by_hand[n, :, i, j] = model.net.g(tensor(state[i + 1, j + 1])).numpy()
    assert np.allclose(model.net(tensor(x)).numpy(), by_hand)  # eq: pixelrnn-recurrence


@pytest.mark.parametrize("N", [3, 8])
def test_training_and_sampling_take_2n_minus_1_steps(N):
    steps = [set(zip(i.tolist(), j.tolist(), strict=True)) for i, j in anti_diagonals(N, 5)]
    assert steps == [{(i, d - i) for i in range(N) if 0 <= d - i < 5}  # eq: pixelrnn-steps
                     for d in range(N + 4)]
    model = double(pixelrnn((1, N, N), 2, 4))
    calls, f = [], model.net.f
    model.net.f = lambda *args: calls.append(1) or f(*args)
    model.loss(np.zeros((2, 1, N, N), int))
    assert len(calls) == 2 * N - 1  # eq: pixelrnn-steps
    model.sample(2, RNG(0))
    assert len(calls) == 2 * (2 * N - 1)  # eq: pixelrnn-steps


# Sampling ---------------------------------------------------------------------------------------


def naive(model, n, rng, *given):
    """Sampling with a full pass through the network for every value."""
    C, H, W = model.shape
    x, positions = np.zeros((n, C, H, W), int), list(np.ndindex(H, W, C))
    if isinstance(model, PixelRNN):  # it samples diagonal by diagonal, from the top
        positions.sort(key=lambda position: (position[0] + position[1], position[0]))
    with no_grad():
        for i, j, c in positions:
            s = model.scores(tensor(model._scaled(x)), *given).numpy()
            x[:, c, i, j] = sample(s[:, c, :, i, j], rng)
    return x


@pytest.mark.parametrize("name, shape", [*((name, (1, 6, 5)) for name in BUILD),
                                         *((name, (3, 4, 5)) for name in COLOUR)])
def test_what_is_kept_gives_the_images_of_the_naive_loop(name, shape):
    model = double(BUILD[name](shape, 4))
    cached = model.sample(5, RNG(6), *given(name, 5, shape))
    assert np.array_equal(cached, naive(model, 5, RNG(6), *given(name, 5, shape)))
    assert len(np.unique(cached)) == 4

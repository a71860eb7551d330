"""A diffusion model is a hierarchical VAE (the slides' "Connection to VAEs").

Its latent variables are the noisy images x_1 … x_T, each as large as the image; the encoder is
fixed, and one network, given the time, decodes every level:

    q(x_{1:T} | x_0) = Π_t q(x_t | x_{t−1}),   q(x_t | x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t I)
    p_θ(x_{0:T}) = p(x_T) Π_t p_θ(x_{t−1} | x_t)

    log p_θ(x_0) ≥ E_q[log p_θ(x_{0:T}) − log q(x_{1:T} | x_0)] = ELBO

The bound of ddpm.py is this ELBO with everything that has a closed form taken out of the
expectation.
`model` is a DDPM; a chain is the list x_0, x_1 … x_T, all (N, ...).
"""

from minigen import no_grad, tensor
from minigen.dist import Normal, per_image


def encode(model, x_0, rng):
    """A chain sampled by the fixed encoder, starting from x_0."""
    chain = [tensor(x_0)]
    for t in range(1, model.schedule.T + 1):
        chain.append(model.q_step(chain[-1], t).sample(rng))
    return chain


def log_q(model, chain):
    """log q(x_{1:T} | x_0): (N,)."""
    steps = zip(chain[:-1], chain[1:], strict=True)
    log_qs = [per_image(model.q_step(a, t).log_prob(b)) for t, (a, b) in enumerate(steps, start=1)]
    return sum(log_qs)  # eq: ddpm-forward-joint


def log_p(model, chain, *given):
    """log p_θ(x_{0:T}): (N,). The last factor, p_θ(x_0 | x_1), is a density here."""
    steps = zip(chain[:-1], chain[1:], strict=True)
    log_ps = [per_image(model.p(b, t, *given).log_prob(a)) for t, (a, b) in enumerate(steps, 1)]
    log_p_T = per_image(Normal(0.0, 0.0).log_prob(chain[-1]))
    return log_p_T + sum(log_ps)  # eq: ddpm-reverse-model


def elbo(model, x_0, rng, *given):
    """The bound for each image (N,), untracked, estimated from one chain. ValueError for a model
    with a σ_t² of 0, β̃_1 included: a step that adds no noise has no density."""
    if not model.sigma2[1:].all():
        raise ValueError("elbo: a reverse step adds no noise, so that its result has no density: "
                         "give sigma2 > 0 for every t, such as β")
    with no_grad():
        chain = encode(model, x_0, rng)
        return log_p(model, chain, *given) - log_q(model, chain)  # eq: ddpm-hvae

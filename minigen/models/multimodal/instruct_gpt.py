"""InstructGPT: a language model learns to follow instructions, and then what people prefer (Ouyang
et al. 2022).

x: a prompt, an instruction and what it is about; y: an answer; π_θ(y | x): the language model.

    SFT  π_SFT: fine-tuned by the language model's loss on answers that people wrote
    RM   r(x, y) = Σ_t r_t, a number after each token; of two answers people prefer y_w to y_l
         loss: −log σ(r(x, y_w) − r(x, y_l)), averaged over pairs
    PPO  maximises E_{y~π_θ} [r(x, y) − β log (π_θ(y | x) / π_SFT(y | x))] + γ E_w [log π_θ(w)]

The second term keeps the answers close to those that r was trained on: without the third, the best
policy is π_SFT(y | x) e^{r(x, y)/β} / Z(x). The third, over the pretraining texts w, keeps the
model from forgetting them.

A token is an action, taken after x and the tokens before it (Schulman et al. 2016, 2017):

    R_t = r_t − β log (π_old(y_t) / π_SFT(y_t))
    δ_t = R_t + V_{t+1} − V_t             V_t: a network's estimate of R_t + R_{t+1} + …
    A_t = Σ_{l ≥ 0} λ^l δ_{t+l}           the advantage: how much better y_t was than expected
    ρ_t = π_θ(y_t) / π_old(y_t)           π_old: the policy that wrote the answers
    loss: −min(ρ_t A_t, clip(ρ_t, 1 − ε, 1 + ε) A_t), averaged over tokens

At π_θ = π_old and for λ = 1 its gradient is on average that of the first two terms, up to a factor
(a smaller λ trusts V more). Where a token's ratio has already moved by more than ε in the right
direction, the loss is flat, so a batch of answers can be used more than once.

Differs from the paper: small networks; r is a sum over tokens, in the paper a single number after
the last one, which trains at only one position of each answer and here took many times as long; the
value network starts from π_SFT's weights, as the reward model does, not from the reward model's;
advantages are normalised by the batch's mean and standard deviation, as in most implementations of
PPO; rewards are not shifted to a mean of 0.
"""

from dataclasses import dataclass

import numpy as np

from minigen import clip, exp, minimum, nn, no_grad, softplus, square, sum
from minigen.models.multimodal.language_model import PrefixConditioned, shift_right
from minigen.tensor import to_device_of


class Prompted(PrefixConditioned):
    """A language model `lm` given prompts x, integers (N, P) of its tokens. Prompt and answer both
    have the position embeddings c from the first one on."""

    def __init__(self, lm):
        self.lm = lm

    def prefix(self, x):
        """The embedded prompts: (N, P, D)."""
        return self.lm.embed_tokens(x)


class ScalarHeadLM:
    """A language model `lm` that outputs one number in place of the next token's scores."""

    def __init__(self, lm, rng=None):
        self.lm, self.out = lm, nn.Linear(lm.D, 1, rng=rng)

    def trained(self):
        """The trained parameters, by name: all but those of the token scores, which are unused."""
        return {name: p for name, p in nn.parameters(self).items()
                if not name.startswith("lm.out.")}

    def rewards(self, y, x):
        """r_t after each token of answers y (N, T) to prompts x (N, P): (N, T), 0 after the end.
        There is no w_0: y_1 is at the first position."""
        r = self.out(self.lm.hidden(y, self.lm.embed_tokens(x)))[..., 0]
        return r * to_device_of(token_mask(y).astype(r.dtype), r.data)

    def values(self, y, x):
        """V before each token of answers y (N, T) to prompts x (N, P): (N, T)."""
        return self.out(self.lm.hidden(shift_right(y), self.lm.embed_tokens(x)))[..., 0]


def token_mask(y):
    """Which positions of answers y (N, T) hold tokens, the end token being the last: booleans."""
    mask = shift_right(y) > 0
    mask[:, 0] = True
    return mask


def preference_loss(r_w, r_l):
    """−log σ(r_w − r_l), averaged over pairs with rewards r_w (N,) and r_l (N,); 0 for no pairs."""
    return sum(softplus(r_l - r_w)) / max(len(r_w), 1)  # eq: reward-model-loss


def advantages(R, V, lam):
    """A (N, T) from rewards R (N, T) and values V (N, T), both 0 after the end. λ = 1: the return
    that followed, minus V; λ = 0: R plus the next token's V, minus V."""
    A, A_next, V_next = np.zeros_like(R), np.zeros(len(R)), np.zeros(len(R))
    for t in reversed(range(R.shape[1])):
        delta = R[:, t] + V_next - V[:, t]
        A_next = A[:, t] = delta + lam * A_next  # eq: gae
        V_next = V[:, t]
    return A


@dataclass
class Rollout:
    """Answers y (N, T) that a policy wrote to prompts x (N, P); for each token log π_old, A
    (normalised), and the return V + A (not normalised); for each answer r, and `kl`,
    log π_old(y | x) − log π_SFT(y | x). Arrays (N, T) and (N,)."""

    x: np.ndarray
    y: np.ndarray
    log_old: np.ndarray
    A: np.ndarray
    returns: np.ndarray
    r: np.ndarray
    kl: np.ndarray


class PPO:
    """The `policy` and the one it starts from, `sft`, both `Prompted`; the `reward_model` and the
    value network `value`, both `ScalarHeadLM`. `policy` and `value` are trained."""

    def __init__(self, policy, sft, reward_model, value, beta=0.1, epsilon=0.2, lam=0.95):
        self.policy, self.sft, self.reward_model, self.value = policy, sft, reward_model, value
        self.beta, self.epsilon, self.lam = beta, epsilon, lam

    @no_grad()
    def rollout(self, x, rng):
        """Samples answers to prompts x (N, P), and computes their rewards and advantages."""
        y = self.policy.sample(len(x), rng, x)
        mask = token_mask(y)
        log_old = -self.policy.token_nll(y, x).numpy()
        log_ratio = log_old + self.sft.token_nll(y, x).numpy()
        r, V = self.reward_model.rewards(y, x).numpy(), self.value.values(y, x).numpy() * mask
        A = advantages(r - self.beta * log_ratio, V, self.lam)  # eq: rlhf-objective
        A_norm = (A - A[mask].mean()) / (A[mask].std() + 1e-8)
        return Rollout(x, y, log_old, A_norm, V + A, r.sum(1), log_ratio.sum(1))

    def loss(self, rollout):
        """The policy's loss on answers, and the value network's, both averaged over tokens."""
        y, x, mask = rollout.y, rollout.x, token_mask(rollout.y)
        log_pi, V = -self.policy.token_nll(y, x), self.value.values(y, x)
        n, (mask, log_old, A, returns) = mask.sum(), (to_device_of(a, V.data) for a in (
            mask.astype(V.dtype), rollout.log_old, rollout.A, rollout.returns))
        rho = exp(log_pi - log_old)
        clipped = clip(rho, min=1 - self.epsilon, max=1 + self.epsilon)
        policy = -sum(minimum(rho * A, clipped * A) * mask) / n  # eq: ppo-clip
        return policy, sum(square(V - returns) * mask) / n

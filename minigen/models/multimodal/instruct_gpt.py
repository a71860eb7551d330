"""InstructGPT: a language model is told what to do, and learns what people prefer (Ouyang et al.
2022).

x: a prompt, an instruction and what it is about; y: an answer; π_θ(y | x): the language model.

    SFT  π_SFT: the language model's loss on answers that people wrote
    RM   r(x, y) = Σ_t r_t, a number after each word; of two answers people prefer y_w to y_l
         loss: −log σ(r(x, y_w) − r(x, y_l)), averaged over pairs
    PPO  maximises E_{y~π_θ} [r(x, y) − β log (π_θ(y | x) / π_SFT(y | x))] + γ E_w [log π_θ(w)]

The second term keeps the answers where r has been taught: without the third, the best policy is
π_SFT(y | x) e^{r(x, y)/β} / Z(x). The third, over texts w that the model first learnt, keeps them.

A word is a decision of what to say after x and the words before it (Schulman et al. 2016, 2017):

    R_t = r_t − β log (π_old(y_t) / π_SFT(y_t))
    δ_t = R_t + V_{t+1} − V_t             V_t: the sum of R_t, R_{t+1}, … that a network expects
    A_t = Σ_{l ≥ 0} λ^l δ_{t+l}           by how much y_t was better than expected
    ρ_t = π_θ(y_t) / π_old(y_t)           π_old: the policy that wrote the answers
    loss: −min(ρ_t A_t, clip(ρ_t, 1 − ε, 1 + ε) A_t), averaged over words

whose slope at π_θ = π_old, for λ = 1, is on average that of the first two terms, but for a factor
(a smaller λ trusts V more), and which is level where a word's ratio has gone further than ε to the
better, so that a batch of answers can be used more than once.

Differs from the paper: small networks; r is one number there, after the last word, and so learns
from one place of each answer: here that took many times as long; the value begins with π_SFT's
weights as the reward model does, there with the reward model's; from an advantage the batch's mean
is taken, and it is measured in its standard deviations, as PPO is mostly implemented; rewards are
not shifted to a mean of 0.
"""

from dataclasses import dataclass

import numpy as np

from minigen import clip, exp, minimum, nn, no_grad, softplus, square, sum
from minigen.models.multimodal.language_model import Shown, begun
from minigen.tensor import placed


class Prompted(Shown):
    """A language model `lm` after prompts x, integers (N, P) of its words, which have the first
    places' vectors c as the answer has."""

    def __init__(self, lm):
        self.lm = lm

    def look(self, x):
        """The prompts' words as what stands before the answer: (N, P, D)."""
        return self.lm.read(x)


class Rater:
    """A language model `lm` that gives a number in place of the next word's scores."""

    def __init__(self, lm, rng=None):
        self.lm, self.out = lm, nn.Linear(lm.D, 1, rng=rng)

    def trained(self):
        """What is trained, parameters by name: all but the scores of words, which nobody asks."""
        return {name: p for name, p in nn.parameters(self).items()
                if not name.startswith("lm.out.")}

    def rewards(self, y, x):
        """r_t after each word of answers y (N, T) to prompts x (N, P): (N, T), 0 after the end.
        There is no w_0: y_1 stands in the first place."""
        r = self.out(self.lm.hidden(y, self.lm.read(x)))[..., 0]
        return r * placed(said(y).astype(r.dtype), r.data)

    def values(self, y, x):
        """V before each word of answers y (N, T) to prompts x (N, P): (N, T)."""
        return self.out(self.lm.hidden(begun(y), self.lm.read(x)))[..., 0]


def said(y):
    """Which of the places of answers y (N, T) are words, the end being the last: booleans."""
    before = begun(y) > 0
    before[:, 0] = True
    return before


def preference_loss(better, worse):
    """−log σ(r_w − r_l), averaged over pairs, of their rewards (N,) and (N,); 0 without pairs."""
    return sum(softplus(worse - better)) / max(len(better), 1)  # eq: reward-model-loss


def advantages(R, V, lam):
    """A (N, T) of rewards R (N, T) and values V (N, T), both 0 after the end. λ = 1: what followed,
    less V; λ = 0: what the next word's value promises, less V."""
    A, after, V_next = np.zeros_like(R), np.zeros(len(R)), np.zeros(len(R))
    for t in reversed(range(R.shape[1])):
        delta = R[:, t] + V_next - V[:, t]
        after = A[:, t] = delta + lam * after  # eq: gae
        V_next = V[:, t]
    return A


@dataclass
class Answers:
    """Answers y (N, T) that a policy wrote to prompts x (N, P), and of each word log π_old, A, and
    what followed, V + A; of each answer r, and `kl`, log π_old(y | x) − log π_SFT(y | x). Arrays
    (N, T) and (N,)."""

    x: np.ndarray
    y: np.ndarray
    log_old: np.ndarray
    A: np.ndarray
    returns: np.ndarray
    r: np.ndarray
    kl: np.ndarray


class PPO:
    """A `policy` and the one it was taught as, `sft`, both `Prompted`; `judge` and `value`, both
    `Rater`. What is trained is `policy` and `value`."""

    def __init__(self, policy, sft, judge, value, beta=0.1, epsilon=0.2, lam=0.95):
        self.policy, self.sft, self.judge, self.value = policy, sft, judge, value
        self.beta, self.epsilon, self.lam = beta, epsilon, lam

    @no_grad()
    def answer(self, x, rng):
        """Answers to prompts x (N, P), and what they are worth."""
        y = self.policy.sample(len(x), rng, x)
        words = said(y)
        log_old = -self.policy.surprise(y, x).numpy()
        log_ratio = log_old + self.sft.surprise(y, x).numpy()
        r, V = self.judge.rewards(y, x).numpy(), self.value.values(y, x).numpy() * words
        A = advantages(r - self.beta * log_ratio, V, self.lam)  # eq: rlhf-objective
        scaled = (A - A[words].mean()) / (A[words].std() + 1e-8)
        return Answers(x, y, log_old, scaled, V + A, r.sum(1), log_ratio.sum(1))

    def loss(self, answers):
        """The policy's loss on answers, and the value's, both averaged over words."""
        y, x, words = answers.y, answers.x, said(answers.y)
        log_pi, V = -self.policy.surprise(y, x), self.value.values(y, x)
        n, (word, log_old, A, returns) = words.sum(), (placed(a, V.data) for a in (
            words.astype(V.dtype), answers.log_old, answers.A, answers.returns))
        rho = exp(log_pi - log_old)
        near = clip(rho, min=1 - self.epsilon, max=1 + self.epsilon)
        policy = -sum(minimum(rho * A, near * A) * word) / n  # eq: ppo-clip
        return policy, sum(square(V - returns) * word) / n

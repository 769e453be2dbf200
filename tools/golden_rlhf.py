"""Writes crates/lm/tests/golden/rlhf.json: the arithmetic of rankings, DPO and PPO as NumPy and PyTorch compute it.

    python tools/golden_rlhf.py crates/lm/tests/golden/rlhf.json

Written from the papers, loop by loop, and not from the Rust: GAE by its sum over δ instead of the recursion, the losses by
torch's autograd instead of derived formulas, DPO as TRL words it (-logsigmoid(beta · logits)).
"""

import json
import sys

import numpy as np
import torch


def token_rewards(logprobs, ref, scores, lens, beta):
    rewards, start = [], 0
    for score, n in zip(scores, lens):
        one = [-beta * (logprobs[start + t] - ref[start + t]) for t in range(n)]
        if n:
            one[-1] += score
        rewards += one
        start += n
    return rewards


def gae(rewards, values, lens, gamma, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l} (Schulman et al. 2015, eq. 16), with V = 0 after the end."""
    advantages, start = [], 0
    for n in lens:
        r, v = np.array(rewards[start : start + n]), np.array(values[start : start + n] + [0.0])
        delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(n)]
        advantages += [sum((gamma * lam) ** l * delta[t + l] for l in range(n - t)) for t in range(n)]
        start += n
    return advantages, [a + v for a, v in zip(advantages, values)]


def whiten(x, shift_mean):
    x = np.array(x)
    mean, std = x.mean(), np.sqrt(x.var() + 1e-8)
    white = (x - mean) / std
    return (white if shift_mean else white + mean).tolist()


def differentiated(loss, *inputs):
    value = loss(*inputs)
    value.backward()
    return value.item(), [x.grad.tolist() for x in inputs]


def main():
    rng = np.random.default_rng(7)
    tensor = lambda x: torch.tensor(x, dtype=torch.float64)
    leaf = lambda x: tensor(x).requires_grad_()
    lens = [3, 0, 1, 5]
    n = sum(lens)
    old = rng.normal(-2.0, 1.0, n).tolist()
    ref = (np.array(old) + rng.normal(0, 0.3, n)).tolist()
    values = rng.normal(0, 1, n).tolist()
    scores = rng.normal(0, 1, len(lens)).tolist()
    new = (np.array(old) + rng.normal(0, 0.25, n)).tolist()
    new_values = (np.array(values) + rng.normal(0, 0.4, n)).tolist()

    rewards = token_rewards(old, ref, scores, lens, 0.07)
    advantages, returns = gae(rewards, values, lens, 0.97, 0.9)
    white = whiten(advantages, True)

    def policy(logprobs):
        ratio = torch.exp(logprobs - tensor(old))
        objective = torch.minimum(ratio * tensor(white), torch.clamp(ratio, 0.8, 1.2) * tensor(white))
        return -objective.mean()

    def value(v):
        near = tensor(values) + torch.clamp(v - tensor(values), -0.2, 0.2)
        return 0.5 * torch.maximum((v - tensor(returns)) ** 2, (near - tensor(returns)) ** 2).mean()

    ranks = [2, 1, 2, 3]
    pairs = [(i, j) for i in range(4) for j in range(4) if ranks[i] < ranks[j]]
    answers = rng.normal(0, 1.5, 4).tolist()
    policy_sums, ref_sums = rng.normal(-20, 3, 4).tolist(), rng.normal(-20, 3, 4).tolist()
    log_sigmoid = torch.nn.functional.logsigmoid

    def ranking(r):
        return -torch.stack([log_sigmoid(r[w] - r[l]) for w, l in pairs]).mean()

    def dpo(p):
        q = tensor(ref_sums)
        logits = torch.stack([(p[w] - p[l]) - (q[w] - q[l]) for w, l in pairs])
        return -log_sigmoid(0.1 * logits).mean()

    kl, coefficients = [3.0, 9.0, 6.0, 30.0], [0.15]
    for one in kl:
        coefficients.append(coefficients[-1] * (1 + np.clip(one / 6.0 - 1, -0.2, 0.2) * 512 / 10000))

    golden = {
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
        "lens": lens, "old": old, "ref": ref, "values": values, "scores": scores, "new": new, "new_values": new_values,
        "rewards": rewards, "advantages": advantages, "returns": returns, "whitened": white,
        "whitened_rewards": whiten(rewards, False),
        "policy": differentiated(policy, leaf(new)),
        "value": differentiated(value, leaf(new_values)),
        "pairs": pairs, "answers": answers, "ranking": differentiated(ranking, leaf(answers)),
        "policy_sums": policy_sums, "ref_sums": ref_sums, "dpo": differentiated(dpo, leaf(policy_sums)),
        "kl": kl, "coefficients": coefficients,
    }
    with open(sys.argv[1], "w") as out:
        json.dump(golden, out, indent=0)
        out.write("\n")


if __name__ == "__main__":
    main()

"""Writes crates/lm/tests/golden/rlhf.json: the arithmetic of rankings, DPO, KTO, PPO and GRPO as NumPy and PyTorch compute it.

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


def preference_loss(loss, policy, reference, lens, beta, eps, gamma):
    """Answers come in pairs, the chosen one first; the mean over pairs, as TRL words each (`dpo_trainer.py`, `cpo_trainer.py`, `orpo_trainer.py`)."""
    ls = torch.nn.functional.logsigmoid
    ratios = policy - reference
    c, r = ratios[0::2], ratios[1::2]
    means = policy / lens
    by_token = ratios / lens
    x = beta * (c - r)
    if loss == "sigmoid":
        each = -ls(x) * (1 - eps) - ls(-x) * eps
    elif loss == "hinge":
        each = torch.relu(1 - x)
    elif loss == "ipo":
        each = (by_token[0::2] - by_token[1::2] - 1 / (2 * beta)) ** 2
    elif loss == "robust":
        each = (-ls(x) * (1 - eps) + ls(-x) * eps) / (1 - 2 * eps)
    elif loss == "exo_pair":
        each = torch.sigmoid(x) * (ls(x) - np.log(1 - eps)) + torch.sigmoid(-x) * (ls(-x) - np.log(eps))
    elif loss == "apo_zero":
        each = 1 - torch.sigmoid(beta * c) + torch.sigmoid(beta * r)
    elif loss == "apo_down":
        each = torch.sigmoid(beta * c) + 1 - torch.sigmoid(x)
    elif loss == "sigmoid_norm":
        each = -ls(beta * (by_token[0::2] - by_token[1::2]))
    elif loss == "simpo":
        each = -ls(beta * (means[0::2] - means[1::2]) - gamma)
    elif loss == "orpo":
        a, b = means[0::2], means[1::2]
        odds = (a - b) - (torch.log1p(-torch.exp(a)) - torch.log1p(-torch.exp(b)))
        each = -beta * ls(odds)
    return each.mean()


def unpaired_goldens(tensor, leaf):
    """KTO as TRL words it (`kto_trainer.py`): the mean over good and bad answers together."""
    log_ratios, good = [1.5, -0.1, 0.2, 0.2], [True, True, False, False]
    mismatched_ref = [-9.5, -8.1, -7.2, -6.4]
    near, far = [-9.0, -8.0, -7.0, -6.5], [-10.0, -9.0, -8.0, -7.0]

    def one(loss, mismatched, weights, known):
        ratios = (tensor(mismatched) - tensor(mismatched_ref)).tolist()
        z = tensor(ratios).mean().clamp(min=0) if loss == "kto" else tensor(0.0)

        def of(x):
            losses = [1 - torch.sigmoid(0.5 * (u - z)) if g else 1 - torch.sigmoid(0.5 * (z - u)) for u, g in zip(x, good)]
            return torch.stack([weights[0 if g else 1] * each for each, g in zip(losses, good)]).mean()

        value, gradient = differentiated(of, leaf(log_ratios))
        assert abs(value - known) < 1e-7, (loss, value, known)
        return {"loss": loss, "beta": 0.5, "weights": weights, "mismatched": ratios, "z": z.item(), "log_ratios": log_ratios,
                "good": good, "value": value, "gradient": gradient[0]}

    # What TRL's own functions give for the same numbers.
    return [
        one("kto", near, [1.0, 1.0], 0.470187277), one("kto", near, [1.0, 1.5], 0.595968517), one("kto", far, [1.0, 1.0], 0.470819268),
        one("apo_zero_unpaired", near, [1.0, 1.0], 0.470819268),
    ]


def group_advantages(how, rewards, group):
    """Group by group, as the papers word it; an answer without a reward is None."""
    advantages = []
    for start in range(0, len(rewards), group):
        some = rewards[start : start + group]
        known = [r for r in some if r is not None]
        if len(set(known)) < 2:
            advantages += [0.0] * len(some)
            continue
        for r in some:
            others = sum(known) - (r or 0.0)
            if r is None:
                advantages.append(0.0)
            elif how == "group":
                advantages.append((r - np.mean(known)) / (np.std(known, ddof=1) + 1e-4))
            elif how == "mean":
                advantages.append(r - np.mean(known))
            else:
                advantages.append(r - others / (len(known) - 1))
    return [float(a) for a in advantages]


def whitened_returns(rewards, prices, lens):
    """The sum of rewards from each token on, with an answer's own on its last; then all of them to mean 0 and variance 1."""
    returns, start = [], 0
    for r, n in zip(rewards, lens):
        per_token = [-p for p in prices[start : start + n]]
        per_token[-1] += r
        returns += [sum(per_token[t:]) for t in range(n)]
        start += n
    returns = np.array(returns)
    return ((returns - returns.mean()) / np.sqrt(returns.var() + 1e-8)).tolist()


def grpo_loss(new, old, ref, advantages, lens, c):
    """Answer by answer and token by token, as TRL's `_compute_loss` words it."""
    learned = c.get("learned", [True] * len(lens))
    total = sum(n for n, l in zip(lens, learned) if l)
    loss, start = torch.zeros((), dtype=torch.float64), 0
    for i, n in enumerate(lens):
        difference = new[start : start + n] - old[start : start + n]
        ratios = {"token": difference.exp(), "sequence": difference.sum().exp().repeat(n), "sequence_mean": difference.mean().exp().repeat(n)}
        ratio, a = ratios[c["ratio"]], advantages[i]
        per_token = -torch.minimum(ratio * a, torch.clamp(ratio, 1 - c["low"], 1 + c["high"]) * a)
        if c["kl_coef"]:
            d = ref[start : start + n] - new[start : start + n]
            kl = torch.exp(d) - d - 1 if c["kl"] == "k3" else -d
            per_token = per_token + c["kl_coef"] * kl * (difference.exp() if c["kl_corrected"] else 1.0)
        by = {"sequence": len(lens) * n, "tokens": total, "max_tokens": len(lens) * 8}[c["reduction"]]
        loss = loss + (per_token.sum() / by if learned[i] else 0.0)
        start += n
    return loss


def grpo_goldens(tensor, leaf):
    rewards = [1.0, 0.0, 0.5, 0.0]
    new = [-0.5, -1.2, -0.3, -2.0, -0.7, -0.9, -1.5, -0.4, -0.6, -0.2]
    old = [-0.55, -1.6, -0.3, -1.7, -0.7, -0.4, -1.1, -0.45, -0.9, -0.6]
    ref = [-0.6, -1.3, -0.2, -1.9, -0.8, -0.7, -1.3, -0.5, -0.7, -0.4]
    lens = [4, 2, 3, 1]
    group, out = group_advantages("group", rewards, 4), group_advantages("leave_one_out", rewards, 4)
    prices = (0.05 * (np.array(old) - np.array(ref))).tolist()
    sums = [sum(prices[start : start + n]) for start, n in zip(np.cumsum([0] + lens), lens)]
    some = [0.3, None, -1.0, 0.25, 1.0, 1.0, None, 1.0, None, None, None, 2.0]
    golden = {
        "rewards": rewards, "new": new, "old": old, "ref": ref, "lens": lens, "prices": prices,
        "group": group, "mean": group_advantages("mean", rewards, 4), "leave_one_out": out,
        "leave_one_out_less_prices": group_advantages("leave_one_out", [r - s for r, s in zip(rewards, sums)], 4),
        "whitened": whitened_returns(rewards, prices, lens),
        "some": some, "of_some": {how: group_advantages(how, some, 4) for how in ["group", "mean", "leave_one_out"]},
    }
    usual = {"ratio": "token", "reduction": "sequence", "low": 0.2, "high": 0.2, "kl_coef": 0.0, "kl": "k3", "kl_corrected": False}
    # What TRL 1.16's own functions give for the same numbers.
    cases = [
        ({}, 0.079069055), ({"reduction": "tokens"}, -0.339551886), ({"reduction": "max_tokens"}, -0.106109964),
        ({"reduction": "tokens", "high": 0.28}, -0.352082860), ({"ratio": "sequence_mean"}, 0.045747364),
        ({"ratio": "sequence_mean", "low": 3e-4, "high": 4e-4}, 0.097187010), ({"ratio": "sequence", "advantages": "leave_one_out"}, 0.004794727),
        ({"kl_coef": 0.04}, 0.079541197), ({"kl_coef": 0.04, "kl_corrected": True}, 0.079577379),
        ({"learned": [False, True, True, True]}, 0.404751), ({"learned": [False, True, True, True], "reduction": "tokens"}, 0.302566),
        ({"kl_coef": 0.3, "kl": "k1"}, None), ({"kl_coef": 0.3, "kl": "k1", "kl_corrected": True, "ratio": "sequence_mean"}, None),
        ({"kl_coef": 0.3, "kl_corrected": True, "ratio": "sequence", "reduction": "max_tokens", "learned": [True, True, False, True]}, None),
    ]
    golden["cases"] = []
    for change, known in cases:
        case = usual | change
        advantages = out if case.pop("advantages", "") == "leave_one_out" else group
        loss = lambda x: grpo_loss(x, tensor(old), tensor(ref), advantages, lens, case)
        value, gradient = differentiated(loss, leaf(new))
        assert known is None or abs(value - known) < 1e-6, (case, value, known)
        golden["cases"].append(case | {"advantages": advantages, "value": value, "gradient": gradient[0]})
    return golden


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

    def ranking_with_terms(r):
        return torch.stack([-log_sigmoid(r[w] - r[l] - 0.5) + 0.01 * (r[w] + r[l]) ** 2 for w, l in pairs]).mean()

    def dpo(p):
        q = tensor(ref_sums)
        logits = torch.stack([(p[w] - p[l]) - (q[w] - q[l]) for w, l in pairs])
        return -log_sigmoid(0.1 * logits).mean()

    # Log-probabilities of the tokens of two pairs, chosen first; the reference's sums.
    tokens = [[-0.5, -1.2, -0.3, -2.0], [-1.5, -0.4, -0.6], [-0.7, -0.9], [-0.2]]
    pair_refs, pair_lens = [-5.5, -2.7, -1.5, -0.4], [len(t) for t in tokens]
    pair_sums = [sum(t) for t in tokens]

    def preference(loss, beta, eps=0.0, gamma=0.0):
        value, gradient = differentiated(
            lambda p: preference_loss(loss, p, tensor(pair_refs), tensor(pair_lens), beta, eps, gamma), leaf(pair_sums)
        )
        answers = list(zip(pair_sums, pair_refs, pair_lens))
        return {"loss": loss, "beta": beta, "label_smoothing": eps, "gamma": gamma, "answers": answers, "value": value, "gradient": gradient[0]}

    preferences = [
        preference("sigmoid", 0.5), preference("sigmoid", 0.5, 0.1), preference("hinge", 0.5), preference("hinge", 2.0), preference("ipo", 0.5),
        preference("robust", 0.5, 0.1), preference("exo_pair", 0.5, 0.001), preference("apo_zero", 0.5), preference("apo_down", 0.5),
        preference("sigmoid_norm", 2.0), preference("simpo", 2.0, 0.0, 0.5), preference("simpo", 2.0, 0.0, 1.0), preference("orpo", 0.1),
    ]
    # What TRL 1.12's own functions give for the same numbers.
    trl = {("sigmoid", 0.0): 0.595506192, ("sigmoid", 0.1): 0.620506192, ("hinge", 0.0): 0.75, ("ipo", 0.0): 1.020451389, ("robust", 0.1): 0.564256192,
           ("exo_pair", 0.001): 2.374750337, ("apo_zero", 0.0): 0.941638536, ("apo_down", 0.0): 1.023550343, ("sigmoid_norm", 0.0): 0.702845465,
           ("simpo", 0.0): 1.531002089, ("orpo", 0.0): 0.135956084}
    for one in preferences:
        if one["beta"] != 2.0 or one["loss"] != "hinge":
            known = 1.936189590 if one["gamma"] == 1.0 else trl[one["loss"], one["label_smoothing"]]
            assert abs(one["value"] - known) < 1e-7, (one, known)

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
        "ranking_with_terms": differentiated(ranking_with_terms, leaf(answers)),
        "policy_sums": policy_sums, "ref_sums": ref_sums, "dpo": differentiated(dpo, leaf(policy_sums)),
        "preference": preferences, "unpaired": unpaired_goldens(tensor, leaf),
        "kl": kl, "coefficients": coefficients,
        "grpo": grpo_goldens(tensor, leaf),
    }
    with open(sys.argv[1], "w") as out:
        json.dump(golden, out, indent=0)
        out.write("\n")


if __name__ == "__main__":
    main()

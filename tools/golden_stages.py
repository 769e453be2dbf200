"""Writes what PyTorch computes of the first steps of every stage into crates/gpt/tests/golden/stages/.

    MYNAH_GOLDEN_INPUTS=1 cargo test --release -p mynah-gpt --test golden_stages     # writes the inputs
    python tools/golden_stages.py crates/gpt/tests/golden/stages                     # computes the rest

Each file there is one stage: `inputs` (tokens, recipe, seeds), which the test makes, and `golden`, which this script makes of
them alone. Written from the papers and docs/rlhf.md, and not from the Rust: one whole batch instead of micro-batches, autograd
instead of derived formulas, `torch.optim.AdamW`, every prefix through the whole model instead of a cache. What has to be the same
are the random numbers, a function of (seed, stream, index): order of the data, dropout, sampling.

Everything is float64. Numbers that a recipe keeps in float32 (rates, temperatures) are rounded first.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch

NONE = 2**32 - 1  # no target
MASK = 2**64 - 1

# Streams of random numbers.
NOISE = {"pretrain": 0x50524501, "sft": 0x53465401, "dpo": 0x44504F01, "reward": 0x52574401, "finetune": 0x46544E01, "kto": 0x4B544F01, "distil": 0x44535401}
HEAD_NOISE = 0x46544E02
WINDOW_ORDER, WINDOW_OFFSET = 0x4F524445 << 32, 0x4F464653
CHAT_ORDER, RANKING_ORDER, LABEL_ORDER = 0x43484154 << 32, 0x52414E4B << 32, 0x4C414245 << 32
JUDGED_ORDER = 0x4B544F02 << 32
DISTIL_OWN, DISTIL_SAMPLING = 0x44535402, 0x44535403
PPO_PROMPTS, PPO_MINIBATCHES, PPO_SAMPLING, PPO_MEASURING = 0x50504F01 << 32, 0x50504F02 << 32, 0x50504F03, 0x50504F04
GRPO_PROMPTS, GRPO_MINIBATCHES, GRPO_SAMPLING, GRPO_MEASURING = 0x47525001 << 32, 0x47525002 << 32, 0x47525003, 0x47525004
NEW_ROWS = 0x524F5753
SAMPLES = 0x53414D50 << 32


# ---- random numbers: SplitMix64's finaliser, once a coordinate -------------------------------------------------------

GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def bits(seed, stream, index):
    key = mix(((seed + GOLDEN) & MASK) ^ mix((stream + 2 * GOLDEN) & MASK))
    return mix(key ^ mix((index * GOLDEN + key) & MASK))


def uniform(seed, stream, index):
    return (bits(seed, stream, index) >> 40) / 2**24


def normal(seed, stream, index):
    unit = lambda i: ((bits(seed, stream, i) >> 11) + 0.5) / 2**53
    return math.sqrt(-2.0 * math.log(unit(2 * index))) * math.cos(math.tau * unit(2 * index + 1))


def below(seed, stream, index, n):
    return (bits(seed, stream, index) * n) >> 64


def permuted(n, seed, stream, i):
    """Where a Feistel network of six rounds over the next power of four puts `i`, walked until it lands below `n`."""
    half = max(1, -(-(n - 1).bit_length() // 2))
    while True:
        left, right = i >> half, i & ((1 << half) - 1)
        for r in range(6):
            left, right = right, (left ^ bits(seed, stream, r << 32 | right)) & ((1 << half) - 1)
        i = left << half | right
        if i < n:
            return i


def f32(x):
    return float(np.float32(x))


# ---- data ------------------------------------------------------------------------------------------------------------


def shuffled(items, seed, order, first, count):
    """Items `first ..` of epochs that each visit all of them in another order."""
    n = len(items)
    return [items[permuted(n, seed, order + number // n, number % n)] for number in range(first, first + count)]


def window(tokens, seq_len, seed, number):
    """The window of this number: every epoch turns the ring of tokens, cuts it, and visits the pieces in another order."""
    per_epoch = len(tokens) // seq_len
    epoch, i = divmod(number, per_epoch)
    start = below(seed, WINDOW_OFFSET, epoch, len(tokens)) + permuted(per_epoch, seed, WINDOW_ORDER + epoch, i) * seq_len
    return [tokens[(start + k) % len(tokens)] for k in range(seq_len + 1)]


def mixed_windows(parts, seq_len, seed, step, sequences):
    """The windows of a step: of parts with shares, row n is the first part's where ⌊(n + 1)·share⌋ passes a whole number."""
    total, windows = sum(part["weight"] for part in parts), []
    for number in range((step - 1) * sequences, step * sequences):
        left = 1.0
        for part in parts:
            share = part["weight"] / total
            own = int(number * (share / left))
            if part is parts[-1] or int((number + 1) * (share / left)) > own:
                windows.append(window(part["train"], seq_len, seed, number if part is parts[-1] else own))
                break
            number, left = number - own, left - share
    return [w[:-1] for w in windows], [w[1:] for w in windows]


def pairs_of(ranks):
    return [(i, j) for i in range(len(ranks)) for j in range(len(ranks)) if ranks[i] < ranks[j]]


# ---- model: GPT-2 ----------------------------------------------------------------------------------------------------


class Model:
    """GPT-2 with its head tied to the embedding, or with one that scores; `arrays` are its first values by name."""

    def __init__(self, shape, arrays):
        self.layers, self.heads = shape["layers"], shape["heads"]
        self.w = {name: torch.tensor(a, dtype=torch.float64, requires_grad=True) for name, a in arrays.items()}

    def hidden(self, sequences, noise=None):
        """The last norm's output for every row; `noise` is (seed, p, rows before these), and its rows are numbered through the whole list."""
        w, rows, row = self.w, [], 0
        for tokens in sequences:
            n = len(tokens)
            keep = lambda stream, x: x * kept(noise, stream, row, *x.shape)
            x = keep(0, w["wte"][tokens] + w["wpe"][:n])
            for i in range(self.layers):
                p = f"blocks.{i}"
                qkv = self.linear(f"{p}.qkv", self.norm(f"{p}.norm1", x)).view(n, 3, self.heads, -1)
                q, k, v = qkv.permute(1, 2, 0, 3)
                scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
                scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
                a = scores.softmax(-1) * kept_attention(noise, 3 * i + 1, row, self.heads, n)
                a = (a @ v).transpose(0, 1).reshape(n, -1)
                x = x + keep(3 * i + 2, self.linear(f"{p}.attn_out", a))
                up = self.linear(f"{p}.mlp_up", self.norm(f"{p}.norm2", x))
                up = torch.nn.functional.gelu(up, approximate="tanh")
                x = x + keep(3 * i + 3, self.linear(f"{p}.mlp_down", up))
            rows.append(self.norm("final_norm", x))
            row += n
        return torch.cat(rows)

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name, x):
        w = self.w
        return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], f32(1e-5))

    def log_softmax(self, sequences, noise=None, temperature=1.0):
        return (self.hidden(sequences, noise) @ self.w["wte"].T / temperature).log_softmax(-1)

    def denominators(self, sequences, noise=None):
        """Logarithms of the softmax's denominators of all rows."""
        return (self.hidden(sequences, noise) @ self.w["wte"].T).exp().sum(-1).log()

    def logprobs(self, sequences, targets, noise=None):
        """Of all targets that there are, one after another."""
        flat = torch.tensor([t for sequence in targets for t in sequence])
        is_target = flat != NONE
        return self.log_softmax(sequences, noise)[is_target].gather(1, flat[is_target, None])[:, 0]

    def scores(self, sequences, noise=None, head_noise=None):
        """[sequences, labels] at the last row of each."""
        ends = np.cumsum([len(s) for s in sequences]) - 1
        read = self.hidden(sequences, noise)[ends]
        return read * kept(head_noise, 0, 0, *read.shape) @ self.w["score.weight"].T

    def answers(self, episodes, temperature):
        """Log-probabilities of the tokens of answers and entropies of their distributions, flat."""
        logprobs = self.log_softmax([e.tokens for e in episodes], None, temperature)
        before, drawn = answer_rows(episodes)
        entropies = -(logprobs.exp() * logprobs).sum(-1)[before]
        return logprobs[before, drawn], entropies

    def values(self, episodes):
        """What the head says before each token of an answer, flat."""
        return (self.hidden([e.tokens for e in episodes]) @ self.w["score.weight"].T)[answer_rows(episodes)[0], 0]

    def summary(self, tensors=None):
        return {name: summary(x) for name, x in (tensors or self.w).items()}


# What the embedding of the token that ends answers is, in multiples of the last norm's bias.
END_WEIGHT = 4.0


def leaves(shape, labels):
    """Names and sizes of a model's arrays, in order."""
    v, c, d = shape["vocab_size"], shape["context"], shape["width"]
    named = [("wte", (v, d)), ("wpe", (c, d))]
    for i in range(shape["layers"]):
        both = lambda name, out, *size: [(f"blocks.{i}.{name}.weight", (out, *size)), (f"blocks.{i}.{name}.bias", (out,))]
        named += both("norm1", d) + both("qkv", 3 * d, d) + both("attn_out", d, d)
        named += both("norm2", d) + both("mlp_up", 4 * d, d) + both("mlp_down", d, 4 * d)
    named += [("final_norm.weight", (d,)), ("final_norm.bias", (d,))]
    return named + ([("score.weight", (labels, d))] if labels else [])


def drawn(seed, stream, size, first=0):
    return np.array([normal(seed, stream, first + i) for i in range(math.prod(size))]).reshape(size)


def first_values(shape, seed, labels=None):
    """Far from usual first values, so that a wrong bias or gain shows; and some answers come to an end."""
    arrays = {}
    for leaf, (name, size) in enumerate(leaves(shape, labels)):
        is_gain = len(size) == 1 and name.endswith("weight")
        arrays[name] = ((1.0 if is_gain else 0.0) + 0.25 * drawn(seed, leaf, size)).astype(np.float32)
    arrays["wte"][shape["end"]] = np.float32(END_WEIGHT) * arrays["final_norm.bias"]
    return arrays


def with_head(arrays, labels, seed):
    """A language model with a head that scores, as it is drawn: N(0, 1/√(width + 1)) for one score, N(0, 0.02) for several."""
    width = arrays["wte"].shape[1]
    std = f32(1 / math.sqrt(width + 1)) if labels == 1 else f32(0.02)
    head = drawn(seed, len(arrays) + 1, (labels, width)) * std
    return arrays | {"score.weight": head.astype(np.float32)}


def with_marks(arrays, marks, seed):
    """A vocabulary with further tokens, whose embeddings are drawn from N(0, 0.02)."""
    known, width = arrays["wte"].shape
    rows = 0.02 * drawn(seed, NEW_ROWS, (marks, width), known * width)
    return arrays | {"wte": np.concatenate([arrays["wte"], rows.astype(np.float32)])}


def kept(noise, stream, first_row, rows, width):
    """What dropout multiplies `rows` rows by."""
    if noise is None or noise[1] == 0:
        return 1.0
    seed, p, *before = noise
    first_row += sum(before)
    drop = [[uniform(seed, stream, (first_row + r) * width + c) < p for c in range(width)] for r in range(rows)]
    return torch.where(torch.tensor(drop), 0.0, 1.0 / (1.0 - p)).double()


def kept_attention(noise, stream, first_row, heads, n):
    """The same for the probabilities of attention, whose columns are numbered head · 2²⁰ + key."""
    if noise is None or noise[1] == 0:
        return 1.0
    seed, p, *before = noise
    first_row += sum(before)
    drop = [
        [[uniform(seed, stream, ((first_row + i) * heads + h << 20) + j) < p if j <= i else True for j in range(n)] for i in range(n)]
        for h in range(heads)
    ]
    return torch.where(torch.tensor(drop), 0.0, 1.0 / (1.0 - p)).double()


def summary(x):
    """Norm and five values of a tensor."""
    flat = x.detach().flatten()
    return [flat.norm().item()] + [flat[i * (len(flat) - 1) // 4].item() for i in range(5)]


# ---- optimisation ----------------------------------------------------------------------------------------------------


def orthogonal(u):
    """Five Newton-Schulz steps (Jordan et al. 2024): the direction with singular values of about 1."""
    x = u / (u.norm() + 1e-7)
    x = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(5):
        gram = x @ x.T
        x = f32(3.4445) * x + (f32(-4.7750) * gram + f32(2.0315) * gram @ gram) @ x
    return x if u.shape[0] <= u.shape[1] else x.T


class Muon:
    """Momentum of 0.95 after Nesterov, map by map, in steps of the size that AdamW's have (Liu et al. 2025)."""

    def __init__(self, matrices, decay):
        self.matrices, self.decay, self.mu = matrices, decay, f32(0.95)
        self.momenta = {name: torch.zeros_like(x) for name, x in matrices.items()}

    def step(self, lr):
        with torch.no_grad():
            for name, x in self.matrices.items():
                m = self.momenta[name]
                m *= self.mu
                m += (1 - self.mu) * x.grad
                u = (1 - self.mu) * x.grad + self.mu * m
                x *= 1 - lr * self.decay
                # Queries, keys and values are three maps in one array.
                for part, direction in zip(*[t.chunk(3 if ".qkv." in name else 1) for t in (x, u)]):
                    part -= lr * 0.2 * math.sqrt(max(part.shape)) * orthogonal(direction)


class Optimizer:
    """AdamW with decay of matrices and embeddings, after clipping the norm; with Muon for the matrices of blocks, if asked for."""

    def __init__(self, model, recipe):
        self.model, self.clip = model, f32(recipe["grad_clip"])
        betas = (f32(recipe["beta1"]), f32(recipe["beta2"]))
        by_muon = recipe.get("optimizer") == "muon"
        muons = {name: x for name, x in model.w.items() if by_muon and name.startswith("blocks.") and x.dim() == 2}
        self.muon = Muon(muons, f32(recipe["weight_decay"]))
        matrices = [x for name, x in model.w.items() if x.dim() == 2 and name not in muons]
        others = [x for x in model.w.values() if x.dim() != 2]
        groups = [
            {"params": matrices, "weight_decay": f32(recipe["weight_decay"])},
            {"params": others, "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=f32(recipe["eps"]))

    def step(self, loss, lr):
        """Learns from a loss; returns the gradient's norm before clipping."""
        for x in self.model.w.values():
            x.grad = None
        loss.backward()
        norm = norm_of(x.grad for x in self.model.w.values())
        for x in self.model.w.values():
            if x.grad is not None and 0 < self.clip < norm:
                x.grad *= self.clip / norm
        for group in self.adam.param_groups:
            group["lr"] = lr
        self.adam.step()
        self.muon.step(lr)
        return norm


def norm_of(gradients):
    return math.sqrt(sum((g**2).sum().item() for g in gradients if g is not None))


def rate(recipe, step, warmup=0):
    warmup, steps = max(warmup, recipe["warmup_steps"]), recipe["steps"]
    if step <= warmup:
        return f32(f32(recipe["lr"]) * step / warmup)
    progress = min(1.0, (step - 1 - warmup) / max(1, steps - warmup))
    left = 1 - progress if recipe.get("decay") == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    low = f32(recipe["min_lr_frac"])
    return f32(f32(recipe["lr"]) * (low + (1 - low) * left))


# ---- sampling --------------------------------------------------------------------------------------------------------


class Episode:
    def __init__(self, prompt, answer=(), ended=True):
        self.tokens, self.prompt_len, self.ended = list(prompt) + list(answer), len(prompt), ended

    def answer_len(self):
        return len(self.tokens) - self.prompt_len


def answer_rows(episodes):
    """The rows that predict tokens of answers, and these tokens."""
    rows, drawn, first = [], [], 0
    for e in episodes:
        rows += range(first + e.prompt_len - 1, first + len(e.tokens) - 1)
        drawn += e.tokens[e.prompt_len :]
        first += len(e.tokens)
    return rows, drawn


def answer(model, prompts, ends, max_tokens, temperature, seed):
    """Samples an answer to each prompt, token by token: the i-th prompt has the i-th stream of samples."""
    episodes = []
    with torch.no_grad():
        for number, prompt in enumerate(prompts):
            e = Episode(prompt, ended=False)
            while not e.ended and e.answer_len() < max_tokens:
                logits = (model.hidden([e.tokens])[-1] @ model.w["wte"].T).numpy().astype(np.float32)
                scaled = (logits - logits.max()) / np.float32(temperature)
                weights = np.rint(np.exp(scaled).astype(np.float64) * 2**40).astype(np.int64)
                left = below(seed, SAMPLES + number, e.answer_len(), int(weights.sum()))
                e.tokens.append(int(np.argmax(np.cumsum(weights) > left)))
                e.ended = e.tokens[-1] in ends
            episodes.append(e)
    return episodes


def rewards(model, episodes, end):
    """The reward model reads whole answers only."""
    with torch.no_grad():
        return model.scores([e.tokens + ([] if e.ended else [end]) for e in episodes])[:, 0]


# ---- stages ----------------------------------------------------------------------------------------------------------


class Run:
    """Figures of a run and the states after its steps."""

    def __init__(self):
        self.metrics, self.states = [], []

    def golden(self, before=None, best=None, highest=False):
        golden = {"metrics": self.metrics, "states": self.states}
        if before is not None:
            golden["before"] = before
        if best:
            values = [line[best] for line in self.metrics]
            golden["selected"] = values.index((max if highest else min)(values)) + 1
        return golden


def mean_loss(model, sequences, targets, noise=None):
    return -model.logprobs(sequences, targets, noise).mean()


def mean_z(model, sequences, targets, noise):
    """The mean of the squared logarithms of the softmax's denominators, over the rows that have a target."""
    is_target = torch.tensor([t != NONE for sequence in targets for t in sequence])
    return (model.denominators(sequences, noise)[is_target] ** 2).mean()


def sft(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    model = Model(shape, first_values(shape, inputs["weights"]))
    reward = Model(shape, first_values(shape, inputs["reward_weights"], 1))
    optimizer, share, run = Optimizer(model, recipe), recipe["ptx_share"], Run()
    train, val = inputs["train"], inputs["val"]

    def evaluate():
        with torch.no_grad():
            loss = mean_loss(model, [s["tokens"] for s in val], [s["targets"] for s in val]).item()
        is_target = lambda s: [t != NONE for t in s["targets"]].index(True)
        prompts = [s["tokens"][: is_target(s) + 1] for s in val]
        prompts = [p for p in prompts if len(p) + recipe["max_tokens"] + 1 <= shape["context"]]
        answers = answer(model, prompts, inputs["end_tokens"], recipe["max_tokens"], 1.0, seed)
        return loss, rewards(reward, answers, inputs["end_tokens"][0]).mean().item()

    before = evaluate()[0]
    for step in range(1, recipe["steps"] + 1):
        size = recipe["batch_size"]
        batch = shuffled(train, inputs["order_seed"], CHAT_ORDER, (step - 1) * size, size)
        noise = (bits(seed, NOISE["sft"], step), f32(recipe["dropout"]))
        loss = mean_loss(model, [s["tokens"] for s in batch], [s["targets"] for s in batch], noise)
        windows = mixed_windows(inputs["ptx"], shape["context"], seed, step, math.ceil(share * size))
        # Its rows stand behind those of the demonstrations.
        behind = (*noise, sum(len(s["tokens"]) for s in batch))
        ptx = mean_loss(model, *windows, behind)
        z = mean_z(model, [s["tokens"] for s in batch], [s["targets"] for s in batch], noise)
        price = f32(recipe["z_loss"]) * ((1 - share) * z + share * mean_z(model, *windows, behind))
        lr = rate(recipe, step)
        norm = optimizer.step((1 - share) * loss + share * ptx + price, lr)
        val_loss, val_reward = evaluate()
        run.metrics.append({
            "loss": loss.item(), "ptx/loss": ptx.item(), "lr": lr, "grad_norm": norm,
            "val_loss": val_loss, "val_reward": val_reward,
        })
        run.states.append({"model": model.summary()})
    return run.golden({"val_loss": before}, "val_reward", True)


def whiten(x, shift_mean=True):
    white = (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-8)
    return white if shift_mean else white + x.mean()


def ppo(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    policy, reference = [Model(shape, first_values(shape, inputs["weights"])) for _ in range(2)]
    value, reward = [Model(shape, first_values(shape, inputs["reward_weights"], 1)) for _ in range(2)]
    average = {name: x.detach().clone() for name, x in policy.w.items()}
    learn, learn_value = Optimizer(policy, recipe), Optimizer(value, recipe)
    temperature, kl_coef, run = f32(recipe["temperature"]), recipe["kl_coef"], Run()
    ends, n = inputs["end_tokens"], recipe["batch_size"]

    def sampled(prompts, sampling_seed):
        episodes = answer(policy, prompts, ends, recipe["max_tokens"], temperature, sampling_seed)
        with torch.no_grad():
            scores = rewards(reward, episodes, ends[0])
            scores -= recipe["missing_end_penalty"] * torch.tensor([not e.ended for e in episodes]).double()
            logprobs, entropies = policy.answers(episodes, temperature)
            ref_logprobs, _ = reference.answers(episodes, temperature)
        return episodes, scores, logprobs, entropies, ref_logprobs

    def measure():
        episodes, scores, logprobs, _, ref_logprobs = sampled(inputs["held_out"], bits(seed, PPO_MEASURING, 0))
        kl = (logprobs - ref_logprobs).sum().item() / len(episodes)
        return {
            "eval/reward": scores.mean().item(), "eval/kl": kl,
            "eval/objective": scores.mean().item() - recipe["kl_coef"] * kl,
            "eval/reward_median": scores.sort().values[len(scores) // 2].item(),
            "eval/answer_tokens": len(logprobs) / len(episodes),
        }

    before, rollouts = measure(), []
    for step in range(1, recipe["steps"] + 1):
        prompts = shuffled(inputs["prompts"], seed, PPO_PROMPTS, (step - 1) * n, n)
        episodes, scores, old, entropies, ref = sampled(prompts, bits(seed, PPO_SAMPLING, step))
        with torch.no_grad():
            old_values = value.values(episodes)
        lens = [e.answer_len() for e in episodes]
        ends_at = np.cumsum(lens)
        token_rewards = -kl_coef * (old - ref)
        token_rewards[ends_at - 1] += scores
        if recipe["whiten_rewards"]:
            token_rewards = whiten(token_rewards, shift_mean=False)
        advantages = torch.zeros_like(old)
        for end, length in zip(ends_at, lens):
            r, v = token_rewards[end - length : end], torch.cat([old_values[end - length : end], torch.zeros(1)])
            delta = r + recipe["gamma"] * v[1:] - v[:-1]
            decay = recipe["gamma"] * recipe["gae_lambda"]
            for t in range(length):
                advantages[end - length + t] = sum(decay**k * delta[t + k] for k in range(length - t))
        returns = advantages + old_values
        advantages = whiten(advantages)
        kl = (old - ref).sum().item() / n
        rollouts.append([
            {"ended": e.ended, "reward": s.item(), "kl": (old - ref)[end - length : end].sum().item()}
            for e, s, end, length in list(zip(episodes, scores, ends_at, lens))[:4]
        ])

        figures, lr = {}, rate(recipe, step)
        note = lambda name, x: figures.setdefault(name, []).append(x if isinstance(x, float) else x.item())
        spans = [list(range(end - length, end)) for end, length in zip(ends_at, lens)]
        for epoch in range(recipe["epochs"]):
            number = (step - 1) * recipe["epochs"] + epoch
            order = [permuted(n, seed, PPO_MINIBATCHES + number, i) for i in range(n)]
            for part in range(recipe["minibatches"]):
                chosen = order[part * n // recipe["minibatches"] : (part + 1) * n // recipe["minibatches"]]
                some, at = [episodes[i] for i in chosen], [t for i in chosen for t in spans[i]]
                new, entropy = policy.answers(some, temperature)
                ratio, a, eps = torch.exp(new - old[at]), advantages[at], recipe["clip_range"]
                free, clipped = ratio * a, ratio.clamp(1 - eps, 1 + eps) * a
                loss = -torch.minimum(free, clipped).mean()
                note("policy/loss", loss)
                note("policy/clipfrac", (clipped < free).double().mean())
                note("policy/approxkl", 0.5 * ((new - old[at]) ** 2).mean())
                note("policy/ratio", ratio.mean())
                loss = loss - recipe["entropy_coef"] * entropy.mean()
                update = number * recipe["minibatches"] + part
                sequences = max(1, recipe["ptx_tokens"] // shape["context"])
                ptx = mean_loss(policy, *mixed_windows(inputs["ptx"], shape["context"], seed, update + 1, sequences))
                note("ptx/loss", ptx)
                if epoch == part == 0:
                    weights = list(policy.w.values())
                    of = lambda x: norm_of(torch.autograd.grad(x, weights, retain_graph=True))
                    note("ptx/grad_norm_ratio", of(recipe["ptx_coef"] * ptx) / of(loss))
                note("policy/grad_norm", learn.step(loss + recipe["ptx_coef"] * ptx, lr))
                for name, x in policy.w.items():
                    average[name] = f32(recipe["ema"]) * average[name] + (1 - f32(recipe["ema"])) * x.detach()

                v, target, clip = value.values(some), returns[at], recipe["value_clip"]
                near = old_values[at] + (v - old_values[at]).clamp(-clip, clip)
                free, clipped = (v - target) ** 2, (near - target) ** 2
                loss = 0.5 * torch.maximum(free, clipped).mean()
                note("value/loss", loss)
                note("value/clipfrac", (clipped > free).double().mean())
                value_lr = f32(lr * (recipe["value_lr"] / recipe["lr"]))
                note("value/grad_norm", learn_value.step(loss, value_lr))
        error = max(-0.2, min(0.2, kl / recipe["kl_target"] - 1))
        kl_coef *= 1 + error * n / recipe["kl_horizon"]

        line = {
            "objective/reward": scores.mean().item(), "objective/kl": kl, "objective/entropy": entropies.mean().item(),
            "objective/ended": sum(e.ended for e in episodes) / n, "objective/answer_tokens": len(old) / n,
            "kl_coef": kl_coef, "lr": lr,
        }
        line |= {name: sum(values) / len(values) for name, values in figures.items()}
        run.metrics.append(line | measure())
        run.states.append({"model": policy.summary(average), "policy": policy.summary(), "value": value.summary()})
    return run.golden(before, "eval/objective", True) | {"rollouts": rollouts}


def compared(how, totals, group, lens, prices):
    """The advantage of every token, in groups or, whitened, over all of them."""
    spans = [list(range(end - n, end)) for end, n in zip(np.cumsum(lens), lens)]
    if how == "whitened":
        returns = torch.zeros(sum(lens))
        for total, span in zip(totals, spans):
            for t in span:
                returns[t] = total - sum(prices[u] for u in span if u >= t)
        return whiten(returns)
    totals = [total - sum(prices[t] for t in span) for total, span in zip(totals, spans)]
    advantages = torch.zeros(sum(lens))
    for first in range(0, len(totals), group):
        some = totals[first : first + group]
        for i, r in enumerate(some):
            others = some[:i] + some[i + 1 :]
            a = {"group": (r - np.mean(some)) / (np.std(some, ddof=1) + 1e-4), "mean": r - np.mean(some), "leave_one_out": r - np.mean(others)}
            advantages[spans[first + i]] = a[how] if len(set(some)) > 1 else 0.0
    return advantages


def grpo(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    policy, reference = [Model(shape, first_values(shape, inputs["weights"])) for _ in range(2)]
    reward = Model(shape, first_values(shape, inputs["reward_weights"], 1))
    learn, temperature, run = Optimizer(policy, recipe), f32(recipe["temperature"]), Run()
    ends, n, group, most = inputs["end_tokens"], recipe["batch_size"], recipe["group"], recipe["max_tokens"]
    kl_coef, in_loss = recipe["kl_coef"], recipe["kl_in"] == "loss" and recipe["kl_coef"] > 0
    weights, marks = inputs["rewards"], set(inputs["marks"])

    def graded(episodes):
        """What each reward gives, and the sum less the price of length."""
        said = [e.tokens[e.prompt_len : len(e.tokens) - e.ended] for e in episodes]
        given = {"model": rewards(reward, episodes, ends[0]).tolist(), "regex": [float(any(t in marks for t in s)) for s in said]}
        given = {name: given[name] for name in weights}
        cache = round(recipe["overlong_frac"] * most)
        price = [min(1.0, max(0, e.answer_len() - most + cache) / cache) if cache else 0.0 for e in episodes]
        return given, [sum(weights[name] * given[name][i] for name in weights) - p for i, p in enumerate(price)]

    def estimate(new, ref):
        return new - ref if recipe["kl"] == "k1" else torch.exp(ref - new) - (ref - new) - 1

    def measure():
        k = recipe["eval_samples"]
        prompts = [p for p in inputs["held_out"] for _ in range(k)]
        episodes = answer(policy, prompts, ends, most, temperature, bits(seed, GRPO_MEASURING, 0))
        given, totals = graded(episodes)
        figures = {"eval/reward": np.mean(totals).item(), "eval/answer_tokens": np.mean([e.answer_len() for e in episodes]).item()}
        if "regex" in weights:
            right = np.array(given["regex"]).reshape(-1, k).sum(1)
            figures["eval/pass@1"] = (right / k).mean().item()
            figures["eval/pass@k"] = (right > 0).mean().item()
        figures["eval/objective"] = figures["eval/reward"]
        if kl_coef > 0:
            with torch.no_grad():
                kl = (policy.answers(episodes, temperature)[0] - reference.answers(episodes, temperature)[0]).sum().item()
            figures["eval/kl"] = kl / len(episodes)
            figures["eval/objective"] -= kl_coef * figures["eval/kl"]
        return figures

    def gathered(step):
        """Answers to learn from with what they got, and what all that were drawn got."""
        episodes, given, totals, drawn = [], {name: [] for name in weights}, [], ({name: [] for name in weights}, [])
        for number in range((step - 1) * recipe["rounds"] + 1, step * recipe["rounds"] + 1):
            prompts = [p for p in shuffled(inputs["prompts"], seed, GRPO_PROMPTS, (number - 1) * n, n) for _ in range(group)]
            some = answer(policy, prompts, ends, most, temperature, bits(seed, GRPO_SAMPLING, number))
            of_some, sums = graded(some)
            for name in weights:
                drawn[0][name].extend(of_some[name])
            drawn[1].extend(sums)
            for first in range(0, len(some), group):
                places = range(first, first + group)
                differs = len({sums[i] for i in places}) > 1
                if len(episodes) < n * group and (differs or recipe["rounds"] == 1):
                    episodes += [some[i] for i in places]
                    totals += [sums[i] for i in places]
                    for name in weights:
                        given[name] += [of_some[name][i] for i in places]
            if len(episodes) == n * group:
                break
        assert episodes, "no group differs"
        return episodes, given, totals, *drawn

    before, rollouts = measure(), []
    for step in range(1, recipe["steps"] + 1):
        episodes, given, totals, all_given, all_totals = gathered(step)
        with torch.no_grad():
            old, entropies = policy.answers(episodes, temperature)
            ref = reference.answers(episodes, temperature)[0]
        lens = [e.answer_len() for e in episodes]
        spans = [list(range(end - length, end)) for end, length in zip(np.cumsum(lens), lens)]
        paid = kl_coef * estimate(old, ref) if recipe["kl_in"] == "reward" else torch.zeros_like(old)
        advantages = compared(recipe["advantages"], totals, group, lens, paid.tolist())

        figures, lr = {}, rate(recipe, step)
        note = lambda name, x: figures.setdefault(name, []).append(x if isinstance(x, float) else x.item())
        for epoch in range(recipe["epochs"]):
            number = (step - 1) * recipe["epochs"] + epoch
            order = [permuted(len(episodes), seed, GRPO_MINIBATCHES + number, i) for i in range(len(episodes))]
            for part in range(recipe["minibatches"]):
                chosen = order[part * len(order) // recipe["minibatches"] : (part + 1) * len(order) // recipe["minibatches"]]
                new, entropy = policy.answers([episodes[i] for i in chosen], temperature)
                learned = {i: episodes[i].ended or not recipe["mask_cut"] for i in chosen}
                counted = sum(lens[i] for i in chosen if learned[i])
                loss, price, ratios, low, high, first = 0.0, 0.0, [], 0, 0, 0
                for i in chosen:
                    own, at = new[first : first + lens[i]], spans[i]
                    first += lens[i]
                    difference, a = own - old[at], advantages[at]
                    ratio = {"token": difference, "sequence": difference.sum().repeat(lens[i]), "sequence_mean": difference.mean().repeat(lens[i])}
                    ratio = ratio[recipe["ratio"]].exp()
                    bounds = 1 - recipe["clip_low"], 1 + recipe["clip_high"]
                    each = -torch.minimum(ratio * a, ratio.clamp(*bounds) * a)
                    by = {"sequence": len(chosen) * lens[i], "tokens": counted, "max_tokens": len(chosen) * most}[recipe["reduction"]]
                    if learned[i]:
                        loss = loss + each.sum() / by
                        kl = estimate(own, ref[at]) * (difference.exp() if recipe["kl_corrected"] else 1.0)
                        price = price + (kl_coef * kl.sum() / by if in_loss else 0.0)
                    ratios.append(ratio)
                    low += ((ratio < bounds[0]) & (a < 0)).sum().item()
                    high += ((ratio > bounds[1]) & (a > 0)).sum().item()
                at = [t for i in chosen for t in spans[i]]
                note("policy/loss", loss)
                note("policy/clip_low", low / len(at))
                note("policy/clip_high", high / len(at))
                note("policy/approxkl", 0.5 * ((new - old[at]) ** 2).mean())
                note("policy/ratio", torch.cat(ratios).mean())
                if in_loss:
                    note("policy/kl", estimate(new, ref[at]).mean())
                bonus = recipe["entropy_coef"] * entropy.mean()
                note("policy/grad_norm", learn.step(loss + price - bonus, lr))

        groups = [all_totals[i : i + group] for i in range(0, len(all_totals), group)]
        line = {
            "objective/reward": np.mean(all_totals).item(), "objective/entropy": entropies.mean().item(),
            "objective/ended": np.mean([e.ended for e in episodes]).item(), "objective/answer_tokens": np.mean(lens).item(),
            "groups/equal": np.mean([len(set(g)) == 1 for g in groups]).item(),
            "groups/reward_std": np.mean([np.std(g, ddof=1) for g in groups]).item(), "lr": lr,
        }
        line |= {f"reward/{name}": np.mean(values).item() for name, values in all_given.items()}
        if "regex" in weights:
            right = [sum(all_given["regex"][i : i + group]) for i in range(0, len(all_totals), group)]
            line |= {"groups/all_right": np.mean([r == group for r in right]).item(), "groups/all_wrong": np.mean([r == 0 for r in right]).item()}
        if recipe["rounds"] > 1:
            line["groups/kept"] = len(episodes) / len(all_totals)
        if kl_coef > 0:
            line["objective/kl"] = (old - ref).sum().item() / len(episodes)
        line |= {name: sum(values) / len(values) for name, values in figures.items()}
        shown = [
            {"ended": e.ended, "reward": totals[i], "advantage": advantages[spans[i][0]].item()}
            | {f"reward/{name}": given[name][i] for name in weights}
            | ({"kl": (old - ref)[spans[i]].sum().item()} if kl_coef > 0 else {})
            for i, e in enumerate(episodes[:4])
        ]
        rollouts.append(shown)
        run.metrics.append(line | measure())
        run.states.append({"model": policy.summary()})
    return run.golden(before, "eval/objective", True) | {"rollouts": rollouts}


def pretrain(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    model, run = Model(shape, first_values(shape, inputs["weights"])), Run()
    optimizer, length = Optimizer(model, recipe), recipe["seq_len"]
    sequences, keys = recipe["batch_tokens"] // length, set(inputs["key_tokens"])

    def evaluate():
        logprob, tokens, size, total = 0.0, 0, 0, sum(part["weight"] for part in inputs["data"])
        for part in inputs["data"]:
            val, count = part["val"], max(1, math.floor(recipe["eval_windows"] * part["weight"] / total + 0.5))
            for start in dict.fromkeys(np.linspace(0, len(val) - length - 2, count).astype(int).tolist()):
                window = val[start : start + length + 1]
                with torch.no_grad():
                    logprob += model.logprobs([window[:-1]], [window[1:]]).sum().item()
                tokens += length
                size += sum(inputs["token_bytes"][t] for t in window[1:])
        return {"val_loss": -logprob / tokens, "val_bpb": -logprob / math.log(2) / size}

    before = evaluate()
    for step in range(1, recipe["steps"] + 1):
        noise = (bits(seed, NOISE["pretrain"], step), f32(recipe["dropout"]))
        tokens, targets = mixed_windows(inputs["data"], length, seed, step, sequences)
        logprobs = model.logprobs(tokens, targets, noise).view(sequences, length)
        weight = [recipe["key_token_alpha"] * (1 + sum(t in keys for t in row)) for row in tokens]
        loss = -(torch.tensor(weight) @ logprobs.mean(1)) / sequences
        lr = rate(recipe, step)
        z = model.denominators(tokens, noise).view(sequences, length) ** 2
        price = f32(recipe.get("z_loss", 0.0)) * (torch.tensor(weight) @ z.mean(1)) / sequences
        norm = optimizer.step(loss + price, lr)
        figures = {"loss": loss.item(), "lr": lr, "grad_norm": norm, "tokens": step * recipe["batch_tokens"]}
        run.metrics.append(figures | evaluate())
        run.states.append({"model": model.summary()})
    return run.golden(before)


def reward_loss(found, rankings, centre):
    """The mean over rankings of the mean over pairs, with each ranking's margin and the square of every pair's sum."""
    of_each = []
    for (r, pairs), ranking in zip(found, rankings):
        if pairs:
            chosen, rejected = [torch.stack([r[pair[i]] for pair in pairs]) for i in range(2)]
            each = -torch.nn.functional.logsigmoid(chosen - rejected - ranking.get("margin", 0.0))
            of_each.append((each + centre * (chosen + rejected) ** 2).mean())
    return torch.stack(of_each).mean()


def per_ranking(flat, rankings):
    return zip(flat.split([len(ranking["answers"]) for ranking in rankings]), [pairs_of(r["ranks"]) for r in rankings])


def episodes_of(rankings):
    return [Episode(ranking["prompt"], answer) for ranking in rankings for answer in ranking["answers"]]


def right_of(r, pairs):
    return sum((r[better] > r[worse]).item() for better, worse in pairs)


def reward(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    model, run = Model(shape, with_head(first_values(shape, inputs["weights"]), 1, seed)), Run()
    optimizer, size, centre = Optimizer(model, recipe), recipe["batch_size"], recipe.get("centre_coef", 0.0)
    scores = lambda episodes, noise=None: model.scores([e.tokens for e in episodes], noise)[:, 0]

    def normalise():
        """Scores of demonstrations get mean 0 and variance 1: the head is scaled, the last norm's bias moves along it."""
        demonstrations = [Episode(prompt, answer) for prompt, answer in inputs["demonstrations"]]
        with torch.no_grad():
            found = scores(demonstrations)
            head, bias = model.w["score.weight"], model.w["final_norm.bias"]
            std = found.std(unbiased=False)
            head /= std
            bias -= (found.mean() / std) * head[0] / (head**2).sum()
            found = scores(demonstrations)
        assert abs(found.mean()) < 1e-9 and abs(found.std(unbiased=False) - 1) < 1e-9

    def judge():
        rankings = inputs["held_out"]
        with torch.no_grad():
            found = scores(episodes_of(rankings))
        counts = {"by_gap": {}, "by_k": {}}
        losses, bins = [], {}
        for (r, pairs), ranking in zip(per_ranking(found, rankings), rankings):
            if pairs:
                losses.append(reward_loss([(r, pairs)], [ranking], centre).item())
            for better, worse in pairs:
                is_right, difference = float(r[better] > r[worse]), (r[better] - r[worse]).abs()
                gap = ranking["ranks"][worse] - ranking["ranks"][better]
                counts["by_gap"].setdefault(str(gap), []).append(is_right)
                counts["by_k"].setdefault(str(len(r)), []).append(is_right)
                confidence = torch.sigmoid(difference).item()
                bins.setdefault(min(4, int((confidence - 0.5) * 10)), []).append((confidence, is_right))
        all_right = [x for some in counts["by_k"].values() for x in some]
        lens = [float(e.answer_len()) for e in episodes_of(rankings)]
        report = {"loss": np.mean(losses).item(), "pair_accuracy": {"value": np.mean(all_right).item()}}
        report |= {by: {k: {"value": np.mean(v).item()} for k, v in of.items()} for by, of in counts.items()}
        report["calibration"] = [
            {"confidence": np.mean(some, 0)[0].item(), "accuracy": np.mean(some, 0)[1].item(), "n": len(some)}
            for _, some in sorted(bins.items())
        ]
        return report | {"length_correlation": np.corrcoef(found.numpy(), lens)[0, 1].item()}

    if recipe["normalise_before"]:
        normalise()
    else:
        # A drawn head begins small, so that the loss begins at ln 2.
        with torch.no_grad():
            model.w["score.weight"] *= 0.01
    for step in range(1, recipe["steps"] + 1):
        rankings = shuffled(inputs["train"], seed, RANKING_ORDER, (step - 1) * size, size)
        noise = (bits(seed, NOISE["reward"], step), f32(recipe["dropout"]))
        found = list(per_ranking(scores(episodes_of(rankings), noise), rankings))
        loss = reward_loss(found, rankings, centre)
        pairs = sum(len(pairs) for _, pairs in found)
        right = sum(right_of(r, pairs) for r, pairs in found)
        lr = rate(recipe, step)
        norm = optimizer.step(loss, lr)
        if step == recipe["steps"]:
            normalise()
        judged = judge()
        run.metrics.append({
            "loss": loss.item(), "accuracy": right / pairs, "pairs": pairs, "lr": lr, "grad_norm": norm,
            "val_loss": judged["loss"], "val_accuracy": judged["pair_accuracy"]["value"],
        })
        run.states.append({"model": model.summary()})
    return run.golden() | {"judged": judged}


def dpo(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    model, reference = [Model(shape, first_values(shape, inputs["weights"])) for _ in range(2)]
    optimizer, size, beta, run = Optimizer(model, recipe), recipe["batch_size"], recipe["beta"], Run()
    kind, eps, sft_coef = recipe.get("loss", "sigmoid"), recipe.get("label_smoothing", 0.0), recipe.get("sft_coef", 0.0)
    ls = torch.nn.functional.logsigmoid

    def sums(model, rankings, noise=None):
        """The log-probability of every answer."""
        episodes = episodes_of(rankings)
        before, tokens = answer_rows(episodes)
        logprobs = model.log_softmax([e.tokens for e in episodes], noise)[before, tokens]
        return torch.stack([part.sum() for part in logprobs.split([e.answer_len() for e in episodes])])

    def liked(rankings, noise=None):
        """How much every answer is liked, and its log-probability."""
        with torch.no_grad():
            fixed = 0.0 if kind in ("simpo", "orpo") else sums(reference, rankings)
        policy = sums(model, rankings, noise)
        lens = torch.tensor([float(e.answer_len()) for e in episodes_of(rankings)])
        found = (policy - fixed) / (lens if kind in ("ipo", "simpo", "orpo") else 1.0)
        return list(per_ranking(found, rankings)), list(per_ranking(policy, rankings))

    def of_pairs(u, pairs):
        c, r = [torch.stack([u[pair[i]] for pair in pairs]) for i in range(2)]
        if kind == "ipo":
            return (c - r - 1 / (2 * beta)) ** 2
        if kind == "orpo":
            return -beta * ls(torch.log(torch.exp(c) / (1 - torch.exp(c))) - torch.log(torch.exp(r) / (1 - torch.exp(r))))
        x = beta * (c - r) - (recipe["gamma"] if kind == "simpo" else 0.0)
        return -(1 - eps) * ls(x) - eps * ls(-x)

    def loss_of(rankings, found, policy):
        loss = torch.stack([of_pairs(u, pairs).mean() for u, pairs in found if pairs]).mean()
        best = [(p[i], e.answer_len()) for ranking, (p, pairs) in zip(rankings, policy) if pairs
                for i, e in enumerate(episodes_of([ranking])) if ranking["ranks"][i] == min(ranking["ranks"])]
        return loss - sft_coef * sum(p for p, _ in best) / sum(n for _, n in best)

    def evaluate():
        with torch.no_grad():
            found, policy = liked(inputs["held_out"])
            loss = loss_of(inputs["held_out"], found, policy).item()
        right = sum(right_of(u, pairs) for u, pairs in found)
        return {"val_loss": loss, "val_accuracy": right / sum(len(pairs) for _, pairs in found)}

    for step in range(1, recipe["steps"] + 1):
        rankings = shuffled(inputs["train"], seed, RANKING_ORDER, (step - 1) * size, size)
        found, policy = liked(rankings, (bits(seed, NOISE["dpo"], step), f32(recipe["dropout"])))
        loss = loss_of(rankings, found, policy)
        compared = [(beta * u[better].item(), beta * u[worse].item()) for u, pairs in found for better, worse in pairs]
        chosen, rejected = np.mean(compared, 0).tolist()
        lr = rate(recipe, step)
        norm = optimizer.step(loss, lr)
        run.metrics.append({
            "loss": loss.item(), "rewards/chosen": chosen, "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected, "rewards/accuracies": np.mean([c > r for c, r in compared]).item(),
            "lr": lr, "grad_norm": norm,
        } | evaluate())
        run.states.append({"model": model.summary()})
    return run.golden()


def divergence(student, teacher, beta):
    """Of rows of log-probabilities, as Agarwal et al. word it: by KL divergences of distributions."""
    kl = lambda a, b: (a.exp() * (a - b)).sum(-1)
    if beta == 0:
        return kl(teacher, student)
    if beta == 1:
        return kl(student, teacher)
    mixture = torch.log(beta * teacher.exp() + (1 - beta) * student.exp())
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def distil(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    model = Model(shape, first_values(shape, inputs["weights"]))
    teacher = Model(inputs["teacher_shape"], first_values(inputs["teacher_shape"], inputs["teacher_weights"]))
    optimizer, size, run = Optimizer(model, recipe), recipe["batch_size"], Run()
    beta, temperature = f32(recipe["beta"]), f32(recipe["temperature"])
    owns, without_room = 0, 0

    def mean(batch, noise=None):
        tokens = [s["tokens"] for s in batch]
        is_target = torch.tensor([t != NONE for s in batch for t in s["targets"]])
        with torch.no_grad():
            theirs = teacher.log_softmax(tokens, None, temperature)
        ours = model.log_softmax(tokens, noise, temperature)
        if inputs.get("top"):
            # The teacher's likeliest tokens as they are stored, and all others as one outcome.
            theirs, known = theirs.topk(inputs["top"])
            theirs, ours = theirs.float().double(), ours.gather(-1, known)
            theirs, ours = [torch.cat([x, torch.log1p(-x.exp().sum(-1, keepdim=True))], -1) for x in (theirs, ours)]
        return divergence(ours, theirs, beta)[is_target].mean()

    def answered(batch, step):
        """The last answer of each is the student's own, where its prompt leaves room."""
        prompts = []
        for s in batch:
            last = max(i for i, t in enumerate(s["targets"]) if t != NONE)
            while last > 0 and s["targets"][last - 1] != NONE:
                last -= 1
            prompts.append(s["tokens"][: last + 1])
        has_room = [len(p) + recipe["max_tokens"] <= min(shape["context"], inputs["teacher_shape"]["context"]) for p in prompts]
        asked = [p for p, fits in zip(prompts, has_room) if fits]
        sampling_seed = bits(seed, DISTIL_SAMPLING, step)
        episodes = iter(answer(model, asked, inputs["end_tokens"], recipe["max_tokens"], recipe["sampling_temperature"], sampling_seed))
        whole = []
        for s, fits in zip(batch, has_room):
            if fits:
                e = next(episodes)
                s = {"tokens": e.tokens[:-1], "targets": [NONE] * (e.prompt_len - 1) + e.tokens[e.prompt_len :]}
            whole.append(s)
        return whole, has_room.count(False)

    def evaluate():
        with torch.no_grad():
            text = mean_loss(model, [s["tokens"] for s in inputs["val"]], [s["targets"] for s in inputs["val"]])
            return {"val_loss": mean(inputs["val"]).item(), "val_cross_entropy": text.item()}

    before = evaluate()
    for step in range(1, recipe["steps"] + 1):
        batch = shuffled(inputs["train"], inputs["order_seed"], CHAT_ORDER, (step - 1) * size, size)
        if uniform(seed, DISTIL_OWN, step) < recipe["lmbda"]:
            batch, cramped = answered(batch, step)
            owns, without_room = owns + 1, without_room + cramped
        loss = mean(batch, (bits(seed, NOISE["distil"], step), f32(recipe["dropout"])))
        lr = rate(recipe, step)
        norm = optimizer.step(loss, lr)
        run.metrics.append({"loss": loss.item(), "lr": lr, "grad_norm": norm} | evaluate())
        run.states.append({"model": model.summary()})
    return run.golden(before, "val_loss") | {"owns": owns, "without_room": without_room}


def kto(inputs):
    recipe, seed, shape = inputs["recipe"], inputs["seed"], inputs["shape"]
    model, reference = [Model(shape, first_values(shape, inputs["weights"])) for _ in range(2)]
    optimizer, size, beta, run = Optimizer(model, recipe), recipe["batch_size"], recipe["beta"], Run()
    cut, weights = [], {True: recipe["desirable_weight"], False: recipe["undesirable_weight"]}

    def sums(model, episodes, noise=None):
        before, tokens = answer_rows(episodes)
        logprobs = model.log_softmax([e.tokens for e in episodes], noise)[before, tokens]
        return torch.stack([part.sum() for part in logprobs.split([e.answer_len() for e in episodes])])

    def log_ratios(episodes, noise=None):
        with torch.no_grad():
            fixed = sums(reference, episodes)
        return sums(model, episodes, noise) - fixed

    def zero(batch):
        """The answers of a batch, each beside the next prompt that is another; prompts lose their beginnings where both are too long."""
        if recipe["loss"] != "kto":
            return torch.tensor(0.0)
        found = []
        for i, row in enumerate(batch):
            others = [batch[j] for j in [*range(i - 1, -1, -1), *range(len(batch) - 1, i, -1)]]
            answer = next((o["answer"] for o in others if o["prompt"] != row["prompt"]), others[0]["answer"])
            found.append(Episode(row["prompt"][-(shape["context"] - len(answer)) :], answer))
            cut.append(len(row["prompt"]) - found[-1].prompt_len)
        with torch.no_grad():
            return log_ratios(found).mean().clamp(min=0)

    def losses(batch, z, noise=None):
        u = log_ratios([Episode(row["prompt"], row["answer"]) for row in batch], noise)
        each = [weights[row["label"]] * (1 - torch.sigmoid(beta * ((x - z) if row["label"] else (z - x)))) for row, x in zip(batch, u)]
        mean = lambda label: np.mean([beta * x.item() for row, x in zip(batch, u) if row["label"] == label])
        return torch.stack(each).mean(), mean(True), mean(False)

    def evaluate():
        with torch.no_grad():
            loss, good, bad = losses(inputs["held_out"], zero(inputs["held_out"]))
        return {"val_loss": loss.item(), "val_margin": good - bad}

    for step in range(1, recipe["steps"] + 1):
        batch = shuffled(inputs["train"], seed, JUDGED_ORDER, (step - 1) * size, size)
        z = zero(batch)
        loss, good, bad = losses(batch, z, (bits(seed, NOISE["kto"], step), f32(recipe["dropout"])))
        lr = rate(recipe, step)
        norm = optimizer.step(loss, lr)
        figures = {"loss": loss.item(), "rewards/chosen": good, "rewards/rejected": bad, "rewards/margins": good - bad, "lr": lr, "grad_norm": norm}
        run.metrics.append(figures | ({"kl": z.item()} if recipe["loss"] == "kto" else {}) | evaluate())
        run.states.append({"model": model.summary()})
    return run.golden() | {"cut": sum(n > 0 for n in cut)}


def finetune(inputs):
    recipe, seed, shape, classes = inputs["recipe"], inputs["seed"], inputs["shape"], inputs["classes"]
    arrays = with_marks(first_values(shape, inputs["weights"]), inputs["marks"], seed)
    model, run = Model(shape, with_head(arrays, max(1, classes), seed)), Run()
    optimizer, size, form = Optimizer(model, recipe), recipe["batch_size"], inputs["form"]
    warmup = math.ceil(recipe["warmup_frac"] * recipe["steps"])

    def outputs(examples, noise=None, head_noise=None):
        """One for each class, or one for each answer; of two orders the sum."""
        found = model.scores([s for e in examples for s in e["sequences"]], noise, head_noise)
        found = found.split([len(e["sequences"]) for e in examples])
        return [each[:, 0] if form == "multiple-choice" else each.sum(0) for each in found]

    def losses(found, examples):
        if form == "similarity":
            return torch.stack([(out[0] - e["label"]) ** 2 for out, e in zip(found, examples)])
        return torch.stack([-out.log_softmax(0)[int(e["label"])] for out, e in zip(found, examples)])

    def text_loss(examples, noise):
        sequences = [s for e in examples for s in e["sequences"]]
        logprobs = model.logprobs(sequences, [s[1:] + [NONE] for s in sequences], noise)
        return -torch.stack([part.mean() for part in logprobs.split([len(s) - 1 for s in sequences])]).mean()

    def accuracy(found, examples):
        return np.mean([out.argmax().item() == e["label"] for out, e in zip(found, examples)]).item()

    def evaluate():
        examples = inputs["held_out"]
        with torch.no_grad():
            found = outputs(examples)
            figures = {"val_loss": losses(found, examples).mean().item()}
        wanted, told = [e["label"] for e in examples], [out.argmax().item() for out in found]
        if form == "similarity":
            return figures | {"val_pearson": np.corrcoef(wanted, [out[0].item() for out in found])[0, 1].item()}
        figures["val_accuracy"] = accuracy(found, examples)
        if form == "classification":
            a, b = np.eye(classes)[wanted], np.eye(classes)[told]
            f1 = [2 * (a[:, k] * b[:, k]).sum() / max(1, (a[:, k] + b[:, k]).sum()) for k in range(classes)]
            covariance = lambda x, y: ((x - x.mean(0)) * (y - y.mean(0))).sum()
            spread = math.sqrt(covariance(a, a) * covariance(b, b))
            figures |= {"val_f1": np.mean(f1).item(), "val_matthews": covariance(a, b).item() / spread if spread else 0.0}
        return figures

    for step in range(1, recipe["steps"] + 1):
        examples = shuffled(inputs["train"], seed, LABEL_ORDER, (step - 1) * size, size)
        noise = (bits(seed, NOISE["finetune"], step), f32(recipe["dropout"]))
        head_noise = (bits(seed, HEAD_NOISE, step), f32(recipe["head_dropout"]))
        found = outputs(examples, noise, head_noise)
        loss, text = losses(found, examples).mean(), text_loss(examples, noise)
        lr = rate(recipe, step, warmup)
        norm = optimizer.step(loss + recipe["aux_lm"] * text, lr)
        figures = {"loss": loss.item(), "aux/loss": text.item(), "lr": lr, "grad_norm": norm}
        if form != "similarity":
            figures["accuracy"] = accuracy(found, examples)
        run.metrics.append(figures | evaluate())
        run.states.append({"model": model.summary()})
    return run.golden()


def candidates(inputs):
    """Several answers to each prompt, none of which draws another's numbers."""
    model, recipe = Model(inputs["shape"], first_values(inputs["shape"], inputs["weights"])), inputs["recipe"]
    prompts = [prompt for prompt in inputs["prompts"] for _ in range(recipe["k"])]
    ends, temperature = inputs["end_tokens"], recipe["temperature"]
    answers = answer(model, prompts, ends, recipe["max_tokens"], temperature, inputs["seed"])
    texts = [e.tokens[e.prompt_len : len(e.tokens) - e.ended] for e in answers]
    return {"answers": [texts[i : i + recipe["k"]] for i in range(0, len(texts), recipe["k"])]}


STAGES = {"pretrain": pretrain, "finetune": finetune, "sft": sft, "reward": reward, "dpo": dpo, "kto": kto, "distil": distil, "ppo": ppo, "grpo": grpo}
STAGES["candidates"] = candidates


def main():
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
        inputs = json.loads(path.read_text())["inputs"]
        golden = STAGES[path.stem.split("-")[0]](inputs)
        parts = {"versions": {"numpy": np.__version__, "torch": torch.__version__}, "inputs": inputs, "golden": golden}
        path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in parts.items()) + "\n}\n")
        print(path, len(path.read_text()), "bytes")


if __name__ == "__main__":
    main()

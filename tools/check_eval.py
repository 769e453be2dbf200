"""Holds the items that `mynah eval --out` wrote against transformers: every log-likelihood from the text alone.

    check_eval.py MODEL_DIRECTORY ITEMS.jsonl
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tok = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
ids = lambda text: tok(text)["input_ids"]


def logprobs(prompt, answers):
    """Of each ` answer` after `prompt`: the tokens of both together beyond those of the first alone; and how many they are."""
    before, wholes = len(ids(prompt)), [ids(f"{prompt} {answer}") for answer in answers]
    # What all have in common is read once.
    shared = next((i for i in range(before - 1) if len({whole[i] for whole in wholes}) > 1), before - 1)
    longest = max(map(len, wholes))
    rest = torch.tensor([whole[shared:] + [0] * (longest - len(whole)) for whole in wholes])
    with torch.no_grad():
        cache = None
        if shared:
            cache = model(torch.tensor([wholes[0][:shared]]), use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(wholes))
        logits = model(rest, cache=cache).logits
    told = torch.log_softmax(logits, -1)
    sums = [
        sum(told[i, at - 1 - shared, whole[at]].item() for at in range(before, len(whole)))
        for i, whole in enumerate(wholes)
    ]
    return sums, [len(whole) - before for whole in wholes]


worst, alone, right, figures = 0.0, {}, {}, {}
for line in open(sys.argv[2]):
    item = json.loads(line)
    sums, lens = logprobs(item["prompt"], item["answers"])
    for answer in item["answers"]:
        if answer not in alone:
            alone[answer] = logprobs("Answer:", [answer])[0][0]
    free = [alone[answer] for answer in item["answers"]]
    for theirs, ours in [*zip(sums, item["logprobs"]), *zip(free, item["unconditional"])]:
        worst = max(worst, abs(theirs - ours))
    assert list(lens) == item["tokens"], item
    rules = {
        "sum": sums,
        "per-token": [s / n for s, n in zip(sums, lens)],
        "normalised": [s - f for s, f in zip(sums, free)],
    }
    for rule, values in rules.items():
        key = (item["task"], item["shots"], rule)
        best = max(range(len(values)), key=lambda i: values[i])
        mine = item["told"][rule]
        n, theirs, ours = figures.get(key, (0, 0, 0))
        figures[key] = (n + 1, theirs + (best == item["label"]), ours + (mine == item["label"]))
for (task, shots, rule), (n, theirs, ours) in figures.items():
    print(f"{task} {shots} shots, {rule}: transformers {theirs / n:.4f}, mynah {ours / n:.4f} of {n}")
print(f"log-likelihoods differ by {worst:.1e} at most")
assert worst <= 1e-3, worst

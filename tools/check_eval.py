"""Holds the items that `mynah eval --out` wrote against transformers: every log-likelihood from the text alone.

    check_eval.py MODEL_DIRECTORY ITEMS.jsonl
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tok = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
ids = lambda text: tok(text, add_special_tokens=False)["input_ids"]


def logprob(prompt, answer):
    """Of ` answer` after `prompt`: the tokens of both together beyond those of the first alone."""
    before, whole = len(ids(prompt)), ids(f"{prompt} {answer}")
    with torch.no_grad():
        logits = model(torch.tensor([whole])).logits[0, before - 1 : -1]
    of = torch.log_softmax(logits, -1)[torch.arange(len(whole) - before), torch.tensor(whole[before:])]
    return of.sum().item(), len(whole) - before


worst, alone, right, figures = 0.0, {}, {}, {}
for line in open(sys.argv[2]):
    item = json.loads(line)
    sums, lens = zip(*(logprob(item["prompt"], answer) for answer in item["answers"]))
    for answer in item["answers"]:
        alone.setdefault(answer, logprob("Answer:", answer)[0])
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

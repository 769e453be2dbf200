"""Takes the steps of a continued pretraining in PyTorch and compares loss and validation with what mynah wrote.

    python tools/check_continued.py MODEL BATCHES.u32 RUN [--tolerance 0.01]

MODEL is the directory that the run began from, BATCHES what the example `batches` wrote for the run's shards, context,
sequences a step, steps and seed, RUN the run directory. PyTorch works in float32 with its own AdamW; the recipe is read
from RUN/config.toml. The run must have no dropout. Exit code 1 when a step's loss differs by more than the tolerance.
"""

import argparse
import json
import math
import pathlib
import sys
import tomllib

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM


def learning_rate(s, step):
    """Linear warm-up, then a cosine to `min_lr_frac` of the peak; `step` counts from 1."""
    if step <= s["warmup_steps"]:
        return s["lr"] * step / s["warmup_steps"]
    progress = (step - 1 - s["warmup_steps"]) / max(1, s["steps"] - s["warmup_steps"])
    return s["lr"] * (s["min_lr_frac"] + (1 - s["min_lr_frac"]) * 0.5 * (1 + math.cos(math.pi * progress)))


def loss_of(model, window):
    logits = model(window[:, :-1]).logits
    return cross_entropy(logits.flatten(0, 1).float(), window[:, 1:].flatten())


def validation(model, shards, count, seq_len):
    """Mean loss over windows evenly spread over the validation split."""
    ids = np.concatenate([np.load(path) for path in sorted(shards.glob("val-*.npy"))])
    starts = np.unique(np.linspace(0, len(ids) - seq_len - 2, count).astype(int))
    with torch.no_grad():
        losses = [loss_of(model, torch.tensor(ids[s : s + seq_len + 1].astype(np.int64))[None]).item() for s in starts]
    return sum(losses) / len(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("batches", type=pathlib.Path)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=0.01)
    arguments = parser.parse_args()
    recipe = tomllib.loads((arguments.run / "config.toml").read_text())
    s = recipe["settings"]
    sequences = s["batch_tokens"] // s["seq_len"]
    batches = np.fromfile(arguments.batches, "<u4").reshape(s["steps"], sequences, s["seq_len"] + 1)
    metrics = [json.loads(line) for line in (arguments.run / "metrics.jsonl").open()]
    shards = pathlib.Path(recipe["inputs"]["data"]["path"])

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    model.train()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": s["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(s["beta1"], s["beta2"]), eps=s["eps"])
    print(f"before: validation {validation(model, shards, s['eval_windows'], s['seq_len']):.4f}", flush=True)
    worst = 0.0
    for ours, batch in zip(metrics, batches):
        optimizer.zero_grad()
        loss = 0.0
        for window in batch:
            part = loss_of(model, torch.tensor(window.astype(np.int64))[None]) / sequences
            part.backward()
            loss += part.item()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(s, ours["step"])
        torch.nn.utils.clip_grad_norm_(model.parameters(), s["grad_clip"] or math.inf)
        optimizer.step()
        difference = abs(ours["loss"] / loss - 1)
        worst = max(worst, difference)
        line = f"step {ours['step']:4}  PyTorch {loss:.4f}  mynah {ours['loss']:.4f}  {100 * difference:.3f} %"
        if "val_loss" in ours:
            theirs = validation(model, shards, s["eval_windows"], s["seq_len"])
            worst = max(worst, abs(ours["val_loss"] / theirs - 1))
            line += f"   validation: PyTorch {theirs:.4f}  mynah {ours['val_loss']:.4f}"
        print(line, flush=True)
    print(f"largest difference {100 * worst:.3f} %")
    sys.exit(worst > arguments.tolerance)


if __name__ == "__main__":
    main()

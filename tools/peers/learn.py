"""What PyTorch learns from token shards that `mynah tokenize` wrote, beside `mynah pretrain`:

    python tools/peers/learn.py --data tokens --steps 400 --lr 1e-3 --precision bf16
"""

import argparse
import math
from pathlib import Path

import numpy
import torch
from gpt import SHAPES, Gpt, adamw, result, step

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, type=Path)
parser.add_argument("--preset", default="baby", choices=SHAPES)
parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--sequences", type=int, default=16)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--warmup", type=int, default=30)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(options.seed)
draw = numpy.random.default_rng(options.seed)
shape = SHAPES[options.preset]
positions = shape[3]


def shards(split):
    files = sorted(options.data.glob(f"{split}-*.npy"))
    return numpy.concatenate([numpy.load(file) for file in files]).astype(numpy.int64)


def windows(tokens, starts):
    rows = torch.from_numpy(numpy.stack([tokens[start : start + positions + 1] for start in starts]))
    return rows[:, :-1], rows[:, 1:]


def rate(number):
    """Warm-up in a line, then a cosine to a tenth."""
    if number < options.warmup:
        return options.lr * (number + 1) / options.warmup
    done = (number - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


train, val = shards("train"), shards("val")
model = Gpt(*shape)
optimizer = adamw(model, options.lr)
for number in range(options.steps):
    for group in optimizer.param_groups:
        group["lr"] = rate(number)
    starts = draw.integers(0, len(train) - positions, options.sequences)
    step(model, model, optimizer, windows(train, starts), options.precision)
held_out = numpy.linspace(0, len(val) - positions - 1, 64).astype(int)
with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.precision == "bf16"):
    losses = [model(*windows(val, held_out[i : i + 16])).item() for i in range(0, 64, 16)]
result(peer="PyTorch learning", **{**vars(options), "data": str(options.data)}, val_loss=sum(losses) / len(losses))

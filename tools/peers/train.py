"""Tokens a second of PyTorch's training steps, beside `mynah bench train --preset baby`:

    python tools/peers/train.py --preset baby --precision f32 --compile
"""

import argparse
import statistics

import torch
from gpt import SEQUENCES, SHAPES, Gpt, adamw, result, step

parser = argparse.ArgumentParser()
parser.add_argument("--preset", default="baby", choices=SHAPES)
parser.add_argument("--precision", default="f32", choices=["f32", "bf16"], help="bf16 is autocast")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(0)
shape = SHAPES[options.preset]
sequences, positions, vocabulary = SEQUENCES[options.preset], shape[3], shape[4]
model = Gpt(*shape)
loss_of = torch.compile(model) if options.compile else model
optimizer = adamw(model, 3e-4)
batch = [torch.randint(vocabulary, (sequences, positions)) for _ in range(2)]
# The first two compile and allocate.
secs = [step(loss_of, model, optimizer, batch, options.precision)[0] for _ in range(2 + options.steps)][2:]
speed = sequences * positions / statistics.median(secs)
result(peer="PyTorch training", **vars(options), tokens_per_sec=speed, step_secs=secs)

"""Training steps of compiled PyTorch on a GPU, from the very weights and batches of `mynah bench train --device cuda`, so that
losses can be put side by side:

    mynah bench train --preset gpt2 --device cuda --batch-tokens 32768 --steps 20 --json
    python tools/peers/gpu.py --sequences 32 --steps 20
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from gpt import SHAPES, Gpt, adamw

parser = argparse.ArgumentParser()
parser.add_argument("--preset", default="gpt2", choices=SHAPES)
parser.add_argument("--sequences", type=int, default=32)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--profile", action="store_true", help="where the time of another step goes")
parser.add_argument("--eager", action="store_true", help="without torch.compile")
options = parser.parse_args()

GOLDEN, MASK = 0x9E3779B97F4A7C15, 2**64 - 1


def mix(z):
    """SplitMix64's finaliser (Steele, Lea & Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(seed, stream, index):
    """64 random bits for each index, as mynah's kernels define them."""
    one = lambda x: np.array([x & MASK], dtype=np.uint64)
    key = mix(one(seed + GOLDEN) ^ mix(one(stream + 2 * GOLDEN)))
    return mix(key ^ mix(index * np.uint64(GOLDEN) + key))


def normal(seed, stream, count):
    """By Box and Muller (1958)."""
    out = np.empty(count, dtype=np.float32)
    for first in range(0, count, 1 << 22):
        i = np.arange(first, min(first + (1 << 22), count), dtype=np.uint64)
        unit = lambda j: ((bits(seed, stream, j) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
        u, v = unit(i * np.uint64(2)), unit(i * np.uint64(2) + np.uint64(1))
        out[first : first + len(i)] = np.sqrt(-2.0 * np.log(u)) * np.cos(2 * np.pi * v)
    return out


def below(seed, stream, count, n):
    """The high half of a 128-bit product, for n below 2^32."""
    x = bits(seed, stream, np.arange(count, dtype=np.uint64))
    low = (x & np.uint64(0xFFFFFFFF)) * np.uint64(n) >> np.uint64(32)
    return ((x >> np.uint64(32)) * np.uint64(n) + low) >> np.uint64(32)


def window(batch, sequence, positions, vocabulary):
    stream = batch * options.sequences + sequence
    return torch.from_numpy(below(0, stream, positions + 1, vocabulary).astype(np.int64))


def leaves(model):
    """In the order in which mynah numbers its arrays."""
    yield from [model.wte.weight, model.wpe.weight]
    for b in model.blocks:
        for layer in [b.norm1, b.qkv, b.attn_out, b.norm2, b.up, b.down]:
            yield from [layer.weight, layer.bias]
    yield from [model.norm.weight, model.norm.bias]


np.seterr(over="ignore")
shape = SHAPES[options.preset]
layers, positions, vocabulary = shape[0], shape[3], shape[4]
model = Gpt(*shape).cuda()
residual = {id(w) for b in model.blocks for w in (b.attn_out.weight, b.down.weight)}
with torch.no_grad():
    for number, leaf in enumerate(leaves(model), 1):
        if leaf.dim() == 2:
            std = 0.02 / (2 * layers) ** 0.5 if id(leaf) in residual else 0.02
            leaf.copy_(torch.from_numpy(normal(0, number, leaf.numel()).reshape(leaf.shape)) * std)
loss_of = model if options.eager else torch.compile(model)
optimizer = adamw(model, 3e-4)
batches = []
for batch in range(8):
    rows = torch.stack([window(batch, i, positions, vocabulary) for i in range(options.sequences)]).cuda()
    batches.append((rows[:, :-1].contiguous(), rows[:, 1:].contiguous()))
losses, secs = [], []


def step(batch):
    torch.cuda.synchronize()
    began = time.perf_counter()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = loss_of(*batches[batch % 8])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    losses.append(loss.item())
    secs.append(time.perf_counter() - began)


# The first two compile and allocate.
for number in range(2 + options.steps):
    step(number)
secs = secs[2:]
if options.profile:
    timed, told = list(secs), list(losses)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step(0)
    print(profile.key_averages().table(sort_by="cuda_time_total", row_limit=30, max_name_column_width=90))
    secs, losses = timed, told
tokens = options.sequences * positions
print(json.dumps({
    "peer": "PyTorch training on a GPU", **vars(options), "torch": torch.__version__, "device": torch.cuda.get_device_name(),
    "step_secs_median": statistics.median(secs), "step_secs_min": min(secs), "step_secs_max": max(secs),
    "tokens_per_sec": tokens / statistics.median(secs), "peak_gpu_bytes": torch.cuda.max_memory_allocated(), "losses": losses,
}), flush=True)

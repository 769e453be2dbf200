"""Tokens a second of `transformers`' greedy `generate`, beside `mynah bench decode --preset baby`:

    python tools/peers/generate.py --preset baby --precision f32 --batch 1
"""

import argparse
import statistics
import time

import torch
import transformers
from gpt import SHAPES, result

parser = argparse.ArgumentParser()
parser.add_argument("--preset", default="baby", choices=SHAPES)
parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--prompt", type=int, default=128)
parser.add_argument("--new", type=int, default=128)
parser.add_argument("--repetitions", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(0)
layers, heads, width, positions, vocabulary = SHAPES[options.preset]
config = transformers.GPT2Config(
    n_layer=layers, n_head=heads, n_embd=width, n_positions=positions, vocab_size=vocabulary, bos_token_id=0, eos_token_id=0
)
dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
model = transformers.GPT2LMHeadModel(config).to(dtype).eval()
prompts = torch.randint(1, vocabulary, (options.batch, options.prompt))


def generate():
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=options.new,
            min_new_tokens=options.new,
            do_sample=False,
            pad_token_id=0,
        )
    return time.perf_counter() - began


generate()
secs = [generate() for _ in range(options.repetitions)]
speed = options.batch * options.new / statistics.median(secs)
result(peer="transformers decoding", **vars(options), tokens_per_sec=speed, secs=secs, transformers=transformers.__version__)

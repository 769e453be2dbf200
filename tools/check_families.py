"""Takes every family of models through transformers and mynah, both ways, and compares logits and greedy continuations.

    cargo build --release && cargo build --release -p mynah-gpt --example logits
    python tools/check_families.py --tokens TOKENS [--work DIR] [--target target/release]

* A small random model of every class, in one file or several and in every number format, is made by transformers and read
  by mynah.
* A small model of every family is trained for ten steps by `mynah pretrain` on TOKENS (a directory that `mynah tokenize`
  made, with a vocabulary of 300 tokens) and read by transformers; some begin from a model that transformers made.

Then check_checkpoint.py compares: logits may differ by 1e-4, 64 greedy tokens made with a cache not at all. Exit code 1 when
something differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from check_checkpoint import check
from transformers import (
    AutoModelForCausalLM, GPT2Config, GPTNeoConfig, LlamaConfig, OpenAIGPTConfig, Qwen2Config, Qwen3Config,
)

CONTEXT, VOCAB = 128, 300
PROMPT = 48
MODERN = dict(
    vocab_size=VOCAB, hidden_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
    intermediate_size=200, max_position_embeddings=CONTEXT,
)
GPT = dict(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=96, n_layer=3, n_head=6)
NEO = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=96, num_heads=6)


def stretched(**parameters):
    return LlamaConfig(**MODERN, rope_parameters={"rope_theta": 1e4} | parameters)


MADE_BY_TRANSFORMERS = {
    "gpt1": OpenAIGPTConfig(**GPT),
    "gpt2": GPT2Config(**GPT, n_inner=200),
    "gpt2, untied": GPT2Config(**GPT, tie_word_embeddings=False),
    "gpt_neo, bands of 20": GPTNeoConfig(**NEO, num_layers=4, attention_types=[[["global", "local"], 2]], window_size=20),
    "gpt_neo, no bands": GPTNeoConfig(**NEO, num_layers=3, attention_types=[[["global"], 3]]),
    "llama": LlamaConfig(**MODERN),
    "llama, tied, wide heads": LlamaConfig(**MODERN, head_dim=32, tie_word_embeddings=True),
    "llama, linear": stretched(rope_type="linear", factor=4.0),
    "llama, llama3": stretched(
        rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32,
    ),
    "llama, yarn": stretched(rope_type="yarn", factor=4.0, original_max_position_embeddings=32),
    "qwen2": Qwen2Config(**MODERN),
    "qwen3": Qwen3Config(**MODERN, head_dim=24),
    "qwen3, tied": Qwen3Config(**MODERN, head_dim=24, tie_word_embeddings=True),
}

MADE_BY_MYNAH = {
    "gpt1": ["family=gpt1"],
    "gpt2": ["family=gpt2"],
    "gpt3": ["family=gpt3", "band=10", "n_layer=3"],
    "gpt3, heads of 8": ["family=gpt3", "n_head=8"],
    "llama": ["family=modern", "n_kv_head=1"],
    "llama, untied": ["family=modern", "tied_head=false", "rope_theta=5e5"],
    "qwen3": ["family=modern", "n_kv_head=1", "qk_norm=true"],
}

# Those of MADE_BY_TRANSFORMERS that mynah trains further.
CONTINUED = ["gpt_neo, bands of 20", "llama, yarn", "qwen2"]


def make(config, dtype, directory, generator):
    """A model whose every array is random and far from its usual first value, saved by transformers."""
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = name.endswith("weight") and parameter.dim() == 1
            parameter.copy_(1 + 0.3 * noise if is_gain else 0.1 * noise)
    model.to(dtype).save_pretrained(directory, max_shard_size="200KB" if dtype != torch.float16 else "5GB")
    return len(list(directory.glob("*.safetensors")))


def ours(target, directory, generator):
    """What mynah computes for a model directory."""
    prompt = " ".join(str(i) for i in torch.randint(VOCAB, (PROMPT,), generator=generator).tolist())
    # A tokenizer would read the ids as a text.
    bare = directory / "bare"
    bare.mkdir()
    for file in [directory / "config.json", *directory.glob("*.safetensors*")]:
        if file.name != "optimizer.safetensors":
            (bare / file.name).symlink_to(file.resolve())
    command = [target / "examples" / "logits", bare, prompt]
    return bare, json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--target", type=pathlib.Path, default=pathlib.Path("target/release"))
    args = parser.parse_args()
    work = args.work or pathlib.Path(tempfile.mkdtemp())
    generator = torch.Generator().manual_seed(1)
    failed = []

    def compare(name, directory):
        bare, computed = ours(args.target, directory, generator)
        assert len(computed["completion"]) == 64, "the context is too short for 64 tokens"
        if not check(bare, computed, 1e-4):
            failed.append(name)

    def trained(number, name, arguments, changes):
        dtype, run = ["f32", "bf16", "f16"][number % 3], work / f"mynah-{number}"
        command = [args.target / "mynah", "pretrain", "--data", args.tokens, "--out", run, *arguments]
        command += ["--steps", "10", "--batch-tokens", "1024", "--lr", "1e-2", "--dtype", dtype, "--quiet"]
        command += [word for change in changes for word in ("--set", change)]
        subprocess.run(command, check=True)
        print(f"\n{name}: trained by mynah, {dtype}")
        compare(name, run / "checkpoints" / "step-000010")

    dtypes = [torch.float32, torch.float16, torch.bfloat16]
    made = {}
    for number, (name, config) in enumerate(MADE_BY_TRANSFORMERS.items()):
        dtype, made[name] = dtypes[number % 3], work / f"transformers-{number}"
        files = make(config, dtype, made[name], generator)
        print(f"\n{name}: made by transformers, {files} files, {dtype}")
        compare(name, made[name])
    for number, (name, changes) in enumerate(MADE_BY_MYNAH.items()):
        usual = [f"seq_len={CONTEXT}", "n_layer=2", "warmup_steps=2"]
        trained(number, name, ["--preset", "tiny"], usual + changes)
    for number, name in enumerate(CONTINUED, len(MADE_BY_MYNAH)):
        trained(number, f"{name}, trained further", ["--init", made[name] / "bare"], ["warmup_steps=2"])
    print("\nall agree" if not failed else f"\nDIFFER: {', '.join(failed)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Writes the golden values of every family: what PyTorch and transformers compute for tiny random models.

    python tools/golden_models.py [--out crates/lm/tests/golden] [FAMILY …]

For each of gpt1, gpt2, gpt_neo, llama, qwen2, qwen3 two things come out:

* `FAMILY-tiny/`: the model as transformers saves it (`config.json`, `model.safetensors`, Conv1D layout and all);
* `FAMILY.safetensors`: the same weights under mynah's names and in mynah's layout (`[d_out, d_in]`; queries, keys and values
  in one matrix, gate and up in one), so that tests of the model need no loader, and what PyTorch computes from them:

    weight.NAME  grad.NAME               initial weights, gradients of `loss`
    tokens  targets                      int32 [2, 16]; every target counts
    logits  loss                         [2, 16, vocab] and [1] (mean cross entropy in nats)
    curve.tokens  curve.targets          int32 [10, 2, 16]: one batch a step
    curve.loss  curve.grad_norm          [10]: of each step; before the update and before clipping
    greedy.prompt  greedy.tokens         int32 [4] and [12]: the most likely continuation

And for the ways of stretching rotary positions, with the weights of llama at positions beyond the original context:

* `rope.json`: a `config.json` for each way;
* `rope.safetensors`: `tokens` int32 [40] and `logits.WAY` [40, vocab].

Everything is computed in float64 from weights that are exact in float32, then rounded once: what a test sees is its own
error, not PyTorch's. (The angles of rotary positions are float32, as transformers computes them.) Weights are far from
their usual initial values, so that a wrong bias, norm or scale shows.

The gradient of a key's bias is zero in exact arithmetic where positions are learned (softmax does not see a constant), so
AdamW divides rounding noise by rounding noise there: the loss does not see it either.

GPT-Neo does not divide scores by √head_dim. mynah does, so its queries are √head_dim times GPT-Neo's; what is trained
here, and whose gradients are written, are mynah's.
"""

import argparse
import json
import math
import pathlib
from unittest import mock

import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize
from transformers import (
    AutoModelForCausalLM, GPT2Config, GPTNeoConfig, LlamaConfig, OpenAIGPTConfig, Qwen2Config, Qwen3Config,
)

STEPS, WARMUP, LR, MIN_LR_FRAC, CLIP, WEIGHT_DECAY = 10, 3, 1e-2, 0.1, 1.0, 0.1
BATCH, CONTEXT, SEED = 2, 16, 20240613

SPECIAL = dict(bos_token_id=40, eos_token_id=40)
NO_DROPOUT = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
LLAMA = dict(
    vocab_size=41, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    intermediate_size=28, **SPECIAL,
)

CONFIGS = {
    "gpt1": OpenAIGPTConfig(vocab_size=41, n_positions=CONTEXT, n_embd=12, n_layer=2, n_head=3, **NO_DROPOUT, **SPECIAL),
    "gpt2": GPT2Config(
        vocab_size=67, n_positions=CONTEXT, n_embd=24, n_layer=2, n_head=3, bos_token_id=66, eos_token_id=66, **NO_DROPOUT,
    ),
    # Three layers, so that the turns end with a global one; bands shorter than the context; heads of 8, whose root is
    # not a whole number.
    "gpt_neo": GPTNeoConfig(
        vocab_size=41, max_position_embeddings=CONTEXT, hidden_size=16, num_layers=3, num_heads=2, intermediate_size=20,
        attention_types=[[["global", "local"], 1], [["global"], 1]], window_size=5, **SPECIAL,
    ),
    # Heads wider than d_model / n_head; a head of its own.
    "llama": LlamaConfig(**LLAMA, max_position_embeddings=CONTEXT),
    "qwen2": Qwen2Config(
        vocab_size=41, hidden_size=24, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=20, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **SPECIAL,
    ),
    "qwen3": Qwen3Config(
        vocab_size=41, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=6,
        intermediate_size=20, max_position_embeddings=CONTEXT, tie_word_embeddings=True, **SPECIAL,
    ),
}

ROPES = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3", "factor": 3.0, "low_freq_factor": 0.25, "high_freq_factor": 2.0,
        "original_max_position_embeddings": CONTEXT,
    },
    "yarn": {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": CONTEXT},
    "yarn_magnitudes": {
        "rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": CONTEXT, "beta_fast": 2.0,
        "beta_slow": 0.1, "mscale": 0.7, "mscale_all_dim": 2.0, "truncate": False,
    },
    "yarn_attention": {
        "rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": CONTEXT, "beta_fast": 1.5,
        "beta_slow": 0.1, "attention_factor": 1.25,
    },
}
ROPE_CONTEXT = 40

# mynah's leaf → the leaves of transformers whose rows follow one another; those of a Conv1D are marked with ᵀ.
NORMS = {"norm1": ["ln_1"], "norm2": ["ln_2"]}
MLP = {"mlp_up": ["mlp.c_fc"], "mlp_down": ["mlp.c_proj"]}
CONV1D = NORMS | {
    "qkv": ["attn.c_attnᵀ"], "attn_out": ["attn.c_projᵀ"], "mlp_up": ["mlp.c_fcᵀ"], "mlp_down": ["mlp.c_projᵀ"],
}
MODERN = {
    "norm1": ["input_layernorm"], "qkv": [f"self_attn.{x}_proj" for x in "qkv"], "q_norm": ["self_attn.q_norm"],
    "k_norm": ["self_attn.k_norm"], "attn_out": ["self_attn.o_proj"], "norm2": ["post_attention_layernorm"],
    "mlp_up": ["mlp.gate_proj", "mlp.up_proj"], "mlp_down": ["mlp.down_proj"],
}
MODERN_REST = {"wte": "model.embed_tokens", "final_norm": "model.norm"}
GPT_REST = {"wte": "transformer.wte", "wpe": "transformer.wpe", "final_norm": "transformer.ln_f"}
NAMES = {
    "gpt1": ("transformer.h", CONV1D, {"wte": "transformer.tokens_embed", "wpe": "transformer.positions_embed"}),
    "gpt2": ("transformer.h", CONV1D, GPT_REST),
    "gpt_neo": (
        "transformer.h",
        NORMS | MLP | {"qkv": [f"attn.attention.{x}_proj" for x in "qkv"], "attn_out": ["attn.attention.out_proj"]},
        GPT_REST,
    ),
    "llama": ("model.layers", MODERN, MODERN_REST),
    "qwen2": ("model.layers", MODERN, MODERN_REST),
    "qwen3": ("model.layers", MODERN, MODERN_REST),
}
# Leaves that are an array and not a layer of weight and bias.
BARE = {"wte", "wpe", "lm_head", "q_norm", "k_norm"}


class Divided(torch.nn.Module):
    """A matrix that is what is trained, divided by a number."""

    def __init__(self, divisor):
        super().__init__()
        self.divisor = divisor

    def forward(self, original):
        return original / self.divisor

    def right_inverse(self, matrix):
        # As a reader of the file does it, in float32.
        return (matrix.float() * torch.tensor(self.divisor).float()).double()


def random_model(config, generator):
    """A model whose every array is random and far from its usual first value."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = name.endswith("weight") and parameter.dim() == 1
            # Scores that nothing divides would be so far apart that bfloat16 could not follow.
            unscaled = config.model_type == "gpt_neo" and name.endswith("q_proj.weight")
            parameter.copy_(1 + 0.3 * noise if is_gain else (0.09 if unscaled else 0.25) * noise)
    return model


def in_float64():
    """transformers computes norms, softmax and GPT-Neo's scores in float32, whatever the model is in; here they follow it."""
    return mock.patch.object(torch, "float32", torch.float64)


def exact(model, family):
    """The model in float64, with mynah's queries as what is trained."""
    model = model.double().eval()
    if family == "gpt_neo":
        for block in model.transformer.h:
            attention = block.attn.attention
            divided = Divided(math.sqrt(attention.head_dim))
            parametrize.register_parametrization(attention.q_proj, "weight", divided, unsafe=True)
    return model


def ours(family, tensors):
    """Arrays under transformers' names → the same under mynah's names and in mynah's layout."""
    prefix, block, rest = NAMES[family]
    tensors = {name.replace("parametrizations.weight.original", "weight"): value for name, value in tensors.items()}
    named, taken = {}, 0

    def take(leaf, theirs):
        nonlocal taken
        for part in ("weight", "bias"):
            found = [tensors.get(f"{name.removesuffix('ᵀ')}.{part}") for name in theirs]
            if any(value is None for value in found):
                continue
            taken += len(found)
            if part == "weight" and theirs[0].endswith("ᵀ"):
                found = [value.T for value in found]
            bare = leaf.split(".")[-1] in BARE
            named[leaf if bare else f"{leaf}.{part}"] = torch.cat(found)

    for leaf, theirs in (rest | {"lm_head": "lm_head"}).items():
        take(leaf, [theirs])
    for i in range(1 + max(int(name.split(".")[2]) for name in tensors if name.startswith(prefix))):
        for leaf, theirs in block.items():
            take(f"blocks.{i}.{leaf}", [f"{prefix}.{i}.{name}" for name in theirs])
    assert taken == len(tensors), "a parameter has no name of ours"
    return named


def parameters(model, family):
    return ours(family, {name: p.detach().clone() for name, p in model.named_parameters()})


def gradients(model, family):
    return ours(family, {name: p.grad.clone() for name, p in model.named_parameters()})


def learning_rate(step):
    """Linear warm-up over the first steps, then a cosine from LR to a tenth of it; `step` counts from 0."""
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    progress = (step - WARMUP) / (STEPS - WARMUP)
    return LR * (MIN_LR_FRAC + (1 - MIN_LR_FRAC) * 0.5 * (1 + math.cos(math.pi * progress)))


def batch_loss(model, tokens, targets):
    logits = model(tokens).logits
    return logits, cross_entropy(logits.flatten(0, 1), targets.flatten())


def train(model, batches):
    """Ten steps of AdamW with clipping; returns losses and norms."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    curve = {"loss": [], "grad_norm": []}
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad()
        _, loss = batch_loss(model, batch[:, :-1], batch[:, 1:])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        for key, value in (("loss", loss.item()), ("grad_norm", norm.item())):
            curve[key].append(value)
    return {key: torch.tensor(values, dtype=torch.float64) for key, values in curve.items()}


def greedy(model, prompt):
    """The most likely tokens after the prompt, up to the end of the context, and the smallest lead of a winner."""
    tokens, lead = prompt.tolist(), math.inf
    with torch.no_grad():
        while len(tokens) < CONTEXT:
            best = model(torch.tensor([tokens])).logits[0, -1].topk(2)
            lead = min(lead, (best.values[0] - best.values[1]).item())
            tokens.append(best.indices[0].item())
    return torch.tensor(tokens[len(prompt):]), lead


def write(golden, path):
    golden = {
        name: value.to(torch.float if value.is_floating_point() else torch.int32).contiguous().clone()
        for name, value in golden.items()
    }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    recipe = {"seed": SEED, "lr": LR, "warmup_steps": WARMUP, "min_lr_frac": MIN_LR_FRAC, "grad_clip": CLIP,
              "weight_decay": WEIGHT_DECAY, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}
    save_file(golden, path, {key: str(value) for key, value in (versions | recipe).items()})


def write_family(family, out):
    generator = torch.Generator().manual_seed(SEED)
    model = random_model(CONFIGS[family], generator)
    model.save_pretrained(out / f"{family}-tiny")
    model = exact(model, family)
    with in_float64():
        write(golden_values(model, family, generator), out / f"{family}.safetensors")


def golden_values(model, family, generator):
    golden = {f"weight.{name}": value for name, value in parameters(model, family).items()}

    # The last dimension has one token more than the context: inputs and, shifted by one, targets.
    batches = torch.randint(model.config.vocab_size, (1 + STEPS, BATCH, CONTEXT + 1), generator=generator)
    logits, loss = batch_loss(model, batches[0, :, :-1], batches[0, :, 1:])
    loss.backward()
    golden |= {"tokens": batches[0, :, :-1], "targets": batches[0, :, 1:]}
    golden |= {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
    golden |= {f"grad.{name}": value for name, value in gradients(model, family).items()}

    prompt = batches[0, 0, :4]
    continuation, lead = greedy(model, prompt)
    assert lead > 1e-3, f"the greedy continuation hangs on {lead}: choose another seed"
    golden |= {"greedy.prompt": prompt, "greedy.tokens": continuation}

    curve = train(model, batches[1:])
    golden |= {"curve.tokens": batches[1:, :, :-1], "curve.targets": batches[1:, :, 1:]}
    golden |= {f"curve.{key}": values for key, values in curve.items()}
    print(f"{family}: loss {loss.item():.6f}, smallest lead {lead:.4f}")
    for key, values in curve.items():
        print(f"{key:>9}", " ".join(f"{value:.6f}" for value in values.tolist()))
    return golden


def write_ropes(out):
    tokens = torch.randint(LLAMA["vocab_size"], (1, ROPE_CONTEXT), generator=torch.Generator().manual_seed(SEED))
    golden, configs = {"tokens": tokens[0]}, {}
    for way, parameters in ROPES.items():
        config = LlamaConfig(
            **LLAMA, max_position_embeddings=ROPE_CONTEXT, architectures=["LlamaForCausalLM"],
            # A small base, so that the pairs of a narrow head fall on both sides of every threshold.
            rope_parameters=parameters | {"rope_theta": 50.0},
        )
        model = random_model(config, torch.Generator().manual_seed(SEED)).double().eval()
        with torch.no_grad(), in_float64():
            golden[f"logits.{way}"] = model(tokens).logits[0]
        configs[way] = json.loads(config.to_json_string())
    write(golden, out / "rope.safetensors")
    (out / "rope.json").write_text(json.dumps(configs, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=list(CONFIGS))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("crates/lm/tests/golden"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for family in args.families:
        write_family(family, args.out)
    write_ropes(args.out)


if __name__ == "__main__":
    main()

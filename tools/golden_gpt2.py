"""Writes the golden values of GPT-2: what PyTorch and transformers compute for a tiny random model.

    python tools/golden_gpt2.py [--out crates/gpt/tests/golden]

Two things come out:

* `gpt2-tiny/`: the model as transformers saves it (`config.json`, `model.safetensors`, Conv1D layout and all);
* `gpt2.safetensors`: the same weights under mynah's names and in mynah's layout (`[d_out, d_in]`), so that tests of the
  model need no loader, and what PyTorch computes from them:

    weight.NAME  grad.NAME  final.NAME   initial weights, gradients of `loss`, weights after the ten steps
    tokens  targets                      int32 [2, 16]; every target counts
    logits  loss                         [2, 16, 67] and [1] (mean cross entropy in nats)
    curve.tokens  curve.targets          int32 [10, 2, 16]: one batch a step
    curve.lr  curve.loss  curve.grad_norm   [10]: of each step; loss and norm before the update and before clipping
    greedy.prompt  greedy.tokens         int32 [4] and [12]: the most likely continuation

Everything is computed in float64 from weights that are exact in float32, then rounded once: what a test sees is its own
error, not PyTorch's. Weights are far from their usual initial values, so that a wrong bias, norm or scale shows.

The gradient of a key's bias is zero in exact arithmetic (softmax does not see a constant), so AdamW divides rounding noise by
rounding noise there: compare the middle third of `final.blocks.N.qkv.bias` with nothing; the loss does not see it either.
"""

import argparse
import math
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

STEPS, WARMUP, LR, MIN_LR_FRAC, CLIP, WEIGHT_DECAY = 10, 3, 1e-2, 0.1, 1.0, 0.1
BATCH, SEED = 2, 20240613

CONFIG = GPT2Config(
    vocab_size=67, n_positions=16, n_embd=24, n_layer=2, n_head=3, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    bos_token_id=66, eos_token_id=66,
)

# mynah's leaf, transformers' leaf, whether the matrix is transposed (Conv1D keeps [d_in, d_out]).
BLOCK = [
    ("norm1", "ln_1", False), ("qkv", "attn.c_attn", True), ("attn_out", "attn.c_proj", True),
    ("norm2", "ln_2", False), ("mlp_up", "mlp.c_fc", True), ("mlp_down", "mlp.c_proj", True),
]


def random_model(generator):
    """A GPT-2 whose every array is random and far from its usual first value."""
    model = GPT2LMHeadModel(CONFIG)
    model.config._attn_implementation = "eager"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = name.endswith("weight") and "ln_" in name
            parameter.copy_(1 + 0.3 * noise if is_gain else 0.25 * noise)
    return model


def ours(tensors):
    """Arrays under transformers' names → the same under mynah's names and in mynah's layout."""
    named = {"wte": tensors["transformer.wte.weight"], "wpe": tensors["transformer.wpe.weight"]}
    for block in range(CONFIG.n_layer):
        for leaf, theirs, transposed in BLOCK:
            weight = tensors[f"transformer.h.{block}.{theirs}.weight"]
            named[f"blocks.{block}.{leaf}.weight"] = weight.T if transposed else weight
            named[f"blocks.{block}.{leaf}.bias"] = tensors[f"transformer.h.{block}.{theirs}.bias"]
    for part in ("weight", "bias"):
        named[f"final_norm.{part}"] = tensors[f"transformer.ln_f.{part}"]
    assert len(named) == len(tensors), "a parameter has no name of ours"
    return named


def parameters(model):
    return ours({name: p.detach().clone() for name, p in model.named_parameters()})


def gradients(model):
    return ours({name: p.grad.clone() for name, p in model.named_parameters()})


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
    """Ten steps of AdamW with clipping; returns learning rates, losses and norms."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    curve = {"lr": [], "loss": [], "grad_norm": []}
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad()
        _, loss = batch_loss(model, batch[:, :-1], batch[:, 1:])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        for key, value in (("lr", learning_rate(step)), ("loss", loss.item()), ("grad_norm", norm.item())):
            curve[key].append(value)
    return {key: torch.tensor(values, dtype=torch.float64) for key, values in curve.items()}


def greedy(model, prompt):
    """The most likely tokens after the prompt, up to the end of the context, and the smallest lead of a winner."""
    tokens, lead = prompt.tolist(), math.inf
    with torch.no_grad():
        while len(tokens) < CONFIG.n_positions:
            best = model(torch.tensor([tokens])).logits[0, -1].topk(2)
            lead = min(lead, (best.values[0] - best.values[1]).item())
            tokens.append(best.indices[0].item())
    return torch.tensor(tokens[len(prompt):]), lead


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("crates/gpt/tests/golden"))
    out = parser.parse_args().out
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)

    model = random_model(generator)
    model.save_pretrained(out / "gpt2-tiny")
    model = model.double().eval()
    golden = {f"weight.{name}": value for name, value in parameters(model).items()}

    # The last dimension has one token more than the context: inputs and, shifted by one, targets.
    shape = (1 + STEPS, BATCH, CONFIG.n_positions + 1)
    batches = torch.randint(CONFIG.vocab_size, shape, generator=generator)
    logits, loss = batch_loss(model, batches[0, :, :-1], batches[0, :, 1:])
    loss.backward()
    golden |= {"tokens": batches[0, :, :-1], "targets": batches[0, :, 1:]}
    golden |= {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
    golden |= {f"grad.{name}": value for name, value in gradients(model).items()}

    prompt = batches[0, 0, :4]
    continuation, lead = greedy(model, prompt)
    assert lead > 1e-3, f"the greedy continuation hangs on {lead}: choose another seed"
    golden |= {"greedy.prompt": prompt, "greedy.tokens": continuation}

    curve = train(model, batches[1:])
    golden |= {"curve.tokens": batches[1:, :, :-1], "curve.targets": batches[1:, :, 1:]}
    golden |= {f"curve.{key}": values for key, values in curve.items()}
    golden |= {f"final.{name}": value for name, value in parameters(model).items()}

    golden = {
        name: value.to(torch.float32 if value.is_floating_point() else torch.int32).contiguous().clone()
        for name, value in golden.items()
    }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    recipe = {"seed": SEED, "lr": LR, "warmup_steps": WARMUP, "min_lr_frac": MIN_LR_FRAC, "grad_clip": CLIP,
              "weight_decay": WEIGHT_DECAY, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}
    metadata = {key: str(value) for key, value in (versions | recipe).items()}
    save_file(golden, out / "gpt2.safetensors", metadata)
    print(f"loss {loss.item():.6f}, smallest lead {lead:.4f}")
    for key, values in curve.items():
        print(f"{key:>9}", " ".join(f"{value:.6f}" for value in values.tolist()))


if __name__ == "__main__":
    main()

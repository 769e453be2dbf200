"""Writes the golden values of adapters: what PEFT computes for tiny random models with tiny random adapters.

    python tools/golden_adapters.py [--out crates/lm/tests/golden]

The models are those that `tools/golden_models.py` wrote, `FAMILY-tiny/`. Beside them come out:

* `adapters/NAME/`: an adapter as PEFT saves it (`adapter_config.json`, `adapter_model.safetensors`), for every line of
  ADAPTERS; NAME begins with its family's;
* `adapters/values.safetensors`: of each of them `NAME.logits` [2, 16, vocab] on the tokens of `FAMILY.safetensors`, and,
  where a head scores, `NAME.scores` [2, labels] of the last token of each; and of those of CURVES the losses of 20 steps
  of AdamW on the batches of `curve.tokens`, twice through, `NAME.curve` [20].

Everything is computed in float64 from values that are exact in float32, and rounded once.
"""

import argparse
import json
import pathlib

import peft
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

SEED, STEPS, LR, BETAS, EPS, DECAY = 7, 20, 1e-2, (0.9, 0.95), 1e-8, 0.1

ADAPTERS = {
    "gpt1-lora": dict(r=2, lora_alpha=3, target_modules=["c_attn", "c_proj", "c_fc"]),
    "gpt2-lora": dict(r=3, lora_alpha=6, target_modules="all-linear"),
    "gpt2-attention": dict(r=2, lora_alpha=4, target_modules=["c_attn", "attn.c_proj"], use_rslora=True),
    "gpt_neo-lora": dict(r=2, lora_alpha=8, target_modules="all-linear"),
    "llama-lora": dict(r=4, lora_alpha=8, target_modules="all-linear"),
    "llama-rslora": dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=True),
    # Ranks and alphas of their own, one layer only, and names left out.
    "llama-patterns": dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "o_proj", "up_proj"], rank_pattern={"q_proj": 4, "0.self_attn.k_proj": 3},
        alpha_pattern={"k_proj": 1, "up_proj": 5},
    ),
    "llama-expression": dict(r=2, lora_alpha=2, target_modules=r".*\.1\.(self_attn|mlp)\.(q_proj|gate_proj)"),
    "llama-score": dict(r=2, lora_alpha=4, target_modules="all-linear", task_type=TaskType.SEQ_CLS),
    "gpt1-dora": dict(r=2, lora_alpha=3, target_modules=["c_attn", "c_proj"], use_dora=True),
    "gpt2-dora": dict(r=3, lora_alpha=6, target_modules="all-linear", use_dora=True),
    "gpt_neo-dora": dict(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj", "c_proj"], use_dora=True),
    "llama-dora": dict(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True),
    "qwen2-dora": dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=True, use_rslora=True),
    "qwen2-lora": dict(r=2, lora_alpha=4, target_modules="all-linear"),
    "qwen3-lora": dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]),
    # As they begin: B is 0.
    "llama-fresh": dict(r=4, lora_alpha=8, target_modules="all-linear"),
    "gpt2-fresh": dict(r=4, lora_alpha=8, target_modules="all-linear"),
}
CURVES = ["llama-fresh", "gpt2-fresh", "qwen2-lora", "llama-dora", "gpt2-dora", "qwen2-dora"]


def adapted(base, name, settings):
    torch.manual_seed(SEED)
    scores = settings.get("task_type") == TaskType.SEQ_CLS
    auto = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    more = dict(num_labels=2, pad_token_id=0) if scores else {}
    model = auto.from_pretrained(base, dtype=torch.float32, **more)
    settings = dict(dict(task_type=TaskType.CAUSAL_LM), **settings)
    model = get_peft_model(model, LoraConfig(lora_dropout=0.0, **settings))
    for key, value in model.named_parameters():
        if value.requires_grad and not ("fresh" in name and "lora_B" in key):
            # Far from where they begin, so that a wrong scale, order or row shows.
            value.data = torch.randn_like(value) * (0.2 if "magnitude" not in key else 0.1) + (value.data if "magnitude" in key else 0)
    return model.eval()


def curve(model, tokens, targets):
    model = model.double().train()
    learned = [value for value in model.parameters() if value.requires_grad]
    # Magnitudes are no matrices, and mynah decays those only.
    groups = [dict(params=[v for v in learned if v.ndim == n], weight_decay=decay) for n, decay in ((2, DECAY), (1, 0.0))]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=LR, betas=BETAS, eps=EPS)
    losses = []
    for step in range(STEPS):
        at = step % len(tokens)
        loss = cross_entropy(model(input_ids=tokens[at]).logits.flatten(0, 1), targets[at].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("crates/lm/tests/golden"))
    out = parser.parse_args().out
    values = {}
    for name, settings in ADAPTERS.items():
        family = name.split("-")[0]
        base, place = out / f"{family}-tiny", out / "adapters" / name
        model = adapted(base, name, settings)
        # Where it lies is nothing that a test could know.
        model.peft_config["default"].base_model_name_or_path = f"{family}-tiny"
        model.save_pretrained(place)
        (place / "README.md").unlink()
        config = json.loads((place / "adapter_config.json").read_text())
        config["target_modules"] = sorted(config["target_modules"]) if isinstance(config["target_modules"], list) else config["target_modules"]
        (place / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        with safe_open(out / f"{family}.safetensors", "pt") as golden:
            tokens = golden.get_tensor("tokens").long()
            curves = [golden.get_tensor(f"curve.{key}").long() for key in ("tokens", "targets")]
        with torch.no_grad():
            if "score" in name:
                double = model.double()
                values[f"{name}.scores"] = double(input_ids=tokens).logits.float()
            else:
                values[f"{name}.logits"] = model.double()(input_ids=tokens).logits.float()
        if name in CURVES:
            values[f"{name}.curve"] = curve(adapted(base, name, settings), *curves)
    versions = {library.__name__: library.__version__ for library in (peft, torch, transformers)}
    save_file({key: value.contiguous() for key, value in values.items()}, out / "adapters" / "values.safetensors", metadata=versions)
    print(versions, {key: tuple(value.shape) for key, value in values.items()})


if __name__ == "__main__":
    main()

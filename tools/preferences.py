"""All losses of `mynah dpo` side by side: the same model, rankings, steps and rate, and what each model says to the same held-out prompts of the
lessons. The KL is of whole distributions, by `transformers`. What is there already is not made again.

    python tools/preferences.py mynah sft rankings.jsonl held-out.jsonl out --steps 100
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

import torch
import transformers

LOSSES = "sigmoid ipo hinge robust exo_pair apo_zero apo_down sigmoid_norm simpo orpo".split()
# What cannot be 0 there: robust and exo_pair take some rankings to be the wrong way round.
OWN = {"robust": ["--set", "label_smoothing=0.1"], "exo_pair": ["--set", "label_smoothing=0.1"]}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("mynah")
parser.add_argument("model")
parser.add_argument("rankings")
parser.add_argument("prompts", help="held-out prompts with their keys")
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--steps", default="100")
parser.add_argument("--lr", default="1e-4")
parser.add_argument("--seed", default="0")
parser.add_argument("--limit", type=int, default=800, help="prompts that are answered")
parser.add_argument("--threads", default="2")
parser.add_argument("--losses", nargs="*", default=LOSSES)
options = parser.parse_args()
torch.set_num_threads(int(options.threads))
options.out.mkdir(parents=True, exist_ok=True)
prompts = options.out / "prompts.jsonl"
lines = open(options.prompts).read().splitlines(keepends=True)
prompts.write_text("".join(lines[: options.limit]))


def mynah(*words):
    common = ["--threads", options.threads, "--precision", "f32", "--seed", options.seed, "--quiet"]
    subprocess.run([options.mynah, *common, *map(str, words)], check=True)


def newest(run):
    path = pathlib.Path(run)
    return max((path / "checkpoints").glob("step-*")) if (path / "checkpoints").exists() else path


def loaded(run):
    return transformers.AutoModelForCausalLM.from_pretrained(newest(run), dtype=torch.float32).eval()


reference = loaded(options.model)
tokenizer = transformers.AutoTokenizer.from_pretrained(newest(options.model))


@torch.no_grad()
def divergence(policy, answered):
    """The mean over answers of the sum over their tokens of KL(policy ‖ reference), the end included."""
    found = []
    for line in answered:
        shown = tokenizer.apply_chat_template(line["messages"], tokenize=False, add_generation_prompt=True)
        before = tokenizer(shown, add_special_tokens=False)["input_ids"]
        for text in line["completions"]:
            after = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([before + after])
            if ids.shape[1] > policy.config.max_position_embeddings:
                continue
            p, q = (model(ids).logits[0, len(before) - 1 :].log_softmax(-1) for model in (policy, reference))
            found.append((p.exp() * (p - q)).sum().item())
    return statistics.mean(found)


def measured(name, model):
    candidates, judged = (options.out / f"{name}-{what}.jsonl" for what in ["answers", "judged"])
    asked = ["--model", model, "--prompts", prompts, "--k", 2, "--max-tokens", 32]
    mynah("candidates", *asked, "--out", candidates)
    mynah("rank", "simulate", "--candidates", candidates, "--judge", "lessons", "--noise", 0, "--out", judged)
    answered = [json.loads(line) for line in open(judged)]
    scores = [score for line in answered for score in line["scores"]]
    return {
        "judge": statistics.mean(scores),
        "judge_error": statistics.stdev([statistics.mean(line["scores"]) for line in answered]) / len(answered) ** 0.5,
        # Half of the score is for being right, and an answer that is not has at most the other half.
        "answers_right": statistics.mean(score > 0.5 + 1e-9 for score in scores),
        "kl": divergence(loaded(model), answered),
    }


def told(name, make):
    file = options.out / f"{name}.json"
    if not file.exists():
        file.write_text(json.dumps(make()))
    print(json.dumps({"loss": name, **json.loads(file.read_text())}), flush=True)


def trained(loss):
    run = options.out / loss
    every = ["--set", f"eval_every={options.steps}"]
    recipe = ["--steps", options.steps, "--lr", options.lr, *every, *OWN.get(loss, [])]
    mynah("dpo", "--model", options.model, "--rankings", options.rankings, "--loss", loss, "--out", run, *recipe)
    lines = [json.loads(line) for line in open(run / "metrics.jsonl")]
    validated = [line for line in lines if "val_loss" in line]
    margins = [line["rewards/margins"] for line in lines[-10:]]
    return {
        "val_loss": validated[-1]["val_loss"],
        "pairs_right": validated[-1]["val_accuracy"],
        "margin": statistics.mean(margins),
        **measured(loss, newest(run)),
    }


os.environ["TOKENIZERS_PARALLELISM"] = "false"
told("before", lambda: measured("before", newest(options.model)))
for loss in options.losses:
    told(loss, lambda: trained(loss))

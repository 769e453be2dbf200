"""Compares a checkpoint of mynah with what transformers makes of the same directory.

    python tools/check_checkpoint.py DIR [OURS.json] [--tolerance 1e-4]

Without OURS.json: transformers must load DIR with no tensor missing, unexpected or misshaped, and the tokenizer's
special tokens must fit; a greedy continuation is printed. OURS.json holds what mynah computed, any of

    {"tokens": [ids], "logits": [[…], …],                            one row of logits for each token
     "prompt": "text" or [ids], "completion": [ids], "text": "…"}     a greedy continuation

or what `mynah complete --json --temperature 0` prints; the example `logits` of the crate mynah-gpt writes all of them.
Logits may differ by --tolerance, ids and text not at all; where a continuation parts, the lead of transformers' choice is
shown: a tie within rounding is no fault of anybody. Exit code 1 when something differs.
"""

import argparse
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(directory):
    """The model in float32, and what transformers complained about."""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    complaints = {key: sorted(map(str, value)) for key, value in info.items() if value}
    return model.eval(), complaints


def load_tokenizer(directory):
    has_one = (directory / "tokenizer.json").exists()
    return AutoTokenizer.from_pretrained(directory) if has_one else None


def greedy(model, prompt, count):
    """The most likely `count` tokens after `prompt`, with the lead of each over the second."""
    tokens, leads = list(prompt), []
    window = model.config.max_position_embeddings
    with torch.no_grad():
        for _ in range(count):
            best = model(torch.tensor([tokens[-window:]])).logits[0, -1].topk(2)
            leads.append((best.values[0] - best.values[1]).item())
            tokens.append(best.indices[0].item())
    return tokens[len(prompt):], leads


def check_logits(model, ours, tolerance):
    with torch.no_grad():
        theirs = model(torch.tensor([ours["tokens"]])).logits[0]
    logits = torch.tensor(ours["logits"], dtype=torch.float32)
    if logits.shape != theirs.shape:
        print(f"logits: shape {tuple(logits.shape)}, transformers has {tuple(theirs.shape)}")
        return False
    difference = (logits - theirs).abs().max().item()
    print(f"logits: largest difference {difference:.2e} of values up to {theirs.abs().max():.1f}")
    return difference <= tolerance


def check_greedy(model, tokenizer, prompt, ids, text):
    if isinstance(prompt, str):
        prompt = tokenizer(prompt)["input_ids"] or [model.config.bos_token_id]
    theirs, leads = greedy(model, prompt, len(ids))
    if ids == theirs:
        print(f"greedy: {len(ids)} tokens agree, smallest lead {min(leads, default=0):.4f}")
    else:
        at = next(i for i, (a, b) in enumerate(zip(ids, theirs)) if a != b)
        print(f"greedy: token {at} is {ids[at]}, transformers has {theirs[at]} with a lead of {leads[at]:.6f}")
        return False
    if text is not None and tokenizer is not None:
        # A text for people leaves the end-of-text token out, which ends a completion.
        decoded = [tokenizer.decode(theirs, skip_special_tokens=skip) for skip in (False, True)]
        if text not in decoded:
            print(f"text: {text!r}, transformers has {decoded[0]!r}")
            return False
        print("text: agrees")
    return True


def continuations(ours):
    """(prompt, ids, text) of every greedy continuation in what mynah computed."""
    if "completion" in ours:
        yield ours["prompt"], ours["completion"], ours.get("text")
    for completion in ours.get("completions", []):
        yield ours["prompt"], completion["tokens"], completion.get("text")


def check(directory, ours, tolerance):
    """Whether everything agrees; says what does not."""
    model, complaints = load(directory)
    tokenizer = load_tokenizer(directory)
    print(f"{type(model).__name__}: {sum(p.numel() for p in model.parameters()):,} parameters")
    good = not complaints
    for kind, names in complaints.items():
        print(f"{kind}: {names}")
    if tokenizer is not None:
        eos = tokenizer.eos_token_id
        print(f"{type(tokenizer).__name__}: {len(tokenizer)} tokens, eos {eos}, the model's {model.config.eos_token_id}")
        good &= len(tokenizer) <= model.config.vocab_size and eos == model.config.eos_token_id

    if ours is None:
        ids, _ = greedy(model, [model.config.bos_token_id or 0], 16)
        print("greedy:", repr(tokenizer.decode(ids)) if tokenizer else ids)
    else:
        if "logits" in ours:
            good &= check_logits(model, ours, tolerance)
        for prompt, ids, text in continuations(ours):
            good &= check_greedy(model, tokenizer, prompt, ids, text)
    print("agrees" if good else "DIFFERS")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("ours", type=pathlib.Path, nargs="?")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    ours = json.loads(args.ours.read_text()) if args.ours else None
    sys.exit(0 if check(args.directory, ours, args.tolerance) else 1)


if __name__ == "__main__":
    main()

"""Holds mynah's adapters to PEFT on a published model: logits both ways, twenty steps of training, speed and memory.

    python tools/check_adapters.py MODEL --mynah target/release/mynah --logits target/release/examples/logits --work DIR

MODEL is a Hugging Face directory with a chat template, such as SmolLM2-135M's. In turn:

1. PEFT makes adapters with random numbers (LoRA, rsLoRA, DoRA; all layers, and some); mynah's logits with each are
   compared with PEFT's, merged as mynah reads them.
2. mynah trains an adapter for a few steps; PEFT loads the run's checkpoint as it is, and its logits are compared with
   mynah's.
3. Both learn the same conversations from the same adapter of PEFT's, for twenty steps of AdamW, whole batches; their losses
   are compared. So they do beside the matrices in q8_0, q4_0 and NF4: PEFT's are what the gguf package makes of them there
   and back, and with NF4 what its definition does.
4. Both learn batches of --rows sequences of --tokens tokens, one after the other in this very run, on --threads threads:
   tokens a second (the median of the steps but the first) and the largest memory of the process.

The crate's example `logits` is built with `cargo build --release -p mynah-gpt --example logits`.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import time

PROMPT = "The capital of France is Paris, and the capital of Italy is"
KINDS = {
    "lora": dict(r=8, lora_alpha=16, target_modules="all-linear"),
    "rslora": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], use_rslora=True),
    "dora": dict(r=8, lora_alpha=16, target_modules="all-linear", use_dora=True),
}
STEPS, LR = 20, 1e-3
FACTS = [
    ("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Peru", "Lima"), ("Egypt", "Cairo"), ("Kenya", "Nairobi"),
    ("Cuba", "Havana"), ("Norway", "Oslo"),
]


def libraries():
    import peft
    import torch
    import transformers
    return peft, torch, transformers


def base(path):
    _, torch, transformers = libraries()
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def new_adapter(path, place, kind, random_b=True):
    peft, torch, _ = libraries()
    torch.manual_seed(3)
    model = peft.get_peft_model(base(path), peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **KINDS[kind]))
    for name, value in model.named_parameters():
        if random_b and "lora_B" in name:
            value.data = torch.randn_like(value) * 0.02
        if random_b and "magnitude" in name:
            value.data *= 1 + 0.1 * torch.randn_like(value)
    model.save_pretrained(place)
    return model.eval()


def compare(model, ours, name):
    _, torch, _ = libraries()
    with torch.no_grad():
        theirs = model(torch.tensor([ours["tokens"]])).logits[0]
    mine = torch.tensor(ours["logits"])
    off, largest = (mine - theirs).abs().max().item(), theirs.abs().max().item()
    print(f"{name}: largest difference of logits {off:.2e} of values up to {largest:.1f}: {off / largest:.2e}", flush=True)
    return off / largest <= 1e-4


def ours_of(logits, model, adapter):
    return json.loads(subprocess.run([logits, f"{model}+{adapter}", PROMPT], check=True, capture_output=True).stdout)


def conversations(path):
    lines = [{"prompt": f"What is the capital of {a}?", "completion": f"The capital of {a} is {b}."} for a, b in FACTS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def batch_of(path, lines):
    """Tokens, and targets of the assistant's tokens with what ends them."""
    _, torch, transformers = libraries()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    encode = lambda messages, **more: tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **more)["input_ids"]
    rows = []
    for line in lines:
        asked = [{"role": "user", "content": line["prompt"]}]
        whole = encode(asked + [{"role": "assistant", "content": line["completion"]}])
        start = len(encode(asked, add_generation_prompt=True))
        end = max(i for i, token in enumerate(whole) if token == tokenizer.eos_token_id) + 1
        targets = [-100] * start + whole[start:end] + [-100] * (len(whole) - end)
        rows.append((torch.tensor(whole), torch.tensor(targets)))
    return rows


NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]


def there_and_back(weight, storage):
    """A matrix as its blocks have it."""
    import numpy
    if storage != "nf4":
        from gguf import GGMLQuantizationType, quants
        kind = GGMLQuantizationType[storage.upper()]
        return quants.dequantize(quants.quantize(weight, kind), kind)
    blocks, codes = weight.reshape(-1, 64), numpy.array(NF4, numpy.float32)
    largest = numpy.abs(blocks).max(1, keepdims=True)
    middles = (codes[1:] + codes[:-1]) / 2
    return (codes[numpy.searchsorted(middles, blocks * (1 / largest))] * largest).reshape(weight.shape)


def stored(path, storage):
    """The model with the matrices of its layers in blocks; exactly without a storage."""
    _, torch, _ = libraries()
    model = base(path)
    for name, module in model.named_modules():
        if storage and isinstance(module, torch.nn.Linear) and ".layers." in name:
            module.weight.data = torch.from_numpy(there_and_back(module.weight.data.numpy(), storage))
    return model


def their_curve(path, adapter, rows, storage):
    peft, torch, _ = libraries()
    from torch.nn.functional import cross_entropy
    model = peft.PeftModel.from_pretrained(stored(path, storage), adapter, is_trainable=True).train()
    learned = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    count, losses = sum((targets != -100).sum().item() for _, targets in rows), []
    for _ in range(STEPS):
        total = 0.0
        for tokens, targets in rows:
            logits = model(tokens[None]).logits[0, :-1]
            loss = cross_entropy(logits, targets[1:], ignore_index=-100, reduction="sum") / count
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def mynah_sft(mynah, model, data, out, *more):
    words = [mynah, "sft", "--model", model, "--data", data, "--val", data, "--out", out, "--precision", "f32", "--device", "cpu"]
    sets = ["weight_decay=0", "grad_clip=0", "min_lr_frac=1", "warmup_steps=0", "dropout=0", "select_best=false"]
    command = [*map(str, words), *(word for key in sets for word in ("--set", key)), *map(str, more)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return [json.loads(line) for line in (pathlib.Path(out) / "metrics.jsonl").read_text().splitlines()]


def long_rows(path, rows, tokens):
    """Conversations of about so many tokens, of words without sense."""
    _, _, transformers = libraries()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    random.seed(1)
    words = ["stone", "river", "seven", "green", "letter", "window", "people", "music", "under", "again"]
    lines = []
    for _ in range(rows):
        text = " ".join(random.choice(words) for _ in range(2 * tokens))
        cut = tokenizer.decode(tokenizer(text)["input_ids"][: tokens - 40])
        lines.append({"prompt": "Say words.", "completion": cut})
    return lines


def their_speed(path, lines, threads, steps):
    peft, torch, _ = libraries()
    from torch.nn.functional import cross_entropy
    torch.set_num_threads(threads)
    rows = batch_of(path, lines)
    model = peft.get_peft_model(base(path), peft.LoraConfig(task_type="CAUSAL_LM", **KINDS["lora"])).train()
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-4)
    # As many sequences at once as mynah takes tokens.
    width = max(len(tokens) for tokens, _ in rows)
    pad = lambda x, value: torch.nn.functional.pad(x, (0, width - len(x)), value=value)
    tokens = torch.stack([pad(tokens, 0) for tokens, _ in rows])
    targets = torch.stack([pad(targets, -100) for _, targets in rows])
    mask = torch.stack([pad(torch.ones(len(tokens), dtype=torch.long), 0) for tokens, _ in rows])
    times = []
    for _ in range(steps):
        begun = time.perf_counter()
        for part in range(0, len(rows), 4):
            at = slice(part, part + 4)
            logits = model(tokens[at], attention_mask=mask[at]).logits[:, :-1].flatten(0, 1)
            (cross_entropy(logits, targets[at, 1:].flatten(), ignore_index=-100)).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - begun)
    seconds = sorted(times[1:])[len(times[1:]) // 2]
    print(json.dumps({
        "tokens_per_sec": int(mask.sum()) / seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


def speed(arguments, work):
    model, mynah = arguments.model, arguments.mynah
    lines = long_rows(model, arguments.rows, arguments.tokens)
    data = work / "long.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    their = [sys.executable, __file__, model, "--work", str(work), "--peer", str(data), "--threads", str(arguments.threads)]
    theirs = json.loads(subprocess.run(their, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    out = work / "speed"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    timed = [sys.executable, "-c", "import subprocess,sys,resource;subprocess.run(sys.argv[1:],check=True,stdout=sys.stderr);"
             "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss*1024)"]
    command = [mynah, "sft", "--model", model, "--data", data, "--val", data, "--out", out, "--precision", "f32", "--steps", "6",
               "--set", f"batch_size={arguments.rows}", "--set", "sample_every=1000", "--set", "eval_every=1000", "--threads", arguments.threads,
               "--set", "select_best=false", "--lora", "r=8,alpha=16"]
    told = subprocess.run([*timed, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert before is not None
    timings = [json.loads(line) for line in (out / "timings.jsonl").read_text().splitlines()]
    rates = sorted(step["tokens_per_sec"] for step in timings[1:])
    ours = {"tokens_per_sec": rates[len(rates) // 2], "bytes": int(told.splitlines()[-1])}
    print(f"PEFT {theirs}\nmynah {ours}")
    rate, memory = ours["tokens_per_sec"] / theirs["tokens_per_sec"], ours["bytes"] / theirs["bytes"]
    print(f"mynah's tokens a second are {rate:.2f} times PEFT's, its memory {memory:.2f} times PEFT's")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--mynah")
    parser.add_argument("--logits")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--only", choices=["logits", "ours", "curve", "speed"], action="append")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        lines = [json.loads(line) for line in pathlib.Path(arguments.peer).read_text().splitlines()]
        return their_speed(arguments.model, lines, arguments.threads, 6)
    only, work, model, right = arguments.only or ["logits", "ours", "curve", "speed"], arguments.work, arguments.model, True
    work.mkdir(parents=True, exist_ok=True)
    if "logits" in only:
        for kind in KINDS:
            theirs = new_adapter(model, work / kind, kind)
            right &= compare(theirs, ours_of(arguments.logits, model, work / kind), f"{kind} of PEFT's")
    lines = conversations(work / "facts.jsonl")
    whole = ["--set", f"batch_size={len(lines)}", "--lr", LR]
    if "ours" in only:
        peft, _, _ = libraries()
        for kind, lora in (("lora", "r=4"), ("rslora", "r=4,rslora,targets=q_proj+o_proj"), ("dora", "r=4,dora")):
            out = work / f"ours-{kind}"
            mynah_sft(arguments.mynah, model, work / "facts.jsonl", out, *whole, "--steps", 3, "--lora", lora)
            checkpoint = sorted((out / "checkpoints").iterdir())[-1]
            theirs = peft.PeftModel.from_pretrained(base(model), checkpoint).eval()
            right &= compare(theirs, ours_of(arguments.logits, model, checkpoint), f"{kind} of mynah's")
    if "curve" in only:
        new_adapter(model, work / "begin", "lora", random_b=False)
        for storage in (None, "q8_0", "q4_0", "nf4"):
            theirs = their_curve(model, work / "begin", batch_of(model, lines), storage)
            adapter = ["--adapter", work / "begin", *(["--base", storage] if storage else [])]
            metrics = mynah_sft(
                arguments.mynah, model, work / "facts.jsonl", work / f"curve-{storage}", *whole, "--steps", STEPS, *adapter)
            ours = [line["loss"] for line in metrics if "loss" in line]
            for step, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
                print(f"{storage}, step {step}: mynah {a:.6f}, PEFT {b:.6f}")
            worst = max(abs(a - b) for a, b in zip(ours, theirs))
            print(f"{storage}: largest difference of losses {worst:.1e}", flush=True)
            right &= worst <= 1e-3
    if "speed" in only:
        speed(arguments, work)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

"""Holds `mynah finetune` against transformers.

    check_finetune.py logits MYNAH CLASSIFIER DATA.jsonl [N]
        loads the classifier with AutoModelForSequenceClassification, builds the inputs of its form, and compares every
        probability with those of `mynah classify --precision f32`.
    check_finetune.py train MODEL TRAIN.jsonl VAL.jsonl LR EPOCHS BATCH MAX_TOKENS [AUX_LM]
        fine-tunes a Llama-like directory for classification as GPT-1 does, in bf16 autocast, and prints its accuracy.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

MARKS = ["<|start|>", "<|delimiter|>", "<|extract|>"]


def cut(form, parts, max_tokens):
    """One sequence's parts in the room that the marks leave."""
    room = max_tokens - len(parts) - 1
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = map(len, parts)
    first = min(first, max(room // 2, room - second))
    second = min(second, room - first)
    head = parts[0][len(parts[0]) - first :] if form == "multiple-choice" else parts[0][:first]
    return [head, parts[1][:second]]


def sequences(form, row, tok, max_tokens):
    """The token lists of one line."""
    start, delimiter, extract = tok.convert_tokens_to_ids(MARKS)
    ids = lambda text: tok(text, add_special_tokens=False)["input_ids"]
    if form == "classification":
        parts = [[ids(row["text"])]]
    elif form == "entailment":
        parts = [[ids(row["premise"]), ids(row["hypothesis"])]]
    elif form == "similarity":
        a, b = ids(row["a"]), ids(row["b"])
        parts = [[a, b], [b, a]]
    else:
        asked = ids("\n".join(row[k] for k in ("context", "question") if row.get(k)))
        parts = [[asked, ids(answer)] for answer in row["answers"]]
    made = []
    for some in parts:
        some = cut(form, some, max_tokens)
        tokens = [start] + some[0]
        for part in some[1:]:
            tokens += [delimiter] + part
        made.append(tokens + [extract])
    return made


def logits(mynah, run, data, n):
    directory = max(Path(run).glob("checkpoints/step-*"))
    task = json.loads((directory / "mynah.json").read_text())["task"]
    form = task["form"]
    tok = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()
    rows = [json.loads(line) for line in open(data)][:n]
    told = subprocess.run(
        [mynah, "classify", "--model", run, "--data", data, "--json", "--precision", "f32"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()
    worst, same = 0.0, 0
    for row, line in zip(rows, told):
        with torch.no_grad():
            scores = [model(torch.tensor([ids])).logits[0] for ids in sequences(form, row, tok, task["max_tokens"])]
        outputs = torch.cat(scores) if form == "multiple-choice" else torch.stack(scores).sum(0)
        theirs = torch.log_softmax(outputs, -1)
        ours = json.loads(line)
        found = torch.tensor(list(ours["scores"].values()), dtype=torch.float64).log()
        worst = max(worst, (found - theirs).abs().max().item())
        names = list(ours["scores"])
        same += names[int(theirs.argmax())] == ours["label"]
    print(f"{form}: {len(rows)} items, log-probabilities differ by {worst:.2e} at most, {same} labels are the same")
    if task["labels"]:
        assert [model.config.id2label[i] for i in range(len(task["labels"]))] == task["labels"]
    assert worst < 1e-4, worst


def train(directory, train_file, val_file, lr, epochs, batch, max_tokens, aux):
    torch.manual_seed(0)
    tok = AutoTokenizer.from_pretrained(directory)
    tok.add_special_tokens({"additional_special_tokens": MARKS})
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    if len(tok) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tok), mean_resizing=False)
    width = model.config.hidden_size
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        for mark in tok.convert_tokens_to_ids(MARKS):
            embedding[mark] = 0.02 * torch.randn(width)
    rows = [[json.loads(line) for line in open(file)] for file in (train_file, val_file)]
    labels = sorted({row["label"] for row in rows[0]})
    head = torch.nn.Linear(width, len(labels), bias=False)
    torch.nn.init.normal_(head.weight, std=0.02)
    data = [[(sequences("classification", row, tok, max_tokens)[0], labels.index(row["label"])) for row in some] for some in rows]
    parameters = list(model.parameters()) + list(head.parameters())
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)
    steps = -(-epochs * len(data[0]) // batch)
    warmup = max(1, -(-2 * steps // 1000))
    rate = lambda done: (done + 1) / warmup if done < warmup else 1 - (done - warmup) / (steps - warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def outputs(items):
        lens = torch.tensor([len(ids) for ids, _ in items])
        ids = torch.zeros(len(items), int(lens.max()), dtype=torch.long)
        for i, (tokens, _) in enumerate(items):
            ids[i, : len(tokens)] = torch.tensor(tokens)
        mask = (torch.arange(ids.shape[1]) < lens[:, None]).long()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
            read = hidden[torch.arange(len(items)), lens - 1]
            text = model.lm_head(hidden[:, :-1]) if model.training and aux > 0 else None
        return ids, mask, read, text

    def accuracy():
        model.eval()
        right = 0
        with torch.no_grad():
            for i in range(0, len(data[1]), 32):
                items = data[1][i : i + 32]
                _, _, read, _ = outputs(items)
                right += (head(read.float()).argmax(-1) == torch.tensor([c for _, c in items])).sum().item()
        model.train()
        return right / len(data[1])

    model.train()
    order, began = [], time.time()
    for step in range(steps):
        if len(order) < batch:
            order += torch.randperm(len(data[0])).tolist()
        items = [data[0][i] for i in order[:batch]]
        order = order[batch:]
        ids, mask, read, text = outputs(items)
        read = torch.nn.functional.dropout(read.float(), 0.1)
        loss = torch.nn.functional.cross_entropy(head(read), torch.tensor([c for _, c in items]))
        if text is not None:
            each = torch.nn.functional.cross_entropy(text.float().transpose(1, 2), ids[:, 1:], reduction="none")
            real = mask[:, 1:]
            loss = loss + aux * ((each * real).sum(1) / real.sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step + 1}/{steps} loss {loss.item():.4f} {time.time() - began:.0f} s", flush=True)
    print(f"accuracy {accuracy():.4f} of {len(data[1])}, {time.time() - began:.0f} s")


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "logits":
        logits(rest[0], rest[1], rest[2], int(rest[3]) if len(rest) > 3 else None)
    else:
        aux = float(rest[7]) if len(rest) > 7 else 0.5
        train(rest[0], rest[1], rest[2], float(rest[3]), *map(int, rest[4:7]), aux)

"""Checks mynah's GGUF against the programs of others.

    python tools/check_gguf.py read DIR FILE.gguf     the same model as a Hugging Face directory and as GGUF: mynah continues
                                                      ten prompts from both as transformers does from DIR in float32
    python tools/check_gguf.py write DIR FILE.gguf    FILE was written by `mynah gguf --model DIR`: the gguf package finds
                                                      DIR's tensors and blocks, transformers the same ids and the same texts

`--mynah` names the program [target/release/mynah]. Needs torch, transformers, tokenizers, safetensors and gguf.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import gguf
import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The capital of France is", "Once upon a time, in a small village,", "def fibonacci(n):\n    ", "Water boils when",
    "Dear Sir or Madam,\n\nI am writing to", "The three primary colours are", "Q: What do bees make?\nA:",
    "In the year of the great storm", "import numpy as np\n\ndef mean(values):", "Die Hauptstadt von Deutschland ist",
]
NEW_TOKENS = 48


def ours(mynah, model, prompt):
    """What mynah continues `prompt` with."""
    command = [mynah, "complete", "--model", model, "--precision", "f32", "--temperature", "0", "--json", "--quiet",
               "--max-tokens", str(NEW_TOKENS), "--", prompt]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output)["completions"][0]["tokens"]


def theirs(model, ids, end_of_text):
    """What transformers continues ids with: greedily, up to mynah's end of text."""
    prompt = torch.tensor([ids])
    with torch.no_grad():
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, repetition_penalty=1.0,
                             max_new_tokens=NEW_TOKENS, eos_token_id=end_of_text, pad_token_id=end_of_text)
    tokens = out[0, len(ids):].tolist()
    return tokens[:-1] if tokens and tokens[-1] == end_of_text else tokens


def compare(name, mynah, path, tokenizer, model, end_of_text, show=False):
    """Counts the prompts that mynah continues otherwise from `path`."""
    wrong = 0
    for prompt in PROMPTS:
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        expected, found = theirs(model, ids, end_of_text), ours(mynah, path, prompt)
        if show:
            print(f"  {prompt!r} → {tokenizer.decode(expected)!r}")
        if found != expected:
            wrong += 1
            print(f"{name}: {prompt!r}\n  theirs {tokenizer.decode(expected)!r}\n  mynah  {tokenizer.decode(found)!r}")
    print(f"{name}: {len(PROMPTS) - wrong} of {len(PROMPTS)} greedy texts are the same")
    return wrong


def end_of_text_of(tokenizer):
    """mynah's: <|endoftext|>, else the eos_token."""
    vocab = tokenizer.get_vocab()
    return vocab.get("<|endoftext|>", tokenizer.eos_token_id)


def read(arguments):
    tokenizer = AutoTokenizer.from_pretrained(arguments.dir)
    model = AutoModelForCausalLM.from_pretrained(arguments.dir, dtype=torch.float32).eval()
    end = end_of_text_of(tokenizer)
    wrong = compare("from the directory", arguments.mynah, arguments.dir, tokenizer, model, end, show=True)
    return wrong + compare("from GGUF", arguments.mynah, arguments.file, tokenizer, model, end)


def tensors_of(directory):
    """Every tensor of a directory's safetensors files."""
    found = {}
    for path in sorted(directory.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name).float() for name in file.keys()}
    return found


def expected_bytes(tensor, kind):
    """A matrix in a number format, as the gguf package writes it."""
    values = tensor.contiguous().numpy()
    return gguf.quants.quantize(values, kind).view(np.uint8).ravel()


def file_tensors(directory, config):
    """The directory's tensors under the names and in the layout of GGUF."""
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[config["model_type"]]
    names = gguf.get_tensor_name_map(arch, config.get("n_layer") or config["num_hidden_layers"])
    found = {}
    for name, tensor in tensors_of(directory).items():
        base, suffix = name.rsplit(".", 1)
        if config["model_type"] == "gpt2" and tensor.dim() == 2 and ".c_" in f".{base.rsplit('.', 1)[1]}":
            tensor = tensor.T
        heads = {"q_proj": config.get("num_attention_heads"), "k_proj": config.get("num_key_value_heads")}
        heads = heads.get(base.rsplit(".", 1)[-1])
        if config["model_type"] == "llama" and heads:
            # The two values of a rotated pair stand beside each other.
            half = tensor.shape[0] // heads // 2
            tensor = tensor.reshape(heads, 2, half, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
        found[f"{names.get_name(base)}.{suffix}"] = tensor
    return found


def write(arguments):
    directory = pathlib.Path(arguments.dir)
    config = json.loads((directory / "config.json").read_text())
    reader = gguf.GGUFReader(arguments.file)
    expected = file_tensors(directory, config)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert found.keys() - {"rope_freqs.weight"} == expected.keys(), found.keys() ^ expected.keys()
    kinds = {}
    for name, tensor in expected.items():
        there = found[name]
        assert [*reversed(there.shape.tolist())] == [*tensor.shape], (name, there.shape, tensor.shape)
        same = np.array_equal(there.data.view(np.uint8).ravel(), expected_bytes(tensor, there.tensor_type))
        assert same, f"{name}: other bytes than the gguf package's"
        kinds[there.tensor_type.name] = kinds.get(there.tensor_type.name, 0) + 1
    print(f"gguf package: {len(expected)} tensors with the same bytes, {kinds}")

    folder, file = pathlib.Path(arguments.file).parent, pathlib.Path(arguments.file).name
    tokenizer, original = AutoTokenizer.from_pretrained(folder, gguf_file=file), AutoTokenizer.from_pretrained(directory)
    texts = PROMPTS + [pathlib.Path(__file__).read_text(), "naïve 日本語 🙂\t\r\n  12345 it's we'LL"]
    wrong = 0
    for text in texts:
        pair = [t(text, add_special_tokens=False).input_ids for t in (tokenizer, original)]
        wrong += pair[0] != pair[1]
    print(f"transformers' tokenizer: {len(texts) - wrong} of {len(texts)} texts have the same ids")
    # What transformers does not read from GGUF: the context of a GPT-2, the width of Qwen3's heads.
    unread = {"gpt2": ["n_positions"], "qwen3": ["head_dim"]}.get(config["model_type"], [])
    unread = {name: config[name] for name in unread}
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, **unread).eval()
    end = end_of_text_of(original)
    wrong += compare("transformers and mynah from GGUF", arguments.mynah, arguments.file, original, model, end)
    if kinds.keys() == {"F32"}:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        wrong += compare("transformers from the directory, mynah from GGUF", arguments.mynah, arguments.file, original,
                         model, end)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["read", "write"])
    parser.add_argument("dir")
    parser.add_argument("file")
    parser.add_argument("--mynah", default="target/release/mynah")
    arguments = parser.parse_args()
    sys.exit((read if arguments.what == "read" else write)(arguments) > 0)


if __name__ == "__main__":
    main()

"""Writes the golden GGUF files: the tiny models of `golden_models.py` as the gguf package writes them, and its blocks.

    python tools/golden_gguf.py [--out crates/lm/tests/golden]

Three things come out:

* `gguf/NAME.gguf`: `NAME-tiny` under llama.cpp's names and in its layout, with a tokenizer of a few dozen tokens; the tensors
  take turns in F32, F16 and BF16. Every architecture has another way of cutting text (`tokenizer.ggml.pre`). Llama's has
  the factors of Llama 3's rotary embedding, computed as llama.cpp's converter does;
* `gguf/tokens.json`: of each file the texts of TEXTS as ids, as the `tokenizers` library makes them of the published
  tokenizers' parts;
* `gguf/blocks.safetensors`: of every format FORMAT some blocks as `FORMAT.bytes` and what they stand for as `FORMAT.values`;
  for those that the package can quantise to, `values` are what the bytes were made of.
"""

import argparse
import json
import math
import pathlib

import gguf
import numpy as np
import tokenizers
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

SEED = 20241124
END_OF_TEXT = "<|endoftext|>"
USER_DEFINED = "<think>"
LETTERS = "thewl'L123457 é"
MERGES = ["t h", "th e", "Ġ the", "' l", "'l l", "' L", "'L L", "1 2", "12 3", "3 4", "Ġ w", "Ġw e", "Ã ©", "Ġ 1"]
TEXTS = ["the we'll", " the  the we'LL", "12345 123 \n\n 12", "thé the\u0301 34th", END_OF_TEXT, "<think>12"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
# How each file cuts text, by the name of llama.cpp: whether the vocabulary goes before merges, and whether NFC comes first.
PRES = {"gpt2": ("gpt-2", False, False), "llama": ("llama-bpe", True, False), "qwen2": ("qwen2", False, True),
        "qwen3": ("smollm", False, False)}
# Llama 3.1's, as its config.json has it.
FACTOR, LOW, HIGH, ORIGINAL = 8.0, 1.0, 4.0, 8192


def vocabulary():
    """Tokens in the order of ids: the specials, the characters, the merges."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = sorted({c for letter in LETTERS for c in byte_level.pre_tokenize_str(letter)[0][0]})
    return [END_OF_TEXT, USER_DEFINED] + letters + [merge.replace(" ", "") for merge in MERGES]


def tokenizer(pre):
    """The tokenizer that a file describes, made of the parts that published ones have."""
    name, ignore_merges, nfc = pre
    tokens = vocabulary()
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    model = models.BPE({token: i for i, token in enumerate(tokens)}, merges, ignore_merges=ignore_merges)
    made = tokenizers.Tokenizer(model)
    if nfc:
        made.normalizer = normalizers.NFC()
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name == "gpt-2":
        made.pre_tokenizer = whole
    elif name == "smollm":
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    else:
        split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[name]), behavior="isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([split, alphabet])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, normalized=False, special=True)])
    made.add_tokens([tokenizers.AddedToken(USER_DEFINED, normalized=False, special=False)])
    # Text never becomes a special token.
    made.encode_special_tokens = True
    return made


def rope_factors(theta, head_dim):
    """By how much each pair turns slower, in single precision."""
    factors = []
    for frequency in 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)):
        wavelength = 2 * math.pi / frequency
        if wavelength < ORIGINAL / HIGH:
            factors.append(1)
        elif wavelength > ORIGINAL / LOW:
            factors.append(FACTOR)
        else:
            smooth = (ORIGINAL / wavelength - LOW) / (HIGH - LOW)
            factors.append(1 / ((1 - smooth) / FACTOR + smooth))
    return torch.tensor(factors, dtype=torch.float32).numpy()


def write_config(writer, name, config, vocab_size):
    if name == "gpt2":
        writer.add_block_count(config["n_layer"])
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if head_dim * config["num_attention_heads"] != config["hidden_size"]:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if name == "llama":
        writer.add_vocab_size(vocab_size)
        writer.add_rope_dimension_count(head_dim)


def write_tokenizer(writer, pre, vocab_size):
    tokens = vocabulary()
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    kinds[0], kinds[1] = gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
    for i in range(len(tokens), vocab_size):
        tokens.append(f"[PAD{i}]")
        kinds.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre[0])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(pre[0] == "llama-bpe")
    writer.add_chat_template(TEMPLATE)


def tensors(name, directory, config):
    """The directory's tensors under the names and in the layout of GGUF."""
    arch = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[name]
    names = gguf.get_tensor_name_map(arch, config.get("n_layer") or config["num_hidden_layers"])
    heads = {"q_proj": config.get("num_attention_heads"), "k_proj": config.get("num_key_value_heads")}
    for theirs, values in sorted(load_file(directory / "model.safetensors").items()):
        base, suffix = theirs.rsplit(".", 1)
        leaf = base.rsplit(".", 1)[-1]
        if name == "gpt2" and leaf.startswith("c_") and values.ndim == 2:
            values = values.T
        if name == "llama" and heads.get(leaf):
            half = values.shape[0] // heads[leaf] // 2
            values = values.reshape(heads[leaf], 2, half, -1).swapaxes(1, 2).reshape(values.shape)
        yield f"{names.get_name(base)}.{suffix}", np.ascontiguousarray(values)


def write_model(out, name):
    directory = out / f"{name}-tiny"
    config = json.loads((directory / "config.json").read_text())
    found = dict(tensors(name, directory, config))
    vocab_size = found["token_embd.weight"].shape[0]
    writer = gguf.GGUFWriter(out / "gguf" / f"{name}.gguf", name)
    writer.add_name(f"{name} tiny")
    write_config(writer, name, config, vocab_size)
    write_tokenizer(writer, PRES[name], vocab_size)
    if name == "llama":
        head_dim = config["head_dim"]
        writer.add_tensor("rope_freqs.weight", rope_factors(config["rope_parameters"]["rope_theta"], head_dim))
    kinds = [Type.F32, Type.F16, Type.BF16]
    for i, (tensor, values) in enumerate(found.items()):
        kind = kinds[i % 3] if values.ndim == 2 else Type.F32
        writer.add_tensor(tensor, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def blocks():
    random = np.random.default_rng(SEED)
    values = random.standard_normal((3, 256)).astype(np.float32)
    values[0, :32] = 0.0
    values[1] *= np.exp(random.uniform(-20, 5, 256)).astype(np.float32)
    values[2, 64:96] = -np.abs(values[2, 64:96])
    found = {"values": values}
    for kind in [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1]:
        found[f"{kind.name}.bytes"] = gguf.quants.quantize(values, kind).view(np.uint8).ravel()
    for kind, halves in [(Type.Q4_K, [0, 2]), (Type.Q5_K, [0, 2]), (Type.Q6_K, [208])]:
        # Any bytes are blocks, as long as the scales are no huge numbers.
        size = gguf.GGML_QUANT_SIZES[kind][1]
        data = random.integers(0, 256, (2, size), dtype=np.uint8)
        for at in halves:
            data[:, at:at + 2] = random.standard_normal((2, 1)).astype(np.float16).view(np.uint8)
        found[f"{kind.name}.bytes"] = data.ravel()
    for name in [name for name in found if name.endswith(".bytes")]:
        kind = Type[name.split(".")[0]]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        data = found[name].reshape(-1, size)
        if kind == Type.F16:
            data = data.view(np.float16)
        found[name.replace("bytes", "values")] = gguf.quants.dequantize(data, kind).ravel()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("crates/lm/tests/golden"))
    out = parser.parse_args().out
    (out / "gguf").mkdir(exist_ok=True)
    tokens = {}
    for name, pre in PRES.items():
        write_model(out, name)
        made = tokenizer(pre)
        tokens[name] = [made.encode(text, add_special_tokens=False).ids for text in TEXTS]
    golden = {"texts": TEXTS, "ids": tokens, "chat_template": TEMPLATE}
    (out / "gguf/tokens.json").write_text(json.dumps(golden, ensure_ascii=True) + "\n")
    versions = {"gguf": __import__("importlib.metadata", fromlist=["version"]).version("gguf"),
                "tokenizers": tokenizers.__version__}
    save_file(blocks(), out / "gguf/blocks.safetensors", versions)
    for name, ids in tokens.items():
        print(name, ids)


if __name__ == "__main__":
    main()

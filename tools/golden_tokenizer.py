"""Makes what Python's `tokenizers` learns from a small text, and its ids: crates/text/tests/golden/tokenizer.json (GPT-2's kind)
and foreign_tokenizers.json (the kinds of other models).

usage: python tools/golden_tokenizer.py   (needs the package `tokenizers`; the fixture names the version used)
"""

import json
import pathlib

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

DOCUMENTS = [
    "The lighthouse keeper counted the ships. There were seven ships, then eight, and by night there were none.\n",
    "fn main() {\n    let ships = [7, 8, 0];\n    for ship in ships {\n        println!(\"{ship}\");\n    }\n}\n",
    "for ship in ships:\n    if ship > 7:\n        print(ship, 'ships')\n\n\nclass Keeper:\n    pass\n",
    "He's sure they're late; we'll wait, I'd say, till it's 10 o'clock. You've seen it, haven't you? I'm not.\n",
    "灯塔的看守人数着船。七艘船，然后八艘船，夜里一艘也没有了。\n船😀船😀\n",
    "aaaa aaaaaaaa aaaaaaaaaaaa abababab  \t\t  \r\n\r\n  1000 10000 100000\n",
]
CASES = DOCUMENTS + [
    "",
    " ",
    "   leading and trailing   ",
    "tabs\t\tand\nnew\n\nlines \n \n x",
    "I'll, HE'S, they'd've, 'tis, rock'n'roll, '''",
    "x=3.14159; y²=½; Ⅷ ٣٤ 三百",
    "naïve façade Ærøskøbing ÇĞŞ e\u0301 \u200b zero\u200dwidth \ufeff",
    "no-break\u00a0space, ideographic\u3000space, next\u0085line, line\u2028separator, \u180e\u001c\u001f",
    "👩‍👩‍👧 🇫🇷 ❤️ 😀😀😀",
    "混合 mixed テキスト 한국어 עברית العربية हिन्दी ไทย",
    "control \u0000 \u0001 \u007f characters",
    "a special <|endoftext|> inside, and <|user|> too",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\U0001f1e6\U0010ffff\ue000 \u0378",
]
SPECIAL = ["<|endoftext|>", "<|user|>"]
VOCAB_SIZE = 420

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(
    DOCUMENTS,
    trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(name, special=True) for name in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    ),
)
# Text is text: the string of a special token in it is not one.
tokenizer.encode_special_tokens = True


def write(name, golden):
    golden = {"made_by": f"tools/golden_tokenizer.py with tokenizers {tokenizers.__version__}", **golden}
    path = pathlib.Path(__file__).parent.parent / "crates/text/tests/golden" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes")


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


write(
    "tokenizer.json",
    {
        "documents": DOCUMENTS,
        "vocab_size": VOCAB_SIZE,
        "special": SPECIAL,
        "tokenizer": json.loads(tokenizer.to_str()),
        "cases": [[text, ids(tokenizer, text)] for text in CASES],
    },
)


def trained(model, trainer, special, *, normalizer=None, pre_tokenizer=None, decoder, **options):
    """A tokenizer of these parts, learned from DOCUMENTS; it treats the string of a special token as text."""
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    special = [AddedToken(name, special=True) for name in special]
    tokenizer.train_from_iterator(DOCUMENTS, trainer(special_tokens=special, show_progress=False, **options))
    tokenizer.encode_special_tokens = True
    return tokenizer


byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
alphabet = pre_tokenizers.ByteLevel.alphabet()
bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
metaspace = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
from_metaspace = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]

# GPT-NeoX (Black et al. 2022): NFC, and runs of spaces as added tokens that are not special.
neox = trained(
    models.BPE(), trainers.BpeTrainer, ["<|endoftext|>", "<|padding|>"], vocab_size=VOCAB_SIZE, initial_alphabet=alphabet,
    normalizer=normalizers.NFC(), pre_tokenizer=byte_level, decoder=decoders.ByteLevel(),
)
neox.add_tokens([AddedToken(" " * n, normalized=True, special=False) for n in range(24, 1, -1)])
# SmolLM2: digits one by one; the vocabulary has only those bytes that its text had.
smollm = trained(
    models.BPE(), trainers.BpeTrainer, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], vocab_size=300,
    pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
    decoder=decoders.ByteLevel(),
)
# Llama 2: SentencePiece's spaces, byte fallback, a token before every text; as BPE and, like its cousins, as Unigram (Kudo 2018).
llama = trained(
    models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True), trainers.BpeTrainer, ["<unk>", "<s>", "</s>", *bytes_],
    vocab_size=VOCAB_SIZE, limit_alphabet=60, normalizer=normalizers.Sequence(metaspace),
    decoder=decoders.Sequence(from_metaspace),
)
starts = [("<s>", llama.token_to_id("<s>"))]
llama.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=starts)
unigram = trained(
    models.Unigram(), trainers.UnigramTrainer, ["<unk>", "<s>", "</s>", *bytes_], unk_token="<unk>", vocab_size=400,
    normalizer=normalizers.Sequence(metaspace), decoder=decoders.Sequence(from_metaspace),
)
unigram = json.loads(unigram.to_str())
unigram["model"]["byte_fallback"] = True
# GPT-1 (Radford et al. 2018): lower case, words that end in </w>; no end of text.
gpt1 = trained(
    models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), trainers.BpeTrainer, ["<unk>"], vocab_size=VOCAB_SIZE,
    end_of_word_suffix="</w>", normalizer=normalizers.BertNormalizer(lowercase=True),
    pre_tokenizer=pre_tokenizers.BertPreTokenizer(), decoder=decoders.BPEDecoder("</w>"),
)


def without_bytes_as_added(tokenizer):
    """The entries for bytes belong to the model alone: only training needs them as special tokens."""
    file = json.loads(tokenizer) if isinstance(tokenizer, str) else tokenizer
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] not in bytes_]
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.encode_special_tokens = True
    return tokenizer


def foreign(name, tokenizer, eos=None, before="", after=""):
    """What decoding gives here is `before` and `after` around what it gives in Python, which strips at both ends."""
    cases = [(text, ids(tokenizer, text)) for text in CASES]
    cases = [(text, ids, tokenizer.decode(ids, skip_special_tokens=False)) for text, ids in cases]
    return {
        "name": name, "eos": eos, "before": before, "after": after, "tokenizer": json.loads(tokenizer.to_str()), "cases": cases,
        "from_start": [tokenizer.encode(text).ids for text in CASES[:4]],
    }


write(
    "foreign_tokenizers.json",
    {
        "tokenizers": [
            foreign("gpt-neox", neox),
            foreign("smollm2", smollm),
            foreign("llama-2", without_bytes_as_added(llama.to_str()), eos="</s>", before=" "),
            foreign("unigram", without_bytes_as_added(unigram), eos="</s>", before=" "),
            foreign("gpt-1", gpt1, after=" "),
        ],
    },
)

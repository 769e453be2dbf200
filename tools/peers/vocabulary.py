"""Seconds that `tokenizers` and rustbpe take to learn a vocabulary, and megabytes a second that tiktoken encodes with it, beside
`mynah tokenizer train` and `tools/compare_tokenizer.py`:

    python tools/peers/vocabulary.py --texts corpus/train-00000.jsonl --vocab-size 8192
"""

import argparse
import json
import statistics
import time

import rustbpe
import tiktoken
import tokenizers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

# GPT-4's way to cut text.
PATTERN = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""

parser = argparse.ArgumentParser()
parser.add_argument("--texts", required=True, help="JSON lines with a field text")
parser.add_argument("--vocab-size", type=int, default=8192)
parser.add_argument("--repetitions", type=int, default=3)
options = parser.parse_args()

texts = [json.loads(line)["text"] for line in open(options.texts, encoding="utf-8")]
megabytes = sum(len(text.encode()) for text in texts) / 1e6


def with_tokenizers():
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, in_bytes])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=options.vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)


def with_rustbpe():
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), options.vocab_size, pattern=PATTERN)
    return tokenizer


def median_secs(work):
    secs = []
    for _ in range(options.repetitions):
        began = time.perf_counter()
        work()
        secs.append(time.perf_counter() - began)
    return statistics.median(secs)


ranks = {bytes(token): rank for token, rank in with_rustbpe().get_mergeable_ranks()}
encoding = tiktoken.Encoding("rustbpe", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
encode_secs = median_secs(lambda: [encoding.encode_ordinary(text) for text in texts])
print(
    json.dumps(
        {
            "megabytes": megabytes,
            "vocab_size": options.vocab_size,
            "tokenizers_secs": median_secs(with_tokenizers),
            "rustbpe_secs": median_secs(with_rustbpe),
            "tiktoken_mb_per_sec": megabytes / encode_secs,
            "versions": {"tokenizers": tokenizers.__version__, "tiktoken": tiktoken.__version__},
        }
    )
)

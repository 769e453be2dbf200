"""Compares mynah's ids with those of Python's `tokenizers`, text by text, and the speed of both.

usage: python tools/compare_tokenizer.py TOKENIZER_DIR FILE…
FILE: text, or JSON lines whose strings are texts each; may end in .gz. Needs `tokenizers`, and the example `encode` built:
cargo build --release -p mynah-gpt --example encode
"""

import collections
import gzip
import json
import pathlib
import subprocess
import sys
import time

import tokenizers


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def texts(path):
    data = (gzip.open if path.endswith(".gz") else open)(path, "rb").read().decode("utf-8")
    if ".jsonl" not in path:
        return [data]
    # Strings that are not text a person wrote, such as labels, are texts as well.
    return [text for line in data.split("\n") if line.strip() for text in strings(json.loads(line))]


directory, *files = sys.argv[1:]
root = pathlib.Path(__file__).parent.parent
python = tokenizers.Tokenizer.from_file(f"{directory}/tokenizer.json")
python.encode_special_tokens = True  # Text is text here, and in mynah.
python.no_truncation()
special = [token.content for token in python.get_added_tokens_decoder().values() if token.special]
total = collections.Counter()
for file in files:
    documents = texts(file)
    began = time.perf_counter()
    theirs = [encoding.ids for encoding in python.encode_batch_fast(documents, add_special_tokens=False)]
    seconds = time.perf_counter() - began
    lines = "".join(json.dumps(text) + "\n" for text in documents)
    example = subprocess.run(
        [root / "target/release/examples/encode", directory], input=lines.encode(), capture_output=True, check=True
    )
    ours = [json.loads(line) for line in example.stdout.splitlines()]
    assert len(ours) == len(theirs) == len(documents)
    different = [i for i in range(len(ours)) if ours[i] != theirs[i]]
    with_special = sum(any(name in text for name in special) for text in documents)
    size = sum(len(text.encode()) for text in documents)
    total += collections.Counter(texts=len(documents), bytes=size, different=len(different), with_special=with_special)
    print(f"{pathlib.Path(file).name}: {len(different)} of {len(documents)} differ; {with_special} with a special token's string")
    print(f"    mynah   {example.stderr.decode().strip()}")
    print(f"    python  {size / 1e6 / seconds:.2f} MB/s")
    for i in different[:3]:
        at = next((j for j, (a, b) in enumerate(zip(ours[i], theirs[i])) if a != b), 0)
        print(f"    first difference: {ours[i][at : at + 8]} {theirs[i][at : at + 8]} in {documents[i][:60]!r}")
print(dict(total))
sys.exit(total["different"] > 0)

"""Makes crates/gpt/tests/golden/parquet/: small tables that pyarrow writes with every codec and encoding, and their rows,
which stand there as compressed JSON lines too.

usage: python tools/golden_parquet.py   (needs the package `pyarrow`; rows.json names the version used)
"""

import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent.parent / "crates/gpt/tests/golden/parquet"
LICENSES = ["mit", "apache-2.0", "GPL-3.0", None]


def row(i):
    words = " ".join(f"word{(i * k) % 37}" for k in range(1, 12))
    return {
        "title": None if i % 5 == 0 else f"Title {i} — 标题",
        "text": f"Row {i}: {words}.\nA second line, the same in all rows.\n",
        "path": f"src/part_{i % 3}/file_{i}.md",
        "license": LICENSES[i % 4],
        "stars": None if i % 7 == 0 else i % 3,
        "size": 10_000_000_000 + i,
        "fork": i % 2 == 0,
        "licenses": None if i % 11 == 0 else [LICENSES[k % 3] for k in range(i % 4)],
        "meta": {"language": ["en", "de", None][i % 3], "score": i / 2},
    }


ROWS = [row(i) for i in range(90)]
SCHEMA = pa.schema(
    [
        ("title", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        ("path", pa.string()),
        ("license", pa.string()),
        ("stars", pa.int32()),
        ("size", pa.int64()),
        ("fork", pa.bool_()),
        ("licenses", pa.list_(pa.string())),
        ("meta", pa.struct([("language", pa.string()), ("score", pa.float64())])),
    ]
)
STRINGS = ["title", "text", "path", "license"]
FILES = {
    "plain": dict(compression="none", use_dictionary=False),
    "snappy-dictionary": dict(compression="snappy"),
    "snappy-v2": dict(compression="snappy", data_page_version="2.0"),
    "zstd": dict(compression="zstd", use_dictionary=False),
    "zstd-v2": dict(compression="zstd", data_page_version="2.0"),
    "gzip": dict(compression="gzip", use_dictionary=["license"]),
    "lz4": dict(compression="lz4"),
    "brotli": dict(compression="brotli"),
    "delta-length": dict(
        compression="zstd",
        use_dictionary=False,
        column_encoding={name: "DELTA_LENGTH_BYTE_ARRAY" for name in STRINGS} | {"size": "DELTA_BINARY_PACKED"},
    ),
    "delta": dict(
        compression="snappy",
        use_dictionary=False,
        data_page_version="2.0",
        column_encoding={name: "DELTA_BYTE_ARRAY" for name in STRINGS} | {"stars": "DELTA_BINARY_PACKED"},
    ),
}

OUT.mkdir(parents=True, exist_ok=True)
for old in OUT.iterdir():
    old.unlink()
table = pa.Table.from_pylist(ROWS, schema=SCHEMA)
for name, settings in FILES.items():
    # Small pages and groups, so that values and lists cross their edges.
    pq.write_table(
        table, OUT / f"{name}.parquet", row_group_size=40, data_page_size=600, write_batch_size=7, **settings
    )
numbers = pa.table({"x": [1, 2, 3], "y": [0.5, 0.25, 0.125]})
pq.write_table(numbers, OUT / "no-text.parquet")
lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
with pa.CompressedOutputStream(str(OUT / "rows.jsonl.zst"), "zstd") as stream:
    stream.write(lines)
text = {"version": pa.__version__, "rows": ROWS}
(OUT / "rows.json").write_text(json.dumps(text, ensure_ascii=False, indent=0) + "\n")
for file in sorted(OUT.iterdir()):
    print(file.name, file.stat().st_size)

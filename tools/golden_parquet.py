"""Makes crates/text/tests/golden/parquet/: small tables that pyarrow writes with every codec and encoding, and their rows,
which stand there as compressed JSON lines too; and crates/text/tests/golden/tables/: tables whose row groups are empty here and
there, a table of conversations, and their rows.

usage: python tools/golden_parquet.py   (needs the package `pyarrow`; rows.json names the version used)
"""

import datetime
import json
import math
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent.parent / "crates/text/tests/golden/parquet"
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

TABLES = OUT.parent / "tables"
TABLES.mkdir(exist_ok=True)
for old in TABLES.iterdir():
    old.unlink()

# Rows in groups of these sizes.
GROUPS = {"first": [0, 3, 4], "middle": [3, 0, 4], "last": [3, 4, 0], "alone": [0], "many": [0, 0, 5, 0, 0, 2, 0]}
WRITERS = {
    "plain": dict(use_dictionary=False),
    "dictionary": dict(),
    "plain-v2": dict(use_dictionary=False, data_page_version="2.0"),
    "dictionary-v2": dict(data_page_version="2.0"),
}
FIELDS = ["title", "text", "licenses"]
few = table.select(FIELDS).slice(0, 7)
for place, sizes in GROUPS.items():
    for how, settings in WRITERS.items():
        with pq.ParquetWriter(TABLES / f"groups-{place}-{how}.parquet", few.schema, **settings) as writer:
            start = 0
            for size in sizes:
                writer.write_table(few.slice(start, size))
                start += size
pq.ParquetWriter(TABLES / "no-groups.parquet", few.schema).close()
pq.write_table(pa.table({}), TABLES / "no-columns.parquet")


def conversation(i):
    messages = [
        {"role": "user", "content": f"What is {i} + 1?"},
        {"role": "assistant", "content": None if i == 5 else f"{i + 1}."},
    ]
    return {
        "messages": None if i == 3 else messages[: i % 4],
        "prompt": f"What is {i} + 1?",
        "chosen": messages,
        "tags": None if i == 2 else [["a", None], None, [], [f"t{i}"]][: i % 5],
        "nested": None if i == 4 else {"list": [{"names": [f"n{k}"] * k, "k": k} for k in range(i % 3)], "last": i},
        "options": [("easy", i), ("hard", None)][: i % 3],
        "score": [math.nan, math.inf, 0.5, None, 1e300][i % 5],
        "small": i / 10,
        "count": 2**63 + i,
        "short": 4_000_000_000 + i,
        "when": datetime.datetime(2024, 2, 29, 12, i),
        "day": datetime.date(2024, 2, 29),
        "image": {"bytes": bytes([0x89, 0x50, 0xFF, i]), "path": None},
        "large": f"large {i}",
        "label": i % 2 == 0,
    }


turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
named = pa.struct([("names", pa.list_(pa.string())), ("k", pa.int8())])
schema = pa.schema(
    [
        ("messages", turns),
        pa.field("prompt", pa.string(), nullable=False),
        ("chosen", turns),
        ("tags", pa.list_(pa.list_(pa.string()))),
        ("nested", pa.struct([("list", pa.list_(named)), ("last", pa.int16())])),
        ("options", pa.map_(pa.string(), pa.int32())),
        ("score", pa.float64()),
        ("small", pa.float32()),
        ("count", pa.uint64()),
        ("short", pa.uint32()),
        ("when", pa.timestamp("us")),
        ("day", pa.date32()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("large", pa.large_string()),
        ("label", pa.bool_()),
    ]
)
rows = [conversation(i) for i in range(12)]
conversations = pa.Table.from_pylist(rows, schema=schema)
for how, settings in WRITERS.items():
    pq.write_table(
        conversations, TABLES / f"conversations-{how}.parquet", row_group_size=5, data_page_size=64, write_batch_size=2, **settings
    )


def as_json(row):
    """What a reader of JSON finds, with nothing in the place of what JSON has not."""
    row["options"] = [{"key": key, "value": value} for key, value in row["options"]]
    if row["score"] is not None and not math.isfinite(row["score"]):
        row["score"] = None
    epoch = datetime.datetime(1970, 1, 1)
    row["when"] = int((row["when"] - epoch).total_seconds()) * 1_000_000
    row["day"] = (row["day"] - epoch.date()).days
    row["image"]["bytes"] = None
    return row


text = {"version": pa.__version__, "rows": [as_json(row) for row in rows]}
(TABLES / "conversations.json").write_text(json.dumps(text, ensure_ascii=False, indent=0) + "\n")
for file in [*sorted(OUT.iterdir()), *sorted(TABLES.iterdir())]:
    print(file.name, file.stat().st_size)

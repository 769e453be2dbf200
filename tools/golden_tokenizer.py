"""Makes crates/gpt/tests/golden/tokenizer.json: what Python's `tokenizers` learns from a small text, and its ids.

usage: python tools/golden_tokenizer.py   (needs the package `tokenizers`; the fixture names the version used)
"""

import json
import pathlib

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

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
golden = {
    "made_by": f"tools/golden_tokenizer.py with tokenizers {tokenizers.__version__}",
    "documents": DOCUMENTS,
    "vocab_size": VOCAB_SIZE,
    "special": SPECIAL,
    "tokenizer": json.loads(tokenizer.to_str()),
    "cases": [[text, tokenizer.encode(text, add_special_tokens=False).ids] for text in CASES],
}
path = pathlib.Path(__file__).parent.parent / "crates/gpt/tests/golden/tokenizer.json"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
print(f"{path}: {len(CASES)} cases, {tokenizer.get_vocab_size()} tokens")

"""Prompts whose answers can be checked, for `mynah grpo` with models that others trained: sums with their right answers as keys, and small functions
with tests. No sum and no function, whatever its name, is in both files; the same seed writes the same bytes.

    python tools/checked_tasks.py sums --train 400 --held-out 64 --out sums            → sums-train.jsonl, sums-held-out.jsonl
    python tools/checked_tasks.py small-sums --train 100 --held-out 44 --out small-sums
    python tools/checked_tasks.py functions --train 300 --held-out 48 --out functions
"""

import argparse
import json
import random


def sums(rng, _):
    """Two terms below 100 or three below 20, added and subtracted; the key is a whole number, not below 0. What is asked, and its row."""
    terms = [rng.randrange(2, 100) for _ in range(2)] if rng.random() < 0.5 else [rng.randrange(2, 20) for _ in range(3)]
    text, value = str(terms[0]), terms[0]
    for term in terms[1:]:
        minus = rng.random() < 0.4 and term <= value
        text, value = f"{text} {'-' if minus else '+'} {term}", value - term if minus else value + term
    return text, {"prompt": f"What is {text}? Answer with the number alone.", "answer": value}


def small_sums(rng, _):
    """Two terms from 1 to 12, added: 144 in all."""
    terms = [rng.randrange(1, 13) for _ in range(2)]
    text = f"{terms[0]} + {terms[1]}"
    return text, {"prompt": f"What is {text}? Answer with the number alone.", "answer": sum(terms)}


def ints(rng):
    return rng.randrange(-9, 30)


def numbers(rng):
    return [rng.randrange(-9, 30) for _ in range(rng.randrange(1, 7))]


def words(rng):
    return "".join(rng.choice("abcdelnorstuy") for _ in range(rng.randrange(3, 10)))


# Parameter, what draws it, what is to be returned in words, what is returned; K is a number from 2 to 9.
FUNCTIONS = [
    ("x", ints, "x plus K", lambda x, k: x + k),
    ("x", ints, "x minus K", lambda x, k: x - k),
    ("x", ints, "x times K", lambda x, k: x * k),
    ("x", ints, "the square of x plus K", lambda x, k: x * x + k),
    ("x", ints, "K times x, plus 1", lambda x, k: k * x + 1),
    ("x", ints, "the remainder of x divided by K", lambda x, k: x % k),
    ("x", ints, "True if x is divisible by K, else False", lambda x, k: x % k == 0),
    ("x", ints, "True if x is greater than K, else False", lambda x, k: x > k),
    ("x", ints, "the larger of x and K", max),
    ("x", ints, "the absolute difference of x and K", lambda x, k: abs(x - k)),
    ("items", numbers, "the sum of the list items, times K", lambda items, k: sum(items) * k),
    ("items", numbers, "the length of the list items, plus K", lambda items, k: len(items) + k),
    ("items", numbers, "the largest number of the list items, plus K", lambda items, k: max(items) + k),
    ("items", numbers, "the first number of the list items, times K", lambda items, k: items[0] * k),
    ("items", numbers, "how many numbers of the list items are greater than K", lambda items, k: sum(i > k for i in items)),
    ("items", numbers, "a list of the numbers of items that are greater than K", lambda items, k: [i for i in items if i > k]),
    ("items", numbers, "a list with K added to each number of items", lambda items, k: [i + k for i in items]),
    ("text", words, "the string text repeated K times", lambda text, k: text * k),
    ("text", words, "the first K characters of the string text", lambda text, k: text[:k]),
    ("text", words, "the string text without its first K characters", lambda text, k: text[k:]),
    ("text", words, "the length of the string text, times K", lambda text, k: len(text) * k),
    ("text", words, "True if the string text has more than K characters, else False", lambda text, k: len(text) > k),
]


def functions(rng, name):
    """One function of the family, with six tests. What is asked, and its row."""
    parameter, draw, said, value = rng.choice(FUNCTIONS)
    k = rng.randrange(2, 10)
    said = said.replace("K", str(k))
    asked = f"Write a Python function {name}({parameter}) that returns {said}. Reply with the code alone."
    arguments = [draw(rng) for _ in range(6)]
    tests = "\n".join(f"assert {name}({argument!r}) == {value(argument, k)!r}" for argument in arguments)
    return said, {"prompt": asked, "entry_point": name, "tests": tests}


KINDS = {"sums": sums, "small-sums": small_sums, "functions": functions}
# Of functions, one of a few names, so that no prompt tells its contents by it.
NAMES = ["f", "g", "compute", "solve", "answer"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="what both files' names begin with")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    wanted = {"held-out": options.held_out, "train": options.train}
    rows, held_out = {name: {} for name in wanted}, set()
    for _ in range(1000 * sum(wanted.values())):
        about, row = KINDS[options.kind](rng, rng.choice(NAMES))
        # What is drawn first is held out, each once.
        part = "held-out" if len(held_out) < options.held_out else "train"
        if about in held_out or len(rows[part]) == wanted[part]:
            continue
        rows[part].setdefault(row["prompt"], row)
        if part == "held-out":
            held_out.add(about)
    for name, drawn in rows.items():
        assert len(drawn) == wanted[name], f"there are only {len(drawn)} different prompts for {name}"
        with open(f"{options.out}-{name}.jsonl", "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in drawn.values())


main()

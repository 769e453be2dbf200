"""Writes samples that must all fail: every problem's own solution, its answers replaced by wrong ones of the same type.

    python tools/flip_solutions.py HumanEval.jsonl.gz > flipped.jsonl
    mynah grade --problems HumanEval.jsonl.gz --samples flipped.jsonl
"""

import gzip
import json
import sys

FLIP = '''


def _wrong(answer):
    if isinstance(answer, bool):
        return not answer
    if isinstance(answer, (int, float)):
        return answer + 1
    if isinstance(answer, str):
        return answer + "?"
    if isinstance(answer, (list, tuple)):
        return type(answer)(list(answer) + [None])
    if isinstance(answer, dict):
        return {**answer, "?": None}
    return 0 if answer is None else None


def _flipped(function):
    return lambda *arguments: _wrong(function(*arguments))


NAME = _flipped(NAME)
'''


def main():
    path = sys.argv[1]
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as lines:
        for line in lines:
            problem = json.loads(line)
            completion = problem["canonical_solution"] + FLIP.replace("NAME", problem["entry_point"])
            print(json.dumps({"task_id": problem["task_id"], "completion": completion}))


main()

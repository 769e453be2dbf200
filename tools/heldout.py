"""What a trained model says of text that it never saw, for scripts that compare trainings."""

import json
import subprocess


def bits_per_byte(mynah, run, rows):
    """Of all text in a file of rows, one text after another; a training's own figure is of windows of its length."""
    words = [mynah, "eval", "--model", run, "--tasks", rows, "--json"]
    done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout.splitlines()[-1])["tasks"].values()
    return found["value"]

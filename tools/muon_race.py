#!/usr/bin/env python3
"""Pretrains the same by AdamW and by Muon, at equal operations and at equal time, and prints one table.

    tools/muon_race.py --mynah target/release/mynah --data TOKENS --heldout CORPUS/val-00000.jsonl --dir /tmp/race
    tools/muon_race.py … --dry-run           says what would be run

First each optimizer's rate: short runs of the first seed at every rate of --lr, by held-out bits per byte at their end. Then, with
the better rate of each, one run for each seed and as many steps for both. What Muon's steps take longer is measured in these runs,
one after another on this machine; at equal time AdamW makes as many more steps, with the schedule of that length. Nothing else may
run meanwhile. Runs that are there are not run again. What is compared is bits per byte of all held-out text by `mynah eval`.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

from heldout import bits_per_byte

OPTIMIZERS = ["adamw", "muon"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mynah", default="target/release/mynah")
    parser.add_argument("--data", required=True, help="token shards")
    parser.add_argument("--heldout", required=True, help="rows with a text")
    parser.add_argument("--dir", required=True, type=Path)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--trial-steps", type=int, default=800)
    parser.add_argument("--lr", default="1e-3,2e-3,4e-3,8e-3")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


class Race:
    def __init__(self, args):
        self.args = args

    def run(self, optimizer, lr, steps, seed):
        """The directory of a finished run; none where nothing is run."""
        args = self.args
        out = args.dir / f"{optimizer}-{lr}-{steps}-{seed}"
        words = [args.mynah, "pretrain", "--data", args.data, "--preset", args.preset, "--out", out, "--steps", steps]
        words += ["--lr", lr, "--seed", seed, "--set", f"optimizer={optimizer}"]
        words += ["--set", f"eval_every={max(1, steps // 10)}", "--set", "sample_every=0", "--quiet"]
        words = list(map(str, words))
        if args.dry_run:
            print(" ".join(words))
            return None
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}:\n{done.stderr}")
        return out

    def best_rate(self, optimizer, seed):
        rates = self.args.lr.split(",")
        runs = [(self.run(optimizer, lr, self.args.trial_steps, seed), lr) for lr in rates]
        if self.args.dry_run:
            return rates[0]
        found = {lr: last(out, "val_bpb") for out, lr in runs}
        print(f"{optimizer}: bits per byte after {self.args.trial_steps} steps by rate: {found}")
        return min(found, key=found.get)


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def last(run, key):
    return [line[key] for line in lines(run / "metrics.jsonl") if key in line][-1]


def step_secs(run):
    return statistics.median(line["step_secs"] for line in lines(run / "timings.jsonl") if "step_secs" in line)


def told(args, what, runs):
    values = [bits_per_byte(args.mynah, run, args.heldout) for run in runs]
    secs = statistics.mean(step_secs(run) for run in runs)
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    of_each = ", ".join(f"{value:.4f}" for value in values)
    print(f"| {what} | {statistics.mean(values):.4f}{spread} | {of_each} | {1000 * secs:.1f} |")


def main():
    args = arguments()
    race, seeds = Race(args), [int(seed) for seed in args.seeds.split(",")]
    if not args.dry_run:
        args.dir.mkdir(parents=True, exist_ok=True)
    rates = {optimizer: race.best_rate(optimizer, seeds[0]) for optimizer in OPTIMIZERS}
    # In turn, so that what changes on the machine changes for both.
    runs = {optimizer: [] for optimizer in OPTIMIZERS}
    for seed in seeds:
        for optimizer in OPTIMIZERS:
            runs[optimizer].append(race.run(optimizer, rates[optimizer], args.steps, seed))
    if args.dry_run:
        print("… and adamw once more for each seed, with as many more steps as Muon's take longer")
        return
    slower = statistics.mean(map(step_secs, runs["muon"])) / statistics.mean(map(step_secs, runs["adamw"]))
    longer = round(args.steps * slower)
    as_long = [race.run("adamw", rates["adamw"], longer, seed) for seed in seeds]
    print(f"\nrates: {rates}; a step of Muon's takes {slower:.3f} × AdamW's\n")
    print("| | held-out bits per byte | of each seed | ms a step |\n|---|---|---|---|")
    for optimizer in OPTIMIZERS:
        told(args, f"{optimizer}, {args.steps} steps", runs[optimizer])
    told(args, f"adamw, {longer} steps: as long as muon", as_long)


if __name__ == "__main__":
    main()

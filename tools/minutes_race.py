#!/usr/bin/env python3
"""`mynah pretrain --minutes M` beside presets that train as long, on a processor that is as slow as is asked for.

    tools/minutes_race.py --mynah target/release/mynah --data TOKENS --heldout CORPUS/val-00000.jsonl --dir /tmp/race --share 0.6

Every run has one thread, in a control group that gives it SHARE of one processor (this needs root). A preset first shows how much
processor time its steps take and then gets as many as the minutes hold; `--minutes` finds that out itself. `--at-once` of them run
beside each other: SHARE times that many may not be more than there are processors. Runs that are there are not run again. What is
compared is bits per byte of all held-out text by `mynah eval`.
"""

import argparse
import json
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from heldout import bits_per_byte

GROUPS = Path("/sys/fs/cgroup")
# Microseconds in which a group has its share.
PERIOD = 50_000
TRIAL = 25.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mynah", default="target/release/mynah")
    parser.add_argument("--data", required=True, help="token shards")
    parser.add_argument("--heldout", required=True, help="rows with a text")
    parser.add_argument("--dir", required=True, type=Path)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--presets", default="tiny,modern-tiny,nano,modern-nano")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--at-once", type=int, default=1)
    return parser.parse_args()


class Group:
    """A control group, of the first version or the second, with a share of one processor."""

    def __init__(self, name, share):
        quota = round(PERIOD * share)
        if (GROUPS / "cpu").is_dir():
            self.dir = GROUPS / "cpu" / name
            limits = {"cpu.cfs_period_us": PERIOD, "cpu.cfs_quota_us": quota, "cpu.shares": 20_000}
        else:
            self.dir = GROUPS / name
            limits = {"cpu.max": f"{quota} {PERIOD}", "cpu.weight": 2_000}
        self.dir.mkdir(exist_ok=True)
        for file, value in limits.items():
            (self.dir / file).write_text(str(value))

    def run(self, command, log):
        """Starts it in this group."""
        into = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', self.dir / "cgroup.procs", *command]
        return subprocess.Popen(list(map(str, into)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


class Race:
    def __init__(self, args):
        self.args = args

    def pretrain(self, out, *words, limit=None):
        """Trains, for `limit` seconds at most: seconds of wall clock and of the processor."""
        args = self.args
        command = [args.mynah, "pretrain", "--data", args.data, "--out", out, "--threads", 1, "--quiet"]
        command += ["--set", "sample_every=0", *words]
        group = Group(f"race-{os.getpid()}-{out.name}", args.share)
        begun = time.monotonic()
        with open(f"{out}.log", "w") as log:
            process = group.run(command, log)
            if limit:
                threading.Timer(limit, process.kill).start()
            _, status, used = os.wait4(process.pid, 0)
        group.dir.rmdir()
        if status and not limit:
            raise SystemExit(f"{command}: see {out}.log")
        return time.monotonic() - begun, used.ru_utime + used.ru_stime

    def steps(self, preset):
        """Of a preset that the minutes hold."""
        out = self.args.dir / f"{preset}-trial"
        _, used = self.pretrain(out, "--preset", preset, "--set", "eval_every=1000000", "--steps", 100_000, limit=TRIAL)
        done = sum("step_secs" in line for line in lines(out / "timings.jsonl"))
        return round(60.0 * self.args.minutes * self.args.share * done / used)

    def run(self, entry, steps, seed):
        out = self.args.dir / f"{entry}-{seed}"
        told = Path(f"{out}.json")
        if not told.exists():
            words = ["--minutes", self.args.minutes]
            if entry != "minutes":
                words = ["--preset", entry, "--steps", steps, "--set", f"eval_every={max(1, steps // 20)}"]
            secs, used = self.pretrain(out, "--seed", seed, *words)
            last = [line for line in lines(out / "metrics.jsonl") if "step" in line][-1]
            told.write_text(json.dumps({"entry": entry, "seed": seed, "secs": secs, "used": used, "steps": last["step"]}))
        return json.loads(told.read_text())

    def bits_per_byte(self, told):
        return bits_per_byte(self.args.mynah, self.args.dir / f"{told['entry']}-{told['seed']}", self.args.heldout)


def main():
    args = arguments()
    if args.share * args.at_once > len(os.sched_getaffinity(0)):
        raise SystemExit("so many at once have no such share each")
    args.dir.mkdir(parents=True, exist_ok=True)
    race, presets = Race(args), args.presets.split(",")
    with ThreadPoolExecutor(args.at_once) as pool:
        steps = dict(zip(presets, pool.map(race.steps, presets)))
        runs = [(entry, seed) for seed in args.seeds.split(",") for entry in ["minutes", *presets]]
        told = list(pool.map(lambda run: race.run(run[0], steps.get(run[0]), run[1]), runs))
        bits = list(pool.map(race.bits_per_byte, told))
    print("| | seed | steps | seconds | of the processor | bits per byte |\n|---|---|---|---|---|---|")
    for run, value in zip(told, bits):
        print(f"| {run['entry']} | {run['seed']} | {run['steps']} | {run['secs']:.0f} | {run['used']:.0f} | {value:.4f} |")


if __name__ == "__main__":
    main()

"""Two processes of one run over a link of limited bandwidth, beside what `mynah plan --count 2` tells of it.

    python tools/check_link.py --mynah target/release/mynah --tokens DIR --work DIR --rates 200 500 2000

Two network namespaces with a pair of virtual interfaces, both limited by `tbf` (root, `ip` and `tc` are needed), stand for two
machines of one core each; Open MPI starts a process in each. `--tokens` is what `mynah tokenize` wrote. What a process
computes is measured by a process alone with half of the sequences; bytes and latency are what the plan says of the
megabits a second of `--rates`. Medians of the steps but the first two. Nothing else should run.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

NETWORK, SPACES = "10.213.7", ("mynah-a", "mynah-b")
STEPS, BATCH = 9, 4096
AGENT = """#!/bin/sh
# Takes the place of ssh: the address is the name of a namespace.
case "$1" in *.1) space={0};; *) space={1};; esac
shift
exec ip netns exec "$space" sh -c "$*"
"""


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, **more)


def make_link():
    for space in SPACES:
        run("ip", "netns", "add", space)
    run("ip", "link", "add", "mynah-va", "netns", SPACES[0], "type", "veth", "peer", "name", "mynah-vb", "netns", SPACES[1])
    for number, (space, device) in enumerate(zip(SPACES, ("mynah-va", "mynah-vb")), 1):
        run("ip", "-n", space, "addr", "add", f"{NETWORK}.{number}/24", "dev", device)
        run("ip", "-n", space, "link", "set", device, "up")
        run("ip", "-n", space, "link", "set", "lo", "up")


def limit(megabits):
    for space, device in zip(SPACES, ("mynah-va", "mynah-vb")):
        run("ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", device, "root", "tbf",
            "rate", f"{megabits}mbit", "burst", "256kb", "latency", "200ms")


def take_down():
    for space in SPACES:
        subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL)


def pretrain(arguments, out, batch):
    return [arguments.mynah, "--threads", "1", "--precision", "f32", "--quiet", "pretrain", "--data", arguments.tokens,
            "--preset", arguments.preset, "--out", out, "--steps", STEPS, "--set", f"batch_tokens={batch}", "--set", "lanes=8",
            "--set", "eval_every=1000", "--set", "checkpoint_every=1000", "--set", "sample_every=0", "--set", "eval_windows=1"]


def step_secs(out):
    steps = [json.loads(line) for line in (out / "timings.jsonl").read_text().splitlines()]
    return statistics.median(step["step_secs"] for step in steps[2:])


def vocabulary(tokens):
    return json.loads((tokens / "meta.json").read_text())["vocab_size"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mynah", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--preset", default="baby")
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 500, 2000])
    arguments = parser.parse_args()
    arguments.mynah, arguments.tokens, work = arguments.mynah.resolve(), arguments.tokens.resolve(), arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    agent = work / "agent.sh"
    agent.write_text(AGENT.format(*SPACES))
    agent.chmod(0o755)
    take_down()
    right = True
    try:
        make_link()
        run(*pretrain(arguments, work / "half", BATCH // 2), stdout=subprocess.DEVNULL)
        compute = step_secs(work / "half")
        print(f"a process with half of the sequences: {compute:.2f} s a step", flush=True)
        for rate in arguments.rates:
            limit(rate)
            out = work / f"link-{rate}"
            run("ip", "netns", "exec", SPACES[0], "mpirun", "--allow-run-as-root", "-n", "2", "--host", f"{NETWORK}.1:1,{NETWORK}.2:1",
                "--bind-to", "none", "--mca", "plm_rsh_agent", agent, "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", f"{NETWORK}.0/24",
                "--mca", "oob_tcp_if_include", f"{NETWORK}.0/24", *pretrain(arguments, out, BATCH), stdout=subprocess.DEVNULL)
            told = json.loads(run(arguments.mynah, "plan", "--preset", arguments.preset, "--vocab-size", vocabulary(arguments.tokens), "--count", "2",
                                  "--bandwidth", f"{rate}Mbit/s", "--latency-us", "50", "--json", stdout=subprocess.PIPE, text=True).stdout)
            of_two = next(step for step in told["over_ranks"][0]["steps"] if step["ranks"] == 2)
            expected = compute + of_two["bytes_secs"] + of_two["latency_secs"]
            measured = step_secs(out)
            print(f"{rate} Mbit/s: told {expected:.2f} s, measured {measured:.2f} s, {100 * (expected / measured - 1):+.1f} %", flush=True)
            right &= abs(expected / measured - 1) <= 0.15
    finally:
        take_down()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

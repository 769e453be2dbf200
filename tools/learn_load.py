#!/usr/bin/env python3
"""How long a chat waits for its next token while the server's models learn, beside how long it waits otherwise.

    learn_load.py --mynah PATH --model MODEL --rankings FILE [--seconds 30] [--by ppo|dpo] [--stage reward|ppo|dpo]

MODEL is a chat model, FILE has rankings. Streams answers one after another for so many seconds without learning and so many
with, in turn, twice; prints percentiles of the time between two tokens, and exits with 1 if the 99th with learning is more than
2.5 times that without. Times mean something on a machine that does nothing else.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from served import Server

MOST = 2.5


def gaps(server, model, seconds):
    """Seconds between tokens that follow each other in an answer."""
    found, until, seed = [], time.monotonic() + seconds, 0
    while time.monotonic() < until:
        seed += 1
        body = {"model": model, "stream": True, "max_tokens": 200, "temperature": 1, "seed": seed,
                "messages": [{"role": "user", "content": f"Tell me about {seed}."}]}
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer, last = connection.getresponse(), None
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            now = time.perf_counter()
            found += [now - last] if last else []
            last = now
        connection.close()
    return sorted(found)


def at(values, share):
    return 1e3 * values[min(len(values) - 1, int(share * len(values)))]


def tell(name, values):
    print(f"{name:9} {len(values):6} gaps: p50 {at(values, 0.5):7.2f} ms, p90 {at(values, 0.9):7.2f}, "
          f"p99 {at(values, 0.99):7.2f}, longest {1e3 * values[-1]:7.2f}", flush=True)


def stage_of(server):
    generation = server.ask("GET", "/v1/learn").json()["generations"][-1]
    running = [stage["stage"] for stage in generation["stages"] if stage["state"] == "running" and stage["run"]]
    return generation, running[0] if running else None


def learn_until(server, stage):
    """Goes on learning until `stage` has begun."""
    while True:
        generation, running = stage_of(server)
        if running == stage:
            return
        if generation["state"] != "running":
            raise SystemExit(f"{generation['state']}: {generation['why']}")
        time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mynah", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rankings", required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--by", default="ppo")
    parser.add_argument("--stage", default="reward")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = str(Path(temporary) / "feedback.db")
        subprocess.run([args.mynah, "rank", "import", "--store", store, args.rankings, "--quiet"], check=True)
        server = Server(args.mynah, [f"chat={args.model}"], "--store", store, "--quiet")
        post = lambda path, **body: server.post(path, **body).json()
        without, beside, name = [], [], None
        gaps(server, "chat", 2)
        for _ in range(2):
            without += gaps(server, "chat", args.seconds)
            name = name or post("/v1/learn", model="chat", by=args.by)["name"]
            if without and stage_of(server)[0]["state"] != "running":
                post("/v1/learn/resume", name=name)
            learn_until(server, args.stage)
            beside += gaps(server, "chat", args.seconds)
            generation, running = stage_of(server)
            if running != args.stage:
                print(f"note: it was over before: {generation['stages']}")
            post("/v1/learn/stop")
            while stage_of(server)[0]["state"] == "running":
                time.sleep(0.2)
        server.process.terminate()
        server.process.wait()
    without.sort()
    beside.sort()
    tell("without", without)
    tell("learning", beside)
    ratio = at(beside, 0.99) / at(without, 0.99)
    print(f"p99 {ratio:.2f} × ({args.stage})")
    raise SystemExit(1 if ratio > MOST else 0)


if __name__ == "__main__":
    main()

"""Tokens a second and waiting times of `mynah serve`, beside llama.cpp's server and `transformers serve`, in turn in one run:

    mynah gguf --model SmolLM2 --out smollm2.gguf --quant f16
    python tools/peers/serve.py --mynah target/release/mynah --model SmolLM2 --gguf smollm2.gguf

llama.cpp comes as `pip install xllamacpp` (another Python: --llama-python), `transformers serve` as `pip install "transformers[serving]"`.
All serve the same model to the same prompts, greedy, with as many threads; a peer that is not installed is left out by name.
With --beside COMMAND the measurements are made again while that command runs at low priority.
"""

import argparse
import http.client
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import threading
import time

LLAMA = """
import json, sys, time, xllamacpp as x
gguf, port, threads, slots, context = sys.argv[1], *map(int, sys.argv[2:6])
p = x.CommonParams()
p.model.path, p.port, p.n_parallel, p.n_ctx = gguf, port, slots, slots * context
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.n_gpu_layers, p.warmup, p.kv_unified = 0, True, False
server = x.Server(p)
print(server.listening_address, flush=True)
time.sleep(1e9)
"""

OPENINGS = [
    "The history of the lighthouse begins with", "A good cook always remembers that", "When the train left the station,",
    "In the mountains of the north there lived", "The first rule of gardening is", "Scientists have long wondered why",
    "My grandmother used to tell me about", "The old library on the corner was", "Learning to swim takes",
    "Every autumn the river", "The invention of the telescope", "On the last day of school", "A city is more than",
    "The sound of rain on", "To build a boat you need", "Long before there were roads,",
]

parser = argparse.ArgumentParser()
parser.add_argument("--mynah", required=True)
parser.add_argument("--model", required=True, help="a Hugging Face directory")
parser.add_argument("--gguf", help="the same model for llama.cpp")
parser.add_argument("--own", help="what mynah serves in place of the directory, such as the file of llama.cpp")
parser.add_argument("--llama-python", default=sys.executable)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--context", type=int, default=512)
parser.add_argument("--tokens", type=int, default=128)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--without", action="append", default=[])
parser.add_argument("--precision", help="mynah's; what it measures as faster if not given")
parser.add_argument("--beside", help="a command to run at low priority meanwhile")
options = parser.parse_args()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Peer:
    def __init__(self, name, command, model, ready):
        self.name, self.port, self.model = name, free_port(), model
        command = [word.replace("PORT", str(self.port)) for word in command]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 300
        while True:
            if self.process.poll() is not None or time.time() > deadline:
                raise RuntimeError(f"{name} did not start")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", ready)
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.2)
        self.stream("Hello there,", 8)

    def stream(self, prompt, tokens):
        """The times of the pieces, and how many tokens there were."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
                "stream_options": {"include_usage": True}, **ENDLESS.get(self.name, {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        began, times, counted = time.perf_counter(), [], None
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{self.name}: {response.read()[:300]}")
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if chunk.get("usage"):
                counted = chunk["usage"]["completion_tokens"]
            if chunk["choices"] and chunk["choices"][0].get("text"):
                times.append(time.perf_counter() - began)
        return times, counted or len(times), time.perf_counter() - began

    def together(self, n, turn):
        """Tokens a second of n streams at once, the first token's times and the gaps between pieces."""
        heard = [None] * n

        def ask(i):
            heard[i] = self.stream(f"{OPENINGS[i % len(OPENINGS)]} ({turn})", options.tokens)

        began = time.perf_counter()
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        took = time.perf_counter() - began
        firsts = [times[0] for times, _, _ in heard]
        gaps = [b - a for times, _, _ in heard for a, b in zip(times, times[1:])]
        return sum(count for _, count, _ in heard) / took, firsts, gaps


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def end_tokens():
    with open(os.path.join(options.model, "generation_config.json")) as file:
        ends = json.load(file).get("eos_token_id", [])
    return ends if isinstance(ends, list) else [ends]


BIAS = {str(token): -100 for token in end_tokens()}
# What keeps an answer from ending before its tokens are drawn; transformers' server has nothing for it.
ENDLESS = {"mynah": {"logit_bias": BIAS}, "llama.cpp": {"logit_bias": BIAS, "ignore_eos": True}}


def start():
    threads = str(options.threads)
    mynah = [options.mynah, "--threads", threads, "--quiet"]
    mynah += ["--precision", options.precision] if options.precision else []
    mynah += ["serve", "--model", f"model={options.own or options.model}", "--port", "PORT", "--slots", "16"]
    wanted = [("mynah", mynah, "model", "/ready")]
    if options.gguf:
        llama = [options.llama_python, "-c", LLAMA, options.gguf, "PORT", threads, "16", str(options.context)]
        wanted.append(("llama.cpp", llama, "model", "/health"))
    path = os.path.abspath(options.model)
    transformers = ["env", f"OMP_NUM_THREADS={threads}", os.path.join(os.path.dirname(sys.executable), "transformers"), "serve", path,
                    "--port", "PORT", "--device", "cpu"]
    wanted.append(("transformers", transformers, path, "/health"))
    peers = []
    for name, command, model, ready in wanted:
        if name in options.without:
            continue
        try:
            peers.append(Peer(name, command, model, ready))
        except (RuntimeError, OSError) as error:
            print(f"left out: {error}", file=sys.stderr)
    return peers


def measure(peers, note):
    speeds = {(peer.name, n): [] for peer in peers for n in (1, 16)}
    firsts, gaps = {key: [] for key in speeds}, {key: [] for key in speeds}
    for turn in range(options.rounds):
        for n in (1, 16):
            for peer in peers:
                speed, first, gap = peer.together(n, turn)
                speeds[peer.name, n].append(speed)
                firsts[peer.name, n] += first
                gaps[peer.name, n] += gap
    for (name, n), of in speeds.items():
        key = name, n
        times = {what: {q: round(1e3 * quantile(values[key], p), 1) for q, p in (("p50", 0.5), ("p99", 0.99))}
                 for what, values in (("first_ms", firsts), ("gap_ms", gaps))}
        print(json.dumps({"peer": name, "at_once": n, "note": note, "tokens_per_sec": round(statistics.median(of), 1),
                          "all": [round(x, 1) for x in of], **times}))
    for name in {name for name, _ in speeds} - {"mynah"}:
        for n in (1, 16):
            ratio = statistics.median(speeds["mynah", n]) / statistics.median(speeds[name, n])
            print(f"{n:2} at once, {note}: {ratio:.2f} x {name}")


def versions():
    for package in ("xllamacpp", "transformers", "torch"):
        python = options.llama_python if package == "xllamacpp" else sys.executable
        code = f"import importlib.metadata as m; print(m.version('{package}'))"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True)
        print(package, found.stdout.strip() or "not installed", file=sys.stderr)


versions()
peers = start()
try:
    measure(peers, "alone")
    if options.beside:
        beside = subprocess.Popen(["nice", "-n", "10", *shlex.split(options.beside)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            measure(peers, "beside")
        finally:
            beside.terminate()
            beside.wait()
finally:
    for peer in peers:
        peer.process.terminate()

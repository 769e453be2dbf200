"""Loads `mynah serve` with more than it wants, and looks at what comes of it. Python's own library alone.

    server_load.py --mynah PATH --model MODEL [--quick] [--parts same,leave,malformed,slow,overload,invariance,keys]

MODEL is a model that continues texts. Prints what was found and exits with 1 if something was wrong. docs/TESTING.md
says what must hold.
"""

import argparse
import asyncio
import bisect
import json
import os
import random
import re
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

from served import Server, body_of, events

KEY = "the-key-of-the-load"
FAULTS = []


def expect(holds, what):
    print(f"  {'ok    ' if holds else 'FAILED'} {what}", flush=True)
    if not holds:
        FAULTS.append(what)


class Wire:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, server):
        self.server, self.reader = server, None

    async def ask(self, path, body, headers=()):
        """One POST: status, headers, body."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(self.server.host, self.server.port, limit=1 << 24)
        self.writer.write(self.server.request(path, body, headers))
        await self.writer.drain()
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        told = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        if "content-length" in told:
            heard = await self.reader.readexactly(int(told["content-length"]))
        else:
            heard = b""
            while n := int((await self.reader.readline()).strip(), 16):
                heard += (await self.reader.readexactly(n + 2))[:-2]
            await self.reader.readline()
        if told.get("connection") == "close":
            self.close()
        return status, told, heard

    def close(self):
        if self.reader is not None:
            self.writer.close()
            self.reader = None


def put_together(body):
    """The choices and the usage of an answer, streamed or not; None of a stream without its end."""
    if not body.startswith(b"data: "):
        answer = json.loads(body)
        choices = {c["index"]: (c["text"], c["finish_reason"], c["logprobs"]) for c in answer["choices"]}
        return choices, answer["usage"]
    data, _ = events(body)
    if data[-1] != "[DONE]":
        return None, None
    choices, usage = {}, None
    for chunk in map(json.loads, data[:-1]):
        usage = chunk["usage"] or usage
        for c in chunk["choices"]:
            text, finish, told = choices.get(c["index"], ("", None, None))
            if c["logprobs"]:
                more = c["logprobs"]
                told = {name: (told or {}).get(name, []) + more[name] for name in more}
            choices[c["index"]] = (text + c["text"], c["finish_reason"] or finish, told)
    # A stream without a text has no entries to tell, a whole answer an empty list of them.
    return choices, usage


def plain(choices):
    empty = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    return {i: (text, finish, told if told != empty else None) for i, (text, finish, told) in choices.items()}


WORDS = "the cat is in house a dog my teacher wants to sleep 3 + 4 = and was small 中 文 🙂 where Who".split()


def requests(rng, model, count, most=24):
    """Requests of many kinds, each with a seed."""
    made = []
    for i in range(count):
        body = {
            "model": model,
            "prompt": " ".join(rng.choices(WORDS, k=rng.randint(1, 24))),
            "seed": i,
            "max_tokens": rng.randint(1, most),
            "temperature": rng.choice([0, 0.7, 1, 1.3]),
            "top_p": rng.choice([1, 0.9]),
            "n": rng.choice([1, 1, 1, 2, 3]),
        }
        if rng.random() < 0.3:
            body["stop"] = rng.choices(WORDS, k=2)
        if rng.random() < 0.3:
            body["logprobs"] = rng.randint(0, 3)
        if rng.random() < 0.2:
            body |= {"presence_penalty": 1, "frequency_penalty": 0.5}
        made.append(body)
    return made


def streamed(body):
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


async def at_once(server, bodies, workers, seen):
    """Asks all of them, so many at once; `seen` gets each number with what came."""
    queue = iter(enumerate(bodies))

    async def work():
        wire = Wire(server)
        for i, body in queue:
            try:
                seen(i, *await wire.ask("/v1/completions", body))
            except (OSError, asyncio.IncompleteReadError) as error:
                seen(i, 0, {}, repr(error).encode())
                wire.close()
        wire.close()

    await asyncio.gather(*(work() for _ in range(workers)))


# The parts


def same(args):
    """Many requests at once: each the answer that it gets alone, no figure lost or doubled."""
    rng, count = random.Random(1), 400 if args.quick else 10_000
    with Server(args.mynah, [args.model], "--precision", "f32", "--quiet") as server:
        kinds = requests(rng, args.name(server), 60 if args.quick else 300)
        alone = []
        for body in kinds:
            alone.append(put_together(server.post("/v1/completions", **body).body))
        before, sums = server.metrics(), {"prompt": 0, "completion": 0, "cached": 0}
        asked = [rng.randrange(len(kinds)) for _ in range(count)]
        bodies = [streamed(kinds[k]) if rng.random() < 0.5 else kinds[k] for k in asked]
        other, statuses, done = [], {}, 0

        def seen(i, status, _, body):
            nonlocal done
            done += 1
            statuses[status] = statuses.get(status, 0) + 1
            if status != 200:
                return
            choices, usage = put_together(body)
            wanted, of_alone = alone[asked[i]]
            numbers = lambda u: (u["prompt_tokens"], u["completion_tokens"], u["total_tokens"])
            if choices is None or plain(choices) != plain(wanted) or numbers(usage) != numbers(of_alone):
                other.append((kinds[asked[i]], choices, wanted))
            for name in ("prompt", "completion"):
                sums[name] += usage[f"{name}_tokens"]
            sums["cached"] += usage["prompt_tokens_details"]["cached_tokens"]

        since = time.monotonic()
        asyncio.run(at_once(server, bodies, 64, seen))
        took, after = time.monotonic() - since, server.metrics()
        expect(statuses == {200: count}, f"{count} requests at 64 at once: {statuses}, {count / took:.0f} a second")
        expect(not other, f"each is the answer it is alone ({len(other)} are not{': ' + str(other[0]) if other else ''})")
        counted = {n: after[f"mynah_{n}_tokens_total"] - before[f"mynah_{n}_tokens_total"] for n in sums}
        expect(counted == sums, f"usage adds up to the counters: {sums}, {counted}")
        expect(after["mynah_engine_panics_total"] == 0, "no panic")


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def half_close(stream):
    stream.shutdown(socket.SHUT_WR)


def leave(args):
    """Clients that go away in all ten ways, and out of the queue: their slots are free at once."""
    count = 100 if args.quick else 1000
    ways = [("FIN", socket.socket.close, 1), ("RST", reset, 1), ("half-close", half_close, 1)]
    ways += [("second request, then FIN", socket.socket.close, 2), ("second request, then RST", reset, 2)]
    rng = random.Random(2)
    with Server(args.mynah, [args.model], "--precision", "f32", "--slots", "4", "--quiet") as server:
        body = {"model": args.name(server), "prompt": "The", "n": 16, "logit_bias": args.endless(server)}
        seeded = {"model": args.name(server), "prompt": "The cat", "seed": 5, "max_tokens": 12}
        wanted = server.post("/v1/completions", **seeded).json()["choices"]
        times, ended, worst = {}, 0, []
        for i in range(count):
            name, go, times_written = ways[i % 5]
            streams = i // 5 % 2 == 0
            left = server.metrics()["mynah_left_total"]
            stream = server.connect()
            stream.sendall(server.request("/v1/completions", {**body, "stream": streams}) * times_written)
            if server.until(lambda m: m["mynah_running"] > 0, 5) is None:
                expect(False, f"{name}: it never ran")
                break
            time.sleep(rng.random() * 0.03)
            go(stream)
            # Four have a slot, and twelve wait for one.
            took = server.until(lambda m: m["mynah_running"] + m["mynah_waiting"] == 0, 30)
            stream.close()
            gone = server.metrics()["mynah_left_total"] - left
            ended += gone == 0
            times.setdefault((name, "streamed" if streams else "not streamed"), []).append(took or 30.0)
            worst.append(took or 30.0)
        for (name, how), took in times.items():
            took.sort()
            print(f"         {name}, {how}: median {took[len(took) // 2] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms")
        expect(max(worst) <= 0.1, f"{len(worst)} left: all slots free and the queue empty within 100 ms, worst {max(worst) * 1000:.0f} ms")
        expect(ended == 0, f"they were let go, not computed to their end ({ended} were)")
        expect(server.post("/v1/completions", **seeded).json()["choices"] == wanted, "the same answer afterwards")
        after = server.metrics()
        expect(after["mynah_engine_panics_total"] == 0, "no panic")
        expect(after["mynah_connections"] <= 2, f"no connection is left over ({after['mynah_connections']:.0f})")


FIELDS = "model prompt max_tokens temperature top_p top_k n stop seed logprobs echo suffix stream stream_options logit_bias".split()
FIELDS += "presence_penalty frequency_penalty response_format messages tools best_of max_completion_tokens resumable".split()
VALUES = [None, True, -1, 0, 1, 3, 2**31, 2**63, 2**64, 10**30, 1.5, 1e99, "", "x", "NaN", "\ud800", "\0", [], [[]], [None], [-1], [1, "a"]]
VALUES += [{}, {"a": 1}, {"0": None}, {"type": "json_schema"}, {"type": 1}, ["a"] * 99, "🙂" * 300, {"include_usage": 1}, [{"role": 1}], [{}]]
HEADS = [
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%ff%fe%zz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /v1/models/%ff HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /v1/streams/%c3%28?from=%ff HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /v1/streams/x?from=-1&from=2 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"BREW /v1/completions HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    b"POST /v1/completions HTTP/1.1\r\nHost: HOST\r\nContent-Type: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/load/%2e%2e HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: HOST\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    b"GET /health HTTP/1.1\r\nHost: HOST\r\nA: " + b"x" * 20000 + b"\r\n\r\n",
]


def broken(rng, server, good):
    """A request that is wrong somewhere, or was meant to be."""
    own = f"{server.host}:{server.port}".encode()
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(HEADS).replace(b"HOST", own)
    if kind == 1:
        return rng.randbytes(rng.randint(1, 400)) + b"\r\n\r\n"
    path = rng.choice(["/v1/completions", "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/score"])
    if kind == 2:
        body = dict(good)
        for field in rng.choices(FIELDS, k=rng.randint(1, 3)):
            body[field] = rng.choice(VALUES)
        return server.request(path, body)
    payload = bytearray(json.dumps(good, ensure_ascii=False).encode())
    if kind == 3:
        for _ in range(rng.randint(1, 6)):
            payload[rng.randrange(len(payload))] = rng.randrange(256)
    elif kind == 4:
        at = rng.randrange(len(payload))
        payload[at:at] = rng.choice([b"\xff", b"[" * 100, b'{"a":' * 70, b"\0", b",", b'"', b"1e999", b"NaN", b"\xed\xa0\x80"])
    else:
        payload = payload[: rng.randrange(len(payload))]
    headers = rng.choice([(), (), [("Content-Type", "text/plain")], [("Host", "evil.example")], [("Origin", "null")]])
    return server.request(path, bytes(payload), headers)


def malformed(args):
    """Requests that are wrong in every way: refused with 4xx, and the server is as it was."""
    rng, count = random.Random(3), 600 if args.quick else 10_000
    with Server(args.mynah, [args.model], "--precision", "f32", "--quiet") as server:
        good = {"model": args.name(server), "prompt": "The cat", "seed": 5, "max_tokens": 3, "n": 1, "logprobs": 1}
        wanted = server.post("/v1/completions", **good).json()["choices"]
        statuses, strange = {}, []

        async def one(sent):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            heard = b""
            try:
                writer.write(sent)
                heard = await asyncio.wait_for(reader.read(4096), 25)
            except (OSError, asyncio.TimeoutError):
                pass
            writer.close()
            found = re.match(rb"HTTP/1\.1 (\d+)", heard)
            status = int(found[1]) if found else 0
            statuses[status] = statuses.get(status, 0) + 1
            # HTTP/2 is answered by the end of the connection.
            if not (400 <= status < 500 or status == 200 or sent.startswith(b"PRI")):
                strange.append((status, sent[:300], heard[:200]))
            if 400 <= status < 500 and b"content-length: 0" not in heard.lower() and b'"error"' not in heard:
                strange.append(("not OpenAI's form", sent[:300], heard[-300:]))

        async def all_of_them():
            queue = iter(range(count))

            async def work():
                for _ in queue:
                    await one(broken(rng, server, good))

            await asyncio.gather(*(work() for _ in range(32)))

        asyncio.run(all_of_them())
        kinds = {(status, sent[:24]): (status, sent, heard) for status, sent, heard in strange}
        expect(not strange, f"{count} requests: {dict(sorted(statuses.items()))} ({len(strange)} strange{': ' + str(list(kinds.values())[:5]) if strange else ''})")
        expect(server.ask("GET", "/health").status == 200, "the server is alive")
        expect(server.post("/v1/completions", **good).json()["choices"] == wanted, "the same answer afterwards")
        expect(server.until(lambda m: m["mynah_running"] + m["mynah_waiting"] == 0, 20) is not None, "nothing is left running")
        expect(server.metrics()["mynah_engine_panics_total"] == 0 and not any("panicked" in line for line in server.log), "no panic")


def slow(args):
    """Heads that dribble, bodies that never come, readers that do not read: cut off in time, and harm nobody."""
    many = 3 if args.quick else 20
    with Server(args.mynah, [args.model], "--precision", "f32", "--quiet") as server:
        ends = args.endless(server)
        model, own = args.name(server), f"{server.host}:{server.port}"
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {own}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        closed = {}

        async def until_closed(name, sent, dribble=b""):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            since = time.monotonic()
            writer.write(sent.encode())
            heard = b""

            async def drip():
                for i in range(len(dribble)):
                    writer.write(dribble[i : i + 1])
                    await asyncio.sleep(0.5)

            dripping = asyncio.create_task(drip())
            try:
                while more := await asyncio.wait_for(reader.read(65536), 60):
                    heard += more
            except (OSError, asyncio.TimeoutError):
                pass
            dripping.cancel()
            writer.close()
            closed.setdefault(name, []).append((time.monotonic() - since, heard[9:12].decode()))

        async def reader_who_sleeps():
            stream = socket.socket()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(stream, (server.host, server.port))
            body = {"model": model, "prompt": "The", "n": 4, "logprobs": 20, "logit_bias": ends}
            await loop.sock_sendall(stream, server.request("/v1/completions", {**body, "stream": True}))
            # More than 30 s without a byte read. What the kernel holds for it hides the end from this side.
            await asyncio.sleep(40)
            stream.close()

        async def connections(told):
            for at in (25, 38):
                await asyncio.sleep(at - max(told, default=0))
                told[at] = (await asyncio.to_thread(server.metrics))["mynah_connections"]

        async def others(times, seconds):
            wire, end = Wire(server), time.monotonic() + seconds
            while time.monotonic() < end:
                since = time.monotonic()
                status, _, _ = await wire.ask("/v1/completions", {"model": model, "prompt": "The cat", "max_tokens": 4})
                times.append((status, time.monotonic() - since))
                await asyncio.sleep(0.05)
            wire.close()

        async def run():
            alone, beside = [], []
            await others(alone, 3)
            kinds = [
                ("nothing at all", "", b""),
                ("half a head", "GET /health HTTP/1.1\r\nHost: x", b""),
                ("a dribbled head", "GET /health HTTP/1.1\r\nX: ", b"x" * 100),
                ("no body", head + "\r\n", b""),
                ("a dribbled body", head + "\r\n", b" " * 90),
                ("no body, where none is read", head.replace("/v1/completions", "/nothing") + "\r\n", b""),
                ("an idle connection", f"GET /health HTTP/1.1\r\nHost: {own}\r\n\r\n", b""),
            ]
            tasks = [until_closed(*kind) for kind in kinds for _ in range(many)]
            await asyncio.gather(*tasks, *(reader_who_sleeps() for _ in range(3)), others(beside, 40), connections(open_at))
            return alone, beside

        open_at = {}
        alone, beside = asyncio.run(run())
        for name, most in [("nothing at all", 17), ("half a head", 17), ("a dribbled head", 17), ("an idle connection", 17), ("no body", 12.5), ("a dribbled body", 12.5), ("no body, where none is read", 17)]:
            times = [took for took, _ in closed[name]]
            expect(len(times) == many and max(times) < most, f"{name}: closed after {min(times):.1f} to {max(times):.1f} s with {sorted({s for _, s in closed[name]})}")
        # Those who do not read, one that is served, and the one that asks.
        expect(open_at == {25: 5, 38: 2}, f"who does not read for 30 s is cut off: connections after 25 s and 38 s: {open_at}")
        median = lambda times: sorted(took for _, took in times)[len(times) // 2]
        expect(all(status == 200 for status, _ in beside), f"{len(beside)} others were answered")
        expect(median(beside) < 5 * median(alone) + 0.1, f"their median: {median(alone) * 1000:.0f} ms alone, {median(beside) * 1000:.0f} ms beside")
        expect(server.until(lambda m: m["mynah_running"] + m["mynah_waiting"] == 0, 20) is not None, "all slots are free")


def overload(args):
    """Ten times as many requests as can be answered: the others are sent away, and the work goes on."""
    seconds = 4 if args.quick else 8
    with Server(args.mynah, [args.model], "--precision", "f32", "--quiet") as server:
        # So much work that ten times as many of them are few for the client, which has the same processor.
        body = {"model": args.name(server), "prompt": "The", "max_tokens": 200, "n": 16, "logit_bias": args.endless(server)}
        done = []

        async def closed(workers):
            end = time.monotonic() + seconds

            async def work():
                wire = Wire(server)
                while time.monotonic() < end:
                    status, _, _ = await wire.ask("/v1/completions", {**body, "seed": len(done)})
                    done.append(status)
                wire.close()

            done.clear()
            since = time.monotonic()
            await asyncio.gather(*(work() for _ in range(workers)))
            return done.count(200) / (time.monotonic() - since)

        refused, odd = {}, []

        async def opened(rate):
            good, pending, start = 0, set(), time.monotonic()
            window = (start + seconds / 4, start + seconds)

            async def one(i):
                nonlocal good
                wire = Wire(server)
                try:
                    status, told, _ = await asyncio.wait_for(wire.ask("/v1/completions", {**body, "seed": i}), 60)
                except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                    status, told = type(error).__name__, {}
                if status == 200:
                    good += window[0] <= time.monotonic() < window[1]
                elif status in (429, 503) and told.get("retry-after", "").isdigit():
                    refused[status] = refused.get(status, 0) + 1
                else:
                    odd.append(status)
                wire.close()

            i = 0
            while (now := time.monotonic()) < window[1]:
                while i < (now - start) * rate:
                    task = asyncio.create_task(one(i))
                    pending.add(task)
                    task.add_done_callback(pending.discard)
                    i += 1
                await asyncio.sleep(0.005)
            await asyncio.gather(*pending)
            return good / (window[1] - window[0]), i

        # One after the other, several times: what else the machine does meanwhile changes.
        shares, asked = [], 0
        # The client's own work is not the server's: elsewhere it would have a processor to itself.
        os.setpriority(os.PRIO_PROCESS, 0, 10)
        for _ in range(1 if args.quick else 5):
            peak = asyncio.run(closed(8))
            goodput, more = asyncio.run(opened(10 * peak))
            print(f"         goodput {goodput:.1f} a second, {peak:.1f} at the peak")
            shares.append(goodput / peak)
            asked += more
        share = sorted(shares)[len(shares) // 2]
        expect(share >= 0.9, f"goodput is {100 * share:.0f} % of the peak's")
        expect(refused and not odd, f"of {asked} the others were told when to come again: {refused}; odd: {odd[:5]}")
        expect(server.post("/v1/completions", **body).status == 200, "afterwards it answers at once")


def invariance(args):
    """The same tokens and the same bits of log-probabilities, whatever else is asked, in f32 and in bf16."""
    rng, count = random.Random(4), 30 if args.quick else 200
    for precision in ("f32", "bf16"):
        told = {}

        def ask_all(server, order, workers, name):
            model, answers = args.name(server), {}
            bodies = [{**b, "model": model, "logprobs": 5} for b in kinds]

            def seen(i, status, _, body):
                answers[order[i]] = (status, plain(put_together(body)[0]) if status == 200 else body)

            asyncio.run(at_once(server, [bodies[k] for k in order], workers, seen))
            told[name] = answers

        kinds = requests(rng, "", count)
        order, shuffled = list(range(count)), list(range(count))
        rng.shuffle(shuffled)
        with Server(args.mynah, [args.model], "--precision", precision, "--quiet") as server:
            ask_all(server, order, 1, "alone")
            ask_all(server, order, 1, "alone, with a warm cache")
            ask_all(server, shuffled, 32, "32 at random")
            ask_all(server, order[::-1], 32, "32 in another order")
        with Server(args.mynah, [args.model], "--precision", precision, "--quiet") as server:
            ask_all(server, shuffled, 32, "32 at once, cold")
        with Server(args.mynah, [args.model], "--precision", precision, "--slots", "3", "--quiet") as server:
            ask_all(server, order[::-1], 16, "another number of slots")
        alone = told.pop("alone")
        expect(all(status == 200 for status, _ in alone.values()), f"{precision}: {count} prompts alone")
        for name, answers in told.items():
            other = [k for k in order if answers[k] != alone[k]]
            expect(not other, f"{precision}, {name}: {len(other)} of {count} differ{': ' + str((kinds[other[0]], answers[other[0]], alone[other[0]])) if other else ''}")


def keys(args):
    """Every address × method without the key: 401, but /health and the pages' files."""
    with tempfile.TemporaryDirectory() as scratch:
        file = os.path.join(scratch, "key")
        Path(file).write_text(KEY)
        with Server(args.mynah, [args.model], "--api-key-file", file, "--quiet") as server:
            listed = set(server.ask("GET", "/openapi.json", key=KEY).json()["paths"])
            source = Path(__file__).parent.parent / "crates/server/src/http"
            at = re.findall(r'(?:\bat\(\s*|const HEALTH: &str = )"([^"]+)"', (source / "routes.rs").read_text())
            table = {path.replace("{*", "{") for path in at}
            pages = set(re.findall(r'\bpath: "([^"]+)"', (source / "pages.rs").read_text()))
            expect(listed == table, f"/openapi.json lists the router's table of {len(table)} ({sorted(listed ^ table)})")
            paths = [re.sub(r"\{.*?\}", "it", path) for path in listed | table | pages] + ["/none", "/page/none", "/page/", "/v1", "/health/x", "//health"]
            methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
            wrong, tried = [], 0
            for path in paths:
                for method in methods:
                    for headers in ({}, {"Content-Type": "application/json"}, {"X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/health"}):
                        status = server.ask(method, path, b"{}", headers).status
                        tried += 1
                        is_open = path == "/health" or path in pages
                        if status != (401 if not is_open else 200 if method in ("GET", "HEAD") else 405):
                            wrong.append((method, path, headers, status))
            expect(not wrong, f"{tried} requests without the key: 401, but /health and {len(pages)} files of pages ({wrong[:5]})")
            expect(server.ask("GET", "/v1/models", key=KEY).status == 200, "the key still opens")


PARTS = {part.__name__: part for part in (same, leave, malformed, slow, overload, invariance, keys)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mynah", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default=",".join(PARTS))
    args = parser.parse_args()
    args.name = lambda server: server.ask("GET", "/v1/models").json()["data"][0]["id"]

    def endless(server):
        """Biases that keep what ends a text from being drawn: special tokens stand first or last in a vocabulary."""

        def spelt(id):
            reply = server.post("/v1/completions", model=args.name(server), prompt=[id], max_tokens=0, echo=True)
            return reply.json()["choices"][0]["text"] if reply.status == 200 else None

        size = bisect.bisect_left(range(1 << 20), True, key=lambda id: spelt(id) is None)
        ends = {}
        for id in {*range(min(size, 64)), *range(max(size - 64, 0), size)}:
            if re.fullmatch(r"<\|?.*\|?>", spelt(id)):
                ends[str(id)] = -100
        args.endless = lambda _: ends
        return ends

    args.endless = endless
    for name in args.parts.split(","):
        part, since = PARTS[name], time.monotonic()
        print(f"{name}: {part.__doc__}", flush=True)
        part(args)
        print(f"         ({time.monotonic() - since:.0f} s)", flush=True)
    print(f"\n{len(FAULTS)} faults")
    sys.exit(1 if FAULTS else 0)


main()

"""A `mynah serve` that a script starts, asks and ends. Python's own library alone."""

import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time


class Reply:
    """What came back: status, headers with small names, body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json()["error"]


class Server:
    """A server on a free port. Its log is kept, line by line."""

    def __init__(self, mynah, models, *options, env=None):
        command = [mynah, "serve", "--model", *models, "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=env)
        self.log = []
        ready = threading.Event()
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        ready.wait(timeout=600)
        if not hasattr(self, "port"):
            raise SystemExit("the server did not start:\n" + "\n".join(self.log))

    def _read(self, ready):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            if found := re.match(r"listening on http://(.*):(\d+)$", self.log[-1]):
                self.host, self.port = found[1].strip("[]"), int(found[2])
                self.url = self.log[-1].removeprefix("listening on ")
                ready.set()
        ready.set()

    def ask(self, method, path, body=None, headers=(), key=None, timeout=60):
        """One request on a connection of its own; a body that is no bytes goes as JSON."""
        sent = {}
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        if key:
            sent["Authorization"] = f"Bearer {key}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {**sent, **dict(headers)})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, path, key=None, **body):
        return self.ask("POST", path, body, key=key)

    def connect(self, timeout=60):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def exchange(self, sent, timeout=60):
        """All that comes after `sent` until the other end closes or says nothing more for a second."""
        with self.connect(timeout) as stream:
            stream.sendall(sent)
            heard = b""
            try:
                while more := stream.recv(65536):
                    heard += more
                    stream.settimeout(1)
            except (TimeoutError, ConnectionError):
                pass
            return heard

    def request(self, path, body, headers=(), key=None):
        """The bytes of a POST."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(payload)}"] + [f"{name}: {value}" for name, value in headers]
        lines += [f"Authorization: Bearer {key}"] if key else []
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload

    def metrics(self, key=None):
        """Every sample by its name and labels."""
        lines = self.ask("GET", "/metrics", key=key).body.decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def until(self, holds, seconds=10, key=None):
        """Waits until the metrics hold; says how long that took, or None."""
        since = time.monotonic()
        while time.monotonic() - since < seconds:
            if holds(self.metrics(key)):
                return time.monotonic() - since
            time.sleep(0.005)
        return None

    def stop(self, seconds=60):
        """Asks for the end: the exit code, and how long that took."""
        since = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=seconds), time.monotonic() - since
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None, time.monotonic() - since

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def events(body):
    """The data of server-sent events, and the comments between them."""
    text = body.decode() if isinstance(body, bytes) else body
    parts = [part for part in text.split("\n\n") if part]
    data = [line.removeprefix("data: ") for part in parts for line in part.split("\n") if line.startswith("data: ")]
    return data, [part for part in parts if part.startswith(":")]


def body_of(heard):
    """The body of a response with chunks, as far as it came; whether it came to its end."""
    _, _, rest = heard.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if not size.strip():
            continue
        n = int(size, 16)
        if n == 0:
            return body, True
        body, rest = body + rest[:n], rest[n + 2 :]
    return body, False

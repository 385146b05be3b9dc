"""A small HTTP server that behaves as told: the child process of tests that need a server to die, hang or swell.

    python scripted_server.py PORT [--never-ready] [--fail TEXT] [--deaf] [--answers-before-death N] [--leak-mib N]
                              [--fork] [--hang-after N] [--seconds S]

It answers /health, /metrics in the engines' format, POST /ask, POST /hang and, for a test that looks, GET /environment.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOARD: list[bytearray] = []


class Scripted(ThreadingHTTPServer):
    """What it was told, and what it did so far."""

    daemon_threads = True

    def __init__(self, told: argparse.Namespace) -> None:
        super().__init__(("127.0.0.1", told.port), Answering)
        self.told, self.answers, self.outstanding, self.hanging = told, 0, 0, False
        self.lock = threading.Lock()


class Answering(BaseHTTPRequestHandler):
    """One request."""

    server: Scripted

    def do_GET(self) -> None:
        while self.server.hanging:
            time.sleep(0.1)
        if self.path == "/health":
            self._say(503 if self.server.told.never_ready else 200, "")
        elif self.path == "/metrics":
            counts = f"scripted:answers{{}} {self.server.answers}\nscripted:outstanding{{}} {self.server.outstanding}\n"
            self._say(200, "# HELP scripted:answers all\n" + counts)
        elif self.path == "/environment":
            self._say(200, json.dumps(dict(os.environ)))
        else:
            self._say(404, "")

    def do_POST(self) -> None:
        told = self.server.told
        if self.path == "/hang":
            self.server.hanging = True
        with self.server.lock:
            self.server.outstanding += 1
        HOARD.append(bytearray(os.urandom(2**20)) * told.leak_mib)
        time.sleep(told.seconds)
        with self.server.lock:
            self.server.outstanding -= 1
            self.server.answers += 1
        self._say(200, str(os.getpid()))
        if self.server.answers == told.answers_before_death:
            print("I die of the last answer", flush=True)
            os._exit(7)

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Not a word."""


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--fail", default="")
    parser.add_argument("--deaf", action="store_true", help="to SIGTERM")
    parser.add_argument("--fork", action="store_true", help="have a child in a session of its own, which has a child")
    parser.add_argument("--answers-before-death", type=int, default=0)
    parser.add_argument("--leak-mib", type=int, default=0, help="with each answer")
    parser.add_argument("--seconds", type=float, default=0.0, help="to an answer")
    told = parser.parse_args()
    print(f"started with {os.environ.get('SCRIPTED_KEY', 'no key')}", flush=True)
    if told.fail:
        print("\n".join(["a line before it"] * 2000 + [told.fail]), flush=True)
        sys.exit(3)
    if told.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if told.fork:
        code = "import subprocess, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)"
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    Scripted(told).serve_forever()


if __name__ == "__main__":
    main()

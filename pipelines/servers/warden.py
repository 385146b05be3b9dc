"""The warden: starts one server, writes its log, and lets no process of it live on, however it or its owner ends.

    python warden.py < ORDER     # a WardenOrder as JSON; standard library only, so that it starts in 20 ms

Processes of its own, as only a living one can end others: they take in every orphan of the server (subreapers) and see
within POLL_SECONDS that their owner is gone. There are two, one below the other, for one can be killed too: Ray ends an
actor's children with SIGKILL, and a vLLM whose first process goes that way leaves its GPU workers running. Each ends
the tree when the other is gone. SIGTERM stops the server in good order. Exit code: the server's, or 128 and the signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

POLL_SECONDS = 0.2
LINGER_SECONDS = 1.0  # for the rest of a server whose first process is gone
CHUNK_BYTES = 2**16
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True, slots=True, kw_only=True)
class WardenOrder:
    """What to start and for whom. owner: pid that the server must not outlive. secrets: blacked out in the log.

    private: folder that goes with the server.
    log_bytes: the log's older half moves to LOG.1, in place of the one before, when the newer one is so large.
    """

    owner: int
    argv: list[str]
    log: str
    log_bytes: int
    stop_seconds: float
    private: str
    secrets: list[str] = field(default_factory=list)


class Log:
    """A file of bounded size that holds whole lines without secrets."""

    def __init__(self, path: Path, limit: int, secrets: list[bytes]) -> None:
        self._path, self._limit, self._secrets = path, limit, secrets
        self._file = path.open("ab", buffering=0)
        self._cut = b""

    def write(self, chunk: bytes) -> None:
        """All but the last, unfinished line; a line without end is cut where it is too long to wait for."""
        whole, newline, self._cut = (self._cut + chunk).rpartition(b"\n")
        if len(self._cut) > CHUNK_BYTES:
            whole, newline, self._cut = whole + newline + self._cut, b"\n", b""
        self._put(whole + newline)

    def close(self) -> None:
        """With what never came to its end of line."""
        self._put(self._cut)
        self._file.close()

    def _put(self, text: bytes) -> None:
        for secret in self._secrets:
            text = text.replace(secret, b"[secret]")
        with contextlib.suppress(OSError):  # a full disk costs log lines, not the server
            if text and self._file.tell() + len(text) > self._limit:
                self._file.close()
                os.replace(self._path, f"{self._path}.1")
                self._file = self._path.open("ab", buffering=0)
            self._file.write(text)


class Warden:
    """Watches one server from its start to the end of its last process; the lower of the two, below `stand_guard`."""

    def __init__(self, order: WardenOrder) -> None:
        self._order = order
        self._asked = False
        self._status: int | None = None

    def watch(self) -> int:
        """The server's exit code, once nothing of it is left."""
        libc = _subreaper()
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)
        output, pipe = os.pipe()
        server = self._start(pipe, libc)
        os.close(pipe)
        secrets = [each.encode() for each in self._order.secrets if each]
        log = Log(Path(self._order.log), self._order.log_bytes, secrets)
        with contextlib.closing(log), selectors.DefaultSelector() as ready:
            ready.register(output, selectors.EVENT_READ)
            self._until_over(server, output, ready, log)
            os.set_blocking(output, False)
            _end_all(lambda: _read_out(output, log))
        shutil.rmtree(self._order.private, ignore_errors=True)
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _start(self, pipe: int, libc: ctypes.CDLL) -> int:
        me = os.getpid()

        def die_with_me() -> None:
            # The warden has one thread, so its thread's end, which the kernel goes by, is its own end.
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != me:
                os._exit(1)

        try:
            started = subprocess.Popen(
                self._order.argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, preexec_fn=die_with_me
            )
        except OSError as error:
            os.write(pipe, f"cannot start {self._order.argv[0]}: {error}\n".encode())
            self._status = 127 << 8
            return 0
        return started.pid

    def _until_over(self, server: int, output: int, ready: selectors.BaseSelector, log: Log) -> None:
        """Return when the server's first process is gone, or is to be waited for no longer."""
        deadline = 0.0
        while self._status is None:
            if ready.select(POLL_SECONDS):
                log.write(os.read(output, CHUNK_BYTES) or _pause())
            self._reap(server)
            if self._status is not None:
                return
            if os.getppid() != self._order.owner or (deadline and time.monotonic() > deadline):
                os.kill(server, signal.SIGKILL)
                self._status = signal.SIGKILL
            elif self._asked and not deadline:
                deadline = time.monotonic() + self._order.stop_seconds
                os.kill(server, signal.SIGTERM)

    def _reap(self, server: int) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == server:
                    self._status = ended[1]


def _pause() -> bytes:
    """Every writer has closed the pipe: nothing will come, and select() would say so without end."""
    time.sleep(POLL_SECONDS)
    return b""


def _subreaper() -> ctypes.CDLL:
    """Whatever below loses its parent becomes this process's child."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return libc


def stand_guard(order: WardenOrder) -> int:
    """The upper of the two: hands signals down, waits, and ends what a killed Warden leaves."""
    _subreaper()
    me = os.getpid()
    lower = os.fork()
    if lower == 0:
        os._exit(Warden(dataclasses.replace(order, owner=me)).watch())
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _: os.kill(lower, number))
    while not (ended := os.waitpid(lower, os.WNOHANG))[0]:
        if os.getppid() != order.owner:
            os._exit(1)  # the lower one sees that, and ends all
        time.sleep(POLL_SECONDS / 4)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_all(lambda: None)
    shutil.rmtree(order.private, ignore_errors=True)
    code = os.waitstatus_to_exitcode(ended[1])
    return code if code >= 0 else 128 - code


def _read_out(output: int, log: Log) -> None:
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(output, CHUNK_BYTES):
            log.write(chunk)


def _end_all(meanwhile: Callable[[], None]) -> None:
    """SIGKILL whatever is left of the tree after a moment, until there is no child."""
    deadline = time.monotonic() + LINGER_SECONDS
    while True:
        meanwhile()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if time.monotonic() > deadline:
            for pid in family(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def family(pid: int) -> list[int]:
    """Every living process under pid, parents before their children."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):  # gone while we looked
                state, parent = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found = [pid]
    for each in found:  # grows while it is walked
        found += children.get(each, [])
    return found[1:]


if __name__ == "__main__":
    sys.exit(stand_guard(WardenOrder(**json.load(sys.stdin))))

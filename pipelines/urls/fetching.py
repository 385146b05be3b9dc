"""img2dataset as processes: started behind a warden, watched by what it writes, and ended without a trace."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from captioner.errors import Refused
from pipelines.servers import warden
from pipelines.servers.launch import kept
from pipelines.servers.warden import WardenOrder, family
from pipelines.urls import fetch

LOOK_SECONDS = 0.5
STOP_SECONDS = 5.0
LOG_BYTES = 16 * 2**20
TAIL_BYTES = 2000
# Its statistics stay here, nothing asks for a newer version of a library, and OpenCV's own threads have no use.
QUIET = {"WANDB_MODE": "disabled", "WANDB_SILENT": "true", "NO_ALBUMENTATIONS_UPDATE": "1", "DO_NOT_TRACK": "1"}
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
PROXIES = (*_PROXIES, *map(str.upper, _PROXIES))

Ended = Literal["complete", "stopped", "stalled", "broke"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Where shards are made before they are whole. lists, made: folders of its own; log: stays when they go."""

    folder: Path
    log: Path

    @property
    def lists(self) -> Path:
        return self.folder / "lists"

    @property
    def made(self) -> Path:
        return self.folder / "made"

    def emptied(self) -> Self:
        """Itself, with nothing in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.made.mkdir(parents=True)
        return self

    def stats(self, ending: str) -> set[int]:
        """The numbers of the shards that have such a file."""
        return {int(path.name.removesuffix(ending)) for path in self.made.glob(f"*{ending}")}

    def seen(self) -> dict[str, int]:
        """Bytes of every file in it: what does not change stands still."""
        sizes = {}
        for path in self.made.rglob("*"):
            with suppress(FileNotFoundError):  # img2dataset clears away what it has read
                sizes[str(path)] = path.stat().st_size
        return sizes


@contextmanager
def room(url: str, scratch: str | None) -> Iterator[Room]:
    """The room of a download to this URL, empty; what a killed one left goes. Raises Refused while another is in it."""
    around = Path(scratch or tempfile.gettempdir()).expanduser().absolute()
    around.mkdir(parents=True, exist_ok=True)
    name = f"recap-download-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    folder = around / name
    with (around / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"a download to {url} runs on this machine already; wait for it or stop it") from None
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield Room(folder=folder, log=around / f"{name}.log")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Fetching:
    """One start of img2dataset; leaving ends it and every process that it forked."""

    def __init__(self, python: str, order: Mapping[str, Any], where: Room) -> None:
        self._python, self._order, self._room = python, order, where
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        settings = self._room.folder / "order.json"
        settings.write_text(json.dumps(self._order))
        self._room.log.unlink(missing_ok=True)
        order = WardenOrder(
            owner=os.getpid(),
            argv=[self._python, "-I", fetch.__file__, str(settings)],
            log=str(self._room.log),
            log_bytes=LOG_BYTES,
            stop_seconds=STOP_SECONDS,
            private=str(self._room.folder / "private"),
        )
        # A session of its own: Ctrl-C at the terminal is ours to judge.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", warden.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=kept(os.environ, PROXIES) | QUIET,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(json.dumps(dataclasses.asdict(order)).encode())
        return self

    def __exit__(self, *exc: object) -> None:
        process = self._process
        assert process is not None
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS + 10)
        except BaseException as error:
            for pid in (*family(process.pid), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def ended(self) -> bool:
        """Whether its first process and all others are gone."""
        assert self._process is not None
        return self._process.poll() is not None

    def tail(self) -> str:
        """The end of what it wrote."""
        with suppress(FileNotFoundError):
            return self._room.log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        return ""


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by the first SIGTERM or Ctrl-C; the second one interrupts as ever."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(
    fetching: Fetching, where: Room, take: Callable[[], bool], stop: threading.Event, stalled_seconds: float
) -> Ended:
    """Take what becomes whole until all is there, it ends, it is to stop, or nothing moves for so long.

    take: takes what is whole and says whether that is all. Time is counted by looks, so that a machine that slept, or
    processes that were stopped from outside, have not stalled. Raises what take raises.
    """
    still, seen = 0.0, where.seen()
    while True:
        over = fetching.ended()  # asked first: what it finished before it ended is whole now
        if take():
            return "complete"
        if over:
            return "broke"
        if stop.is_set():
            return "stopped"
        if still >= stalled_seconds:
            return "stalled"
        began = time.monotonic()
        stop.wait(LOOK_SECONDS)
        now = where.seen()
        still = 0.0 if now != seen else still + min(time.monotonic() - began, 2 * LOOK_SECONDS)
        seen = now

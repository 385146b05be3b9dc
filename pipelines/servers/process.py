"""One engine server as processes: started behind its warden, found ready, measured, and ended without a trace."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from captioner.errors import EngineUnavailable
from pipelines.servers import warden
from pipelines.servers.launch import CONFIG, LOOPBACK, PRIVATE, Launch, kept
from pipelines.servers.warden import WardenOrder, family

log = logging.getLogger("recap")

HEALTH = "/health"  # both engines: 200 once they can answer, 503 before that and when they are dying
HEALTH_SECONDS = 10.0
TAIL_BYTES = 4096
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How long a server may take to start and to stop, and how much of its log is kept."""

    start_seconds: float = 1800.0  # a 7B checkpoint is 15 GB to fetch and load
    stop_seconds: float = 30.0  # vLLM takes 3, SGLang 8
    log_bytes: int = 16 * 2**20
    logs_kept: int = 5


class Server:
    """One start of one server: `start`, then `stop`, once each. Cancelled or failed, start leaves nothing behind."""

    def __init__(self, name: str, launch: Launch, logs: Path, running: Running) -> None:
        self.name, self.url = name, launch.url
        self._launch, self._logs, self._running = launch, logs, running
        self._process: Process | None = None
        self._exit: asyncio.Task[int] | None = None
        self._private: str | None = None
        self.log = logs / f"{name}-{time.time_ns()}.log"  # names sort by time

    @property
    def pid(self) -> int | None:
        """The upper warden's pid; every process of the server is below it."""
        return self._process.pid if self._process else None

    def alive(self) -> bool:
        """Whether it still runs; that it answers is another question."""
        return self._process is not None and self._process.returncode is None

    async def ended(self, seconds: float) -> bool:
        """Wait so long for it to end by itself; whether it has."""
        if self._exit is not None:
            # One wait for all its life: asyncio keeps each that was given up.
            await asyncio.wait([self._exit], timeout=seconds)
        return not self.alive()

    def pids(self) -> list[int]:
        """Every process of the server, without its wardens: the lower is a fork of the upper and reads the same."""
        if self._process is None or not self.alive():
            return []
        warden_words = _words(self._process.pid)
        return [pid for pid in family(self._process.pid) if _words(pid) != warden_words]

    def memory_bytes(self) -> int:
        """Private memory of all its processes together, in host RAM; pages that they share are not counted."""
        return sum(_private_bytes(pid) for pid in self.pids())

    async def start(self) -> None:
        """Return when it is healthy. Raises EngineUnavailable, with its log's tail, when it ends or takes too long."""
        self._prune()
        try:
            await self._spawn()
            await self._ready()
            # Read by now; a folder that a SIGKILL leaves behind shall hold no key.
            Path(CONFIG.replace(PRIVATE, self._private or "")).unlink(missing_ok=True)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """SIGTERM, time to end, SIGKILL for the whole tree. Returns when no process of it is left."""
        process = self._process
        try:
            if process is not None and process.returncode is None:
                await self._end(process)
        finally:
            if self._private is not None:
                shutil.rmtree(self._private, ignore_errors=True)

    async def healthy(self, seconds: float = HEALTH_SECONDS) -> bool:
        """Whether it says within so long that it can answer."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self.url + HEALTH) as answer:
                return answer.status == 200
        return False

    def tail(self) -> str:
        """The end of what it wrote, secrets blacked out."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def died(self) -> EngineUnavailable:
        """What to raise or note for a server that ended by itself."""
        code = self._process.returncode if self._process else None
        return EngineUnavailable(f"{self.name} ended with exit code {code}; its log {self.log} ends:\n{self.tail()}")

    async def _spawn(self) -> None:
        launch = self._launch
        private = self._private = tempfile.mkdtemp(prefix="recap-server-")  # 0700
        if launch.config:
            Path(CONFIG.replace(PRIVATE, private)).write_text(launch.config)
        order = WardenOrder(
            owner=os.getpid(),
            argv=[word.replace(PRIVATE, private) for word in launch.argv],
            private=private,
            log=str(self.log),
            log_bytes=self._running.log_bytes,
            stop_seconds=self._running.stop_seconds,
            secrets=[*launch.secrets, *filter(None, (os.environ.get(name) for name in launch.passed))],
        )
        environment = kept(os.environ, launch.passed)
        environment |= {name: value.replace(PRIVATE, private) for name, value in launch.environment.items()}
        # Engines compile kernels with what lies beside their interpreter, such as ninja.
        environment["PATH"] = os.pathsep.join((str(Path(order.argv[0]).parent), environment.get("PATH", os.defpath)))
        # A session of its own: Ctrl-C at the terminal is ours to judge.
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", warden.__file__),
            stdin=PIPE,
            stdout=DEVNULL,
            env=environment,
            start_new_session=True,
        )
        self._exit = asyncio.create_task(self._process.wait())
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps(dataclasses.asdict(order)).encode())
            await self._process.stdin.drain()
        self._process.stdin.close()

    async def _ready(self) -> None:
        started = told = time.monotonic()
        while not await self.healthy():
            if not self.alive():
                raise self.died()
            now = time.monotonic()
            if now - started > self._running.start_seconds:
                raise EngineUnavailable(
                    f"{self.name} did not answer within {self._running.start_seconds:.0f} s of its start; "
                    f"its log {self.log} ends:\n{self.tail()}"
                )
            if now - told > PROGRESS_SECONDS:
                told, last = now, self.tail().rpartition("\n")[2]
                log.info("engine starting: name=%s seconds=%.0f last=%s", self.name, now - started, last)
            await asyncio.sleep(min(1.0, 0.05 + (now - started) / 10))

    async def _end(self, process: Process) -> None:
        # The warden allows stop_seconds, then kills and reaps; if it cannot even do that, it is stuck itself.
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._running.stop_seconds + 10)
        except BaseException as error:
            for pid in (*family(process.pid), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await process.wait()
            if not isinstance(error, TimeoutError):
                raise

    def _prune(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        for old in sorted(self._logs.glob(f"{self.name}-*.log"))[: -(self._running.logs_kept - 1) or None]:
            for path in (old, Path(f"{old}.1")):
                path.unlink(missing_ok=True)


def _words(pid: int) -> bytes:
    """The command line of a process, b"" once it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _private_bytes(pid: int) -> int:
    """RssAnon of one process; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def free_port(host: str = LOOPBACK, wished: int = 0) -> int:
    """A port that nobody listens on at host: the wished one if it is free, so that a server keeps its URL."""
    family_ = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wished, 0) if wished else (0,):
        with socket.socket(family_, socket.SOCK_STREAM) as listening, suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            return int(listening.getsockname()[1])
    raise EngineUnavailable(f"no free port on {host}")

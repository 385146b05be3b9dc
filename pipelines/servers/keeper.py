"""The keeper: starts a server, proves it, and while it is wanted brings it back whenever it dies, hangs or swells."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from captioner.errors import EngineError, EngineUnavailable, Refused
from pipelines.servers.launch import LOOPBACK, Launch
from pipelines.servers.load import Load, load_of
from pipelines.servers.process import HEALTH_SECONDS, Running, Server, free_port

log = logging.getLogger("recap")

State = Literal["stopped", "starting", "proving", "serving", "draining", "waiting", "gave_up"]
Prove = Callable[[str], Awaitable[None]]
Drain = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """When a server is restarted, and how patiently.

    prove_seconds: for the proof after it answers. backoff_seconds: pause after a first death, doubled with each more
    in a row up to backoff_most, then drawn from its upper half. give_up_after: deaths in a row; one in a row is
    forgotten after steady_seconds of service. unhealthy_seconds: without one good answer to a health check, it hangs.
    max_growth_bytes: private memory beyond what it had when it was proved; 0 for no bound. max_answers: 0 for no bound.
    Each life of a server draws up to a quarter more of both, or replicas with equal work would all drain at once.
    notice_seconds: until every client has seen that it drains. drain_seconds: then, for what it still has in hand.
    """

    running: Running = field(default_factory=Running)
    prove_seconds: float = 300.0
    backoff_seconds: float = 1.0
    backoff_most: float = 60.0
    give_up_after: int = 5
    steady_seconds: float = 120.0
    check_seconds: float = 2.0
    unhealthy_seconds: float = 60.0
    max_growth_bytes: int = 0
    max_answers: int = 0
    notice_seconds: float = 2.0
    drain_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.give_up_after < 1 or self.check_seconds <= 0 or self.backoff_seconds <= 0:
            raise Refused("give-up-after of 1 or more, check-seconds and backoff-seconds above 0 would be right")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """How a kept server stands; plain data. started: Unix seconds of its last start. deaths: in a row.

    answers: of this start, as its metrics tell. restarts: for whatever reason, recycles: those of its own accord.
    """

    name: str
    url: str = ""
    state: State = "stopped"
    pid: int | None = None
    restarts: int = 0
    recycles: int = 0
    deaths: int = 0
    memory_bytes: int = 0
    answers: int = 0
    outstanding: int = 0
    started: float = 0.0
    last_error: str = ""


def pause(deaths: int, upkeep: Upkeep, draw: float) -> float:
    """Seconds to wait after so many deaths in a row; draw: 0 to 1, so that many keepers do not start as one."""
    longest = min(upkeep.backoff_most, upkeep.backoff_seconds * 2.0 ** min(deaths - 1, 30))
    return longest * (0.5 + draw / 2)


@dataclass(slots=True, kw_only=True)
class _Told:
    """What a keeper remembers across its servers' lives."""

    state: State = "starting"
    starts: int = 0
    recycles: int = 0
    deaths: int = 0
    started: float = 0.0
    load: Load = field(default_factory=Load)
    last_error: str = ""


class Keeper:
    """Keeps one server serving between entering and leaving. What is sent where is the pool's business, not its.

    launch: how to start on a port. prove: shows that the right model answers at a URL; raises EngineUnavailable while
    it does not answer yet, Refused when it never will. drain: asks clients to send no more to a URL; without one they
    are expected to read `state`.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[int], Launch],
        logs: Path,
        prove: Prove,
        upkeep: Upkeep,
        drain: Drain | None = None,
    ) -> None:
        self.name, self._launch, self._logs, self._upkeep = name, launch, logs, upkeep
        self._prove, self._drain = prove, drain
        self._server: Server | None = None
        self._counters = launch(0).counters
        self._port = 0
        self._told = _Told()
        self._wanted = True
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep(), name=self.name)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def state(self) -> ServerState:
        """As it is now; load as of the last check."""
        told, server = self._told, self._server
        return ServerState(
            name=self.name,
            url=server.url if server else "",
            state=told.state,
            pid=server.pid if server and server.alive() else None,
            restarts=max(0, told.starts - 1),
            recycles=told.recycles,
            deaths=told.deaths,
            memory_bytes=server.memory_bytes() if server else 0,
            answers=told.load.answers,
            outstanding=told.load.outstanding,
            started=told.started,
            last_error=told.last_error,
        )

    def pids(self) -> list[int]:
        """Every process of the server that runs now, without its wardens."""
        return self._server.pids() if self._server else []

    async def serving(self) -> str:
        """The URL, once it is proved. Raises EngineUnavailable when the keeper has given up or was stopped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._told.state in ("serving", "gave_up", "stopped"))
        if self._told.state != "serving" or self._server is None:
            raise EngineUnavailable(f"{self.name} is not served: {self._told.last_error or 'it was stopped'}")
        return self._server.url

    async def drain(self) -> None:
        """Have clients leave, wait for what is in hand, then stop for good."""
        self._wanted = False
        if self._told.state in ("serving", "draining") and self._task is not None:
            await asyncio.wait([self._task])
        await self.stop()

    async def stop(self) -> None:
        """End it now; no process is left when this returns."""
        self._wanted = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._told.state != "gave_up":
            await self._enter("stopped")

    async def _enter(self, state: State) -> None:
        async with self._changed:
            self._told.state = state
            self._changed.notify_all()

    async def _keep(self) -> None:
        """Life after life, until it is wanted no more or has died too often."""
        told, upkeep = self._told, self._upkeep
        try:
            while self._wanted:
                try:
                    await self._live()
                except EngineError as error:
                    told.deaths, told.last_error = told.deaths + 1, str(error)
                    log.warning("engine died: name=%s deaths=%d error=%s", self.name, told.deaths, error)
                    if told.deaths >= upkeep.give_up_after:
                        await self._enter("gave_up")
                        return
                    await self._enter("waiting")
                    await asyncio.sleep(pause(told.deaths, upkeep, random.random()))
            await self._enter("stopped")
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # another model, or our own code: starting again would not help
            told.last_error = str(error)
            await self._enter("gave_up")
            raise

    async def _live(self) -> None:
        """One life of a server, which we end. Raises EngineError where it ended against our will."""
        self._port = free_port(urlsplit(self._launch(0).url).hostname or LOOPBACK, self._port)
        server = Server(self.name, self._launch(self._port), self._logs, self._upkeep.running)
        self._server = server
        told = self._told
        told.starts, told.started, told.load = told.starts + 1, time.time(), Load()
        try:
            await self._enter("starting")
            await server.start()
            await self._enter("proving")
            await self._proved(server)
            await self._enter("serving")
            log.info("engine serves: name=%s url=%s seconds=%.0f", self.name, server.url, time.time() - told.started)
            why = await self._watch(server)
            log.info("engine drains: name=%s why=%s", self.name, why)
            await self._enter("draining")
            await self._drained(server)
            told.recycles += self._wanted
        finally:
            await server.stop()

    async def _proved(self, server: Server) -> None:
        deadline = time.monotonic() + self._upkeep.prove_seconds
        while True:
            try:
                return await asyncio.wait_for(self._prove(server.url), max(0.0, deadline - time.monotonic()))
            except (EngineUnavailable, TimeoutError) as error:
                if not server.alive():
                    raise server.died() from error
                if time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"{self.name} answers but could not be proved within {self._upkeep.prove_seconds:g} s: {error}"
                    ) from error
            await asyncio.sleep(0.5)

    async def _watch(self, server: Server) -> str:
        """Why it should be ended. Raises EngineUnavailable when it died or hangs."""
        upkeep, told = self._upkeep, self._told
        began = healthy = time.monotonic()
        at_first, patience = server.memory_bytes(), 1 + random.random() / 4
        while self._wanted:
            if await server.ended(upkeep.check_seconds):
                raise server.died()
            now = time.monotonic()
            if await server.healthy(min(HEALTH_SECONDS, upkeep.unhealthy_seconds)):
                healthy = now
                told.load = await self._load(server)
            elif now - healthy > upkeep.unhealthy_seconds:
                raise EngineUnavailable(f"{self.name} hangs: not healthy for {now - healthy:.0f} s")
            if now - began > upkeep.steady_seconds:
                told.deaths = 0
            grown = server.memory_bytes() - at_first
            if upkeep.max_growth_bytes and grown > patience * upkeep.max_growth_bytes:
                return f"its memory grew by {grown / 2**20:.0f} MiB"
            if upkeep.max_answers and told.load.answers >= patience * upkeep.max_answers:
                return f"it answered {told.load.answers} requests"
        return "it is wanted no more"

    async def _drained(self, server: Server) -> None:
        """Until nothing is in hand any more, but not for ever."""
        deadline = time.monotonic() + self._upkeep.drain_seconds
        if self._drain is not None:
            await self._drain(server.url)
        else:
            await asyncio.sleep(self._upkeep.notice_seconds)
        while time.monotonic() < deadline and not await server.ended(0.2):
            self._told.load = await self._load(server)
            if self._told.load.outstanding == 0:
                return

    async def _load(self, server: Server) -> Load:
        told = await load_of(server.url, self._counters) if self._counters else None
        return told or self._told.load

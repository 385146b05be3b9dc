"""Scripted engines as processes of their own: killed for real, and brought back at their old port by a supervisor."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from typing import Self

from aiohttp import web

from pipelines.servers.process import free_port
from tests.scripted_engine import Asking, Reply, ScriptedEngine, caption

LOOK_SECONDS = 0.01
_FORKING = multiprocessing.get_context("forkserver")  # forked from a process that has imported everything: 20 ms
_FORKING.set_forkserver_preload(["tests.engine_yard"])


def number_of(asking: Asking) -> int:
    """Which sample is asked about, by the alt text `alt text <number>` that its prompt tells."""
    found = re.search(r"alt text (\d+)", asking.prompt)
    assert found is not None, asking.prompt
    return int(found[1])


def about(number: int, seconds: float = 0.0) -> Reply:
    """A caption that no other sample has."""
    return caption(
        f"A red disc lies on a plain blue ground, and the number {number} is painted on it.", seconds=seconds
    )


def die() -> Reply:
    """The whole process is gone at once."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody outlives that")

    return reply


def _serve(port: int, seconds: float, deadly: int | None) -> None:
    def pick(asking: Asking) -> Reply:
        number = number_of(asking)
        return die() if number == deadly else about(number, seconds)

    async def serve() -> None:
        async with ScriptedEngine(port=port, pick=pick):
            await asyncio.Event().wait()

    asyncio.run(serve())


@dataclass(slots=True, kw_only=True)
class Yard:
    """So many engines. Entering starts them and their supervisor; deaths: how often each URL's process had ended.

    seconds: that an answer takes. deadly: the number of a sample on which an engine's process dies.
    """

    count: int
    seconds: float = 0.0
    deadly: int | None = None
    deaths: Counter[str] = field(default_factory=Counter)
    _processes: dict[str, ForkServerProcess] = field(default_factory=dict)
    _supervisor: asyncio.Task[None] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(self._processes)

    async def __aenter__(self) -> Self:
        for _ in range(self.count):
            self._start(f"http://127.0.0.1:{free_port()}")
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._supervisor is not None
        self._supervisor.cancel()
        for process in self._processes.values():
            process.kill()
            process.join()

    async def kill(self, url: str) -> None:
        """SIGKILL; returns when its supervisor has noticed."""
        died = self.deaths[url]
        self._processes[url].kill()
        while self.deaths[url] == died:
            await asyncio.sleep(LOOK_SECONDS)

    def _start(self, url: str) -> None:
        words = (int(url.rpartition(":")[2]), self.seconds, self.deadly)
        self._processes[url] = _FORKING.Process(target=_serve, args=words, daemon=True)
        self._processes[url].start()

    async def _supervise(self) -> None:
        while True:
            for url, process in list(self._processes.items()):
                if not process.is_alive():
                    self.deaths[url] += 1
                    self._start(url)
            await asyncio.sleep(LOOK_SECONDS)

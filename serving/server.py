"""One process of the service: from its options to an open port, and from a signal to an orderly end."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import uvicorn

from captioner.engines import ENGINES
from captioner.errors import OutOfService, Refused
from captioner.recipe import Pace
from captioner.registry import load
from pipelines.connection import connection
from pipelines.models import access_of
from serving.app import application
from serving.connections import Headed, Lobby
from serving.fetching import Fetcher
from serving.front import Front
from serving.guard import Exchange, Guard
from serving.keys import Keyring
from serving.metrics import Metrics, MetricsServer
from serving.runs import RunView
from serving.service import Service
from serving.settings import Bounds, Fetching, Listening
from serving.uploads import recipes_of
from shards.store import Store

log = logging.getLogger("recap")

PROBE_SECONDS = 6.0  # at most between two looks at whether a dead replica is back; a batch has more time
MOST_HEAD = 65_536  # bytes that uvicorn keeps of a head; the guard allows a quarter of it
LAST_WORDS_SECONDS = 0.5  # for a 504 to reach its client before connections are closed
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Clients of aiohttp keep a connection for 15 s: one that we closed before would be a request that fails.
KEEP_ALIVE_SECONDS = 20
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server listens, "" for one that was ended before it did. metrics: the URL of its metrics, "" for none."""

    url: str
    metrics: str


@dataclass(slots=True, kw_only=True)
class Server:
    """Serves from `running` on, until `end` or until its engine will never serve."""

    service: Service
    listening: Listening
    bounds: Bounds
    front: Front
    metrics: Metrics
    _uvicorn: _Quiet = field(init=False)
    _signals: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        names = frozenset() if self.front.keyring.wanted else self._names()
        guard = Guard(app=application(self.front), bounds=self.bounds, names=names, told=self._told)
        config = uvicorn.Config(
            guard,
            host=self.listening.host,
            port=self.listening.port,
            http=partial(Headed, Lobby(self.bounds)),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=self.bounds.connections,
            h11_max_incomplete_event_size=MOST_HEAD,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, math.ceil(self.listening.drain_seconds)),
        )
        self._uvicorn = _Quiet(config)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Place]:
        """Serve for as long as this is open; the engine may still be starting. Raises OutOfService, Refused."""
        with ExitStack() as stack:
            metrics = ""
            if self.listening.metrics_port >= 0:
                host, port = self.listening.metrics_host, self.listening.metrics_port
                metrics = stack.enter_context(MetricsServer(self.metrics, host, port)).address
            async with AsyncExitStack() as opened:
                await opened.enter_async_context(self.service.opened())
                if self.front.run is not None:  # after the engine's pool, which it tells where to ask
                    await opened.enter_async_context(self.front.run)
                serving = asyncio.create_task(_served(self._uvicorn))
                try:
                    while not self._uvicorn.started:
                        if serving.done():
                            taken = f"port {self.listening.port} of {self.listening.host} is taken"
                            raise OutOfService(f"{taken}: another --port would be right, or 0 for a free one")
                        await asyncio.sleep(0.01)
                    yield Place(url=self._url(), metrics=metrics)
                finally:
                    self._end_within(self.listening.drain_seconds)
                    self._uvicorn.should_exit = True
                    await serving

    @contextmanager
    def signalled(self) -> Iterator[None]:
        """Hear SIGTERM and Ctrl-C for as long as this is open."""
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.add_signal_handler(each, self.end)
        try:
            yield
        finally:
            for each in SIGNALS:
                loop.remove_signal_handler(each)

    async def until_asked(self) -> None:
        """Wait for a signal, or until the engine is lost."""
        while not self._uvicorn.should_exit and self.service.engine.lost is None:
            await asyncio.sleep(0.05)

    def end(self) -> None:
        """The first time: not ready any more, and soon no new connection, while what was accepted is finished.

        The second time: end now.
        """
        self._signals += 1
        self.service.draining = True
        if self._signals > 1:
            self._uvicorn.force_exit = self._uvicorn.should_exit = True
            return
        log.info("drains: working=%d waiting=%d", self.service.admission.working, self.service.admission.waiting)
        leave = self.listening.leave_seconds
        self._end_within(leave + self.listening.drain_seconds)
        asyncio.get_running_loop().call_later(leave, setattr, self._uvicorn, "should_exit", True)

    def _end_within(self, seconds: float) -> None:
        """What is not done by then is told so while its client can still hear it."""
        self.service.draining = True
        self.service.end_by(asyncio.get_running_loop().time() + seconds - LAST_WORDS_SECONDS)

    def _url(self) -> str:
        if not self._uvicorn.servers[0].sockets:
            return ""
        host, port = self._uvicorn.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _names(self) -> frozenset[str]:
        more = {each.strip().lower() for each in self.listening.names.split(",") if each.strip()}
        return LOOPBACK_NAMES | {self.listening.host.lower()} | more

    def _told(self, exchange: Exchange, seconds: float) -> None:
        self.metrics.ended(exchange, seconds)


def server_of(options: Any) -> Server:
    """The server that a command line asks for. Raises Refused for options that do not fit."""
    where, bounds = options.where, options.bounds
    _roomy(bounds, options.fetching)
    access = access_of(where.engine, load(ENGINES, where.engine), options.models)
    run = options.listening.run
    if access is not None and not access.endpoints and not run:
        raise Refused(
            f"--engine {where.engine} wants --endpoints here, or --run OUT to share the engines that a run keeps: "
            "a service starts no servers"
        )
    if access is not None:
        access = replace(access, probe_seconds=PROBE_SECONDS)
    recipes, pace = recipes_of(options), Pace(**asdict(options.pace))
    service = Service(recipes, connection(recipes["image"], pace, access), pace, bounds)
    fetching = options.fetching
    view = RunView(Store(run)) if run else None
    if view is not None and access is not None and not access.endpoints:
        view.follow = service.engine.serve_at
    front = Front(
        service=service,
        run=view,
        keyring=Keyring(options.listening.key_file),
        bounds=bounds,
        fetcher=Fetcher(settings=fetching, most_bytes=bounds.body_bytes) if fetching.allow_urls else None,
    )
    return Server(service=service, listening=options.listening, bounds=bounds, front=front, metrics=Metrics(service))


def _roomy(bounds: Bounds, fetching: Fetching) -> None:
    if fetching.allow_urls and bounds.held_mib == bounds.body_mib:
        raise Refused(
            f"--held-mib {bounds.held_mib} is no more than --body-mib: with --allow-urls "
            f"{2 * bounds.body_mib} or more would be right, for what is fetched is held beside the request"
        )


class _Quiet(uvicorn.Server):
    """uvicorn without signals of its own: it would end the process by the signal, and not with an exit code."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to whoever runs it."""
        yield


async def _served(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit:  # uvicorn's way to say that it could not listen
        return

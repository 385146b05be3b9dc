"""The engine as a service keeps it: opened aside, watched, given up on at once while nobody serves."""

from __future__ import annotations

import asyncio
import logging

from captioner.engines.replica import CANARY
from captioner.errors import EngineUnavailable, RecapError, Refused
from captioner.types import Caption, CaptionRequest, Engine
from pipelines.connection import SERVING, Connection, Use

log = logging.getLogger("recap")

TICK_SECONDS = 0.2
GONE_SECONDS = 1.0  # without a replica that serves: until then the pool may ask another, or the same one come back
QUIET_SECONDS = 20.0  # without an answer, before a tiny request is sent to see whether there would be one
CANARY_SECONDS = 10.0
STUCK_SECONDS = 60.0  # with requests out and no answer


class Attended:
    """An Engine in front of a connection that it opens and closes.

    lost: why it will never serve, such as another model; None while it may. seen, ready_seen: its use and whether it
    was ready at most TICK_SECONDS ago, for other threads; None before it is open.
    """

    def __init__(self, way: Connection) -> None:
        self._way = way
        self.lost: RecapError | None = None
        self._urls: tuple[str, ...] = ()
        self._engine: Engine | None = None
        self._asks: set[asyncio.Future[Caption]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._song: asyncio.Task[None] | None = None  # a canary under way
        self._gone_since: float | None = None
        self._progress = 0.0
        self._dumb = False  # the last canary had no answer
        self.seen: Use | None = None
        self.ready_seen = False

    async def __aenter__(self) -> Attended:
        self._tasks = [asyncio.create_task(self._open()), asyncio.create_task(self._listen())]
        return self

    async def __aexit__(self, *exc: object) -> None:
        under_way = [*self._tasks, *([self._song] if self._song is not None else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._engine is not None:
            self._engine = None
            await self._way.__aexit__(None, None, None)

    @property
    def open(self) -> bool:
        """Whether it has been entered: before that nobody may ask how much room it has."""
        return self._engine is not None

    @property
    def serves(self) -> bool:
        """Whether somebody would answer now."""
        return self._engine is not None and self._gone_since is None

    @property
    def ready(self) -> bool:
        """Whether answers come: somebody serves, the last canary sang, and what is out is not stuck."""
        stuck = bool(self._asks) and asyncio.get_running_loop().time() - self._progress > STUCK_SECONDS
        return self.serves and not self._dumb and not stuck

    def room(self) -> int:
        """How many requests the engine wants to have."""
        return self._way.room() if self.open else 1

    async def serve_at(self, urls: tuple[str, ...]) -> None:
        """Ask at these URLs from now on."""
        if urls != self._urls:
            self._urls = urls
            await self._way.serve_at(urls)

    def use(self) -> Use | None:
        """How much it is used, for its own loop; None before it is open."""
        return self._way.use() if self.open else None

    async def caption(self, request: CaptionRequest) -> Caption:
        """As the engine's own; EngineUnavailable at once while nobody serves, and a second after the last one left."""
        if self._engine is None or (self._gone_since is not None and self._is_gone()):
            raise EngineUnavailable("nobody serves")
        if not self._asks:
            self._progress = asyncio.get_running_loop().time()
        ask = asyncio.ensure_future(self._engine.caption(request))
        self._asks.add(ask)
        try:
            caption = await ask
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the caller left; the ask was cancelled with it
                raise
            raise EngineUnavailable("the last replica left") from None
        except Refused as error:  # no picture is at fault, and no other answer will come
            self.lost = error
            raise EngineUnavailable("the engine refuses") from None
        finally:
            self._asks.discard(ask)
        self._progress, self._dumb = asyncio.get_running_loop().time(), False
        return caption

    async def _open(self) -> None:
        try:
            await self._way.__aenter__()
        except RecapError as error:
            self.lost = error
            return
        self._progress = asyncio.get_running_loop().time()
        self._engine = self._way.lane("interactive")
        log.info("engine serves")

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if not self.open:
                continue
            self.seen, self.ready_seen = self._way.use(), self.ready
            if self._somebody_serves(self.seen):
                self._gone_since = None
            elif self._gone_since is None:
                self._gone_since = loop.time()
            elif self._is_gone():
                for ask in self._asks:
                    ask.cancel()
            if self.serves and not self._asks and loop.time() - self._progress > QUIET_SECONDS:
                self._sing()

    def _is_gone(self) -> bool:
        since = self._gone_since
        return since is not None and asyncio.get_running_loop().time() - since >= GONE_SECONDS

    def _somebody_serves(self, use: Use) -> bool:
        return use.pool is None or any(each.state in SERVING for each in use.pool.replicas)

    def _sing(self) -> None:
        """Send a canary, aside: who waits for its answer would not see the last replica leave meanwhile."""
        assert self._engine is not None, "nobody calls this before it is open"
        if self._song is None:
            self._song = asyncio.create_task(self._sung(self._engine))
            self._song.add_done_callback(self._heard)

    async def _sung(self, engine: Engine) -> None:
        async with asyncio.timeout(CANARY_SECONDS):
            await engine.caption(CANARY)

    def _heard(self, song: asyncio.Task[None]) -> None:
        self._song = None
        if song.cancelled():
            return
        error = song.exception()
        if isinstance(error, Refused):
            self.lost = error
        else:  # whatever broke, and were it code of ours: what has no answer for a canary has none for a picture
            self._dumb = error is not None
        self._progress = asyncio.get_running_loop().time()

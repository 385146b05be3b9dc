"""Ray, and nothing else: where workers live."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError

from captioner.captioning import Captioner
from captioner.engines.pool import PoolStats
from captioner.errors import EngineUnavailable, OutOfService, RecapError
from captioner.external import external_of
from captioner.filters import FILTERS, SCREENS
from captioner.media.decoders import DecoderPool
from captioner.recipe import Pace, Recipe
from captioner.registry import build
from captioner.types import ShardInput
from pipelines.arenas import few_arenas
from pipelines.caption_shard import Done, Line, Progress, caption_shard
from pipelines.connection import Connection, Use, connection, room
from pipelines.gate import Gate
from pipelines.metrics import WorkerMetrics
from pipelines.models import Access
from pipelines.quality import Band, Quality
from shards.commits import sha256_of
from shards.plan import NAME as PLAN
from shards.sources import SOURCES
from shards.store import Store

REPORT_SECONDS = 0.5
# By HOST:PORT Ray looks for no token of itself, and says of one that it lacks only that it cannot connect.
TOKEN = "if it is there, it wants its token: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, as on its nodes"
MAX_OPEN_BYTES = 512 * 2**20  # stored media that one worker may hold at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All a worker needs to know: its constructor's argument, as Ray repeats only the constructor after a death."""

    output: str
    run_id: str
    recipe: Recipe
    pace: Pace
    access: Access | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A shard that has no record because something around it is gone; the same command tries it again."""

    shard: str
    kind: str
    detail: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one worker has open, for the display. busy_seconds: slot-seconds spent in the engine.

    pool: of its replicas, None for an engine that runs inside the worker.
    """

    open: tuple[Progress, ...]
    slots: int
    busy_seconds: float
    asked: int
    pids: tuple[int, ...]
    pool: PoolStats | None = None


class Worker:
    """One process that takes shards: its decoders, its engine and its gate, opened when the first shard comes."""

    def __init__(self, job: Job) -> None:
        few_arenas()
        self._job = job
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._line: Line | None = None
        self._way: Connection | None = None
        self._endpoints: tuple[str, ...] | None = None
        self._decoders: DecoderPool | None = None
        self._metrics = WorkerMetrics() if ray.is_initialized() else None
        self._tasks: set[asyncio.Task[Done]] = set()

    async def caption(self, shard: ShardInput) -> Done | Trouble:
        """Take one shard to its commit record; an error of our own code is raised, one of the world is a Trouble."""
        task = asyncio.ensure_future(self._caption(shard))
        self._tasks.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            return Trouble(shard=shard.shard, kind="stopped", detail="asked to stop", exit_code=0)
        except (OutOfService, EngineUnavailable) as error:
            return Trouble(shard=shard.shard, kind=type(error).__name__, detail=str(error), exit_code=3)
        except RecapError as error:
            return Trouble(shard=shard.shard, kind=type(error).__name__, detail=str(error), exit_code=error.exit_code)
        finally:
            self._tasks.discard(task)

    async def _caption(self, shard: ShardInput) -> Done:
        return await caption_shard(shard, await self._opened())

    async def report(self) -> Report:
        """Counts of what is open now."""
        use = self._way.use() if self._line and self._way else Use(slots=0, busy_seconds=0.0, asked=0)
        if self._metrics is not None:
            self._metrics.tell(use)
        return Report(
            open=tuple(self._line.open.values()) if self._line else (),
            slots=use.slots,
            busy_seconds=use.busy_seconds,
            asked=use.asked,
            pids=(os.getpid(), *(self._decoders.pids if self._decoders else ())),
            pool=use.pool,
        )

    async def serve_at(self, urls: tuple[str, ...]) -> None:
        """The replicas' URLs as they are now; a worker that Ray revived knows those of the run's start."""
        self._endpoints = urls
        if self._way is not None:
            await self._way.serve_at(urls)

    async def stop(self) -> None:
        """Give open shards back, their finished captions in the journal, and leave no process behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _opened(self) -> Line:
        async with self._opening:
            if self._line is None:
                self._line = await self._open()
        return self._line

    async def _open(self) -> Line:
        recipe, pace = self._job.recipe, self._job.pace
        store = Store(self._job.output)
        await asyncio.to_thread(self._same_output, store)
        async with AsyncExitStack() as opening:  # what opened before something failed is closed again
            clips = recipe.asking.frames.reader if recipe.asking.frames else ""
            decoders = DecoderPool(pace.decoders, recipe.limits, clips=clips)
            self._decoders = await opening.enter_async_context(decoders)
            self._way = way = connection(recipe, pace, self._access())  # not entered yet: that may take minutes
            await opening.enter_async_context(way)
            if (external := external_of(recipe.asking.told)) is not None:
                await opening.enter_async_context(external)
            self._stack = opening.pop_all()
        captioner = Captioner(
            screens=tuple(build(SCREENS, each.name, each.settings) for each in recipe.screens),
            decoder=self._decoders,
            engine=way.engine,
            asking=recipe.asking,
            filters=tuple(build(FILTERS, each.name, each.settings) for each in recipe.filters),
            external=external,
        )
        return Line(
            store=store,
            run_id=self._job.run_id,
            recipe=recipe,
            source=build(SOURCES, recipe.source.name, recipe.source.settings),
            captioner=captioner,
            gate=Gate(room=room(way, pace), max_bytes=MAX_OPEN_BYTES),
            pace=pace,
            quality=Quality(band=Band(window=pace.quality_window, at_most=pace.rejected_at_most)),
            distrust=way.distrust,
        )

    def _access(self) -> Access | None:
        """With the replicas as they were last told."""
        access = self._job.access
        if access is None or self._endpoints is None:
            return access
        return replace(access, endpoints=self._endpoints)

    def _same_output(self, store: Store) -> None:
        """A path that means another disk on this node would take shards that nobody finds again."""
        try:
            there = sha256_of(store.read(PLAN))
        except FileNotFoundError:
            there = ""
        if there != self._job.run_id:
            raise OutOfService(f"{store.url} on {os.uname().nodename} is not the run's output: every node must see it")


def start_workers(count: int, job: Job) -> list[Any]:
    """Worker actors, restarted by Ray whenever they die, each on a CPU of its own."""
    kind = ray.remote(Worker).options(
        num_cpus=1, max_restarts=-1, max_task_retries=0, max_concurrency=job.pace.open_shards + 8
    )
    return [kind.remote(job) for _ in range(count)]


def cluster_cpus(held: float) -> int:
    """CPUs of the cluster that this process has joined, less those that its engines hold; at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1) - held))


def default_address() -> str:
    """`local`, unless this process is the driver of a submitted Ray job: then that job's cluster."""
    return "auto" if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") else "local"


@contextmanager
def ray_cluster(address: str) -> Iterator[None]:
    """Ray for the time of a run: started here for `local` and stopped on the way out, else joined and left.

    Inside another one, as where a long listing had company, it is that one. Raises OutOfService.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except BaseException as error:
        # A node that takes over 30 s to start is told of by a plain Exception.
        if type(error) is Exception or isinstance(error, ConnectionError | RuntimeError | ValueError):
            asked = "" if address == "local" else f" ({TOKEN})"
            raise OutOfService(f"no Ray cluster at {address!r}: {error}{asked}") from error
        raise
    try:
        yield
    finally:
        ray.shutdown()


class Reports:
    """The workers' latest counts, asked for without ever waiting for a busy or dead one."""

    def __init__(self, workers: list[Any]) -> None:
        self._workers = workers
        self._latest: dict[int, Report] = {}
        self._asked: dict[Any, int] = {}
        self._next = 0.0

    def latest(self) -> list[Report]:
        """Whatever has come in."""
        ready = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)[0] if self._asked else []
        for ref in ready:
            number = self._asked.pop(ref)
            try:
                self._latest[number] = ray.get(ref)
            except RayError:
                self._latest.pop(number, None)
        if time.monotonic() < self._next:
            return list(self._latest.values())
        self._next = time.monotonic() + REPORT_SECONDS
        missing = set(range(len(self._workers))) - set(self._asked.values())
        self._asked.update({self._workers[number].report.remote(): number for number in missing})
        return list(self._latest.values())

"""A run, top to bottom: plan, hand shards to workers, publish the manifest."""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from captioner.errors import SourceError
from captioner.recipe import Pace, Recipe, to_json
from captioner.registry import build
from captioner.types import ShardInput
from pipelines.actors import REPORT_SECONDS, Job, Report, Reports, Trouble, cluster_cpus, ray_cluster, start_workers
from pipelines.caption_shard import Done
from pipelines.costs import FREE, Price
from pipelines.engine_hosts import Hosting
from pipelines.fleet import Fleet, Starting, fleet_of
from pipelines.models import Access
from pipelines.replicas import together
from shards import card, commits, manifest
from shards import plan as plans
from shards.finding import find
from shards.manifest import Manifest
from shards.plan import Plan
from shards.probe import probe
from shards.sources import SOURCES
from shards.store import Store, open_blob

log = logging.getLogger("recap")

Show = Callable[["RunState", list[Report]], None]
RESTART_SECONDS = 1.0  # Ray takes about two to restart an actor
UNREAD_IN_A_ROW = 10  # one missing shard is the shard's fault, ten in a row are a key, a mount or a network
SILENT_SECONDS = 300.0  # so long may every worker be dead or not yet placed before the cluster counts as gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A run as it is asked for: what is made, where to, how fast, on which cluster, and by whose engines.

    access: how workers reach served models, None for an engine that runs in them. hosting: how the run's own servers
    are kept, None where others run them. price: what the time costs.
    """

    recipe: Recipe
    plan: Plan
    output: str
    pace: Pace
    address: str
    access: Access | None = None
    hosting: Hosting | None = None
    price: Price = FREE


@dataclass(slots=True, kw_only=True)
class RunState:
    """Where a run stands; the driver's whole memory of it."""

    plan: Plan
    started: float = field(default_factory=time.monotonic)
    waiting: deque[ShardInput] = field(default_factory=deque)
    committed_before: int = 0
    committed: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    bytes_planned: int = 0
    bytes_done: int = 0
    from_journal: int = 0
    bytes_from_journal: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    failed_in_a_row: int = 0
    unread_in_a_row: int = 0
    stop_reason: str | None = None
    exit_code: int = 0

    def done(self, done: Done, size: int) -> None:
        """A shard has its record."""
        self.committed.add(done.shard)
        self.failed_in_a_row = 0
        self.counts.update(done.counts)
        self.spent.update(done.spent)
        self.bytes_done += size
        self.from_journal += done.from_journal
        self.bytes_from_journal += done.bytes_from_journal
        self.unread_in_a_row = self.unread_in_a_row + 1 if (done.reason or "").startswith("source_") else 0
        if self.unread_in_a_row >= UNREAD_IN_A_ROW:
            self.stop(f"{self.unread_in_a_row} shards in a row could not be read ({done.reason}): it is not them", 3)
        self.retries.update(done.retries)

    def fail(self, shard: str, why: str, pace: Pace) -> None:
        """A shard broke our own code: reported, and left for the next run. So many in a row mean that it is us."""
        self.failed[shard] = why
        self.failed_in_a_row += 1
        log.error("shard failed: shard=%s why=%s", shard, why)
        if self.failed_in_a_row >= pace.stop_after:
            self.stop(f"{self.failed_in_a_row} shards in a row broke our own code; the last: {why}", 3)

    def stop(self, reason: str, exit_code: int) -> None:
        """Hand out nothing more."""
        self.stop_reason, self.exit_code = self.stop_reason or reason, max(self.exit_code, exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a run ended. exit_code: see the README's table. seconds: that it took."""

    run_id: str
    exit_code: int
    manifest: Manifest | None
    state: RunState
    seconds: float


def make_plan(recipe: Recipe, input_url: str, versions: dict[str, str], output: str = "") -> Plan:
    """The plan of a recipe over what is at input_url now, but for what lies in the output. Raises Refused."""
    source = build(SOURCES, recipe.source.name, recipe.source.settings)
    inputs = source.plan(find(input_url, output))
    if recipe.limit is not None:
        inputs = list(_limited(source, inputs, recipe.limit))
    return plans.plan_for(recipe, inputs, versions)


def _limited(source: Any, inputs: list[ShardInput], limit: int) -> Iterator[ShardInput]:
    """The first shards, the last of them cut, that together hold `limit` samples."""
    for shard in inputs:
        try:
            count = sum(1 for _ in islice(iter(source.read(shard, open_blob)), limit))
        except SourceError:  # why it does not read is the run's to tell, in its record
            yield dataclasses.replace(shard, take=limit)
            continue
        yield dataclasses.replace(shard, take=min(count, limit)) if count >= limit else shard
        limit -= count
        if limit <= 0:
            return


def recaption(order: Order, show: Show) -> Finished:
    """Run a plan to its end or to where it stops; the same call resumes. Raises Refused, OutOfService, CorruptState."""
    store, plan = Store(order.output), order.plan
    probe(store)
    plans.enter(store, plan)
    there = commits.committed(store)
    manifest.latest(store)
    state = RunState(plan=plan, waiting=deque(s for s in plan.inputs if s.shard not in there))
    state.committed_before = len(plan.inputs) - len(state.waiting)
    state.bytes_planned = sum(shard.size for shard in state.waiting)
    with _records_checked(store, there, state) as begin:
        if state.waiting:
            with ray_cluster(order.address), _asked_to_stop(state), _engines(order, store, state) as fleet:
                _dispatch(state, order, store.url, fleet, _shown_and_paid(show, order.price, begin))
    published = manifest.publish(store, plan, plan.versions["recap"]) if commits.committed(store) else None
    if published is not None and published.complete:
        card.write(store, plan, published)
    return Finished(
        run_id=plan.run_id,
        exit_code=_exit_code(state, published),
        manifest=published,
        state=state,
        seconds=time.monotonic() - state.started,
    )


@contextmanager
def _records_checked(store: Store, there: set[str], state: RunState) -> Iterator[Callable[[], None]]:
    """Read every record that is there while the work goes on: a damaged one ends the run now, not after days of work.

    Aside, as a hundred thousand take most of a minute, and begun by calling what this yields, or on leaving: until the
    workers have their first shards the driver has better things to do. Raises CorruptState, naming the file.
    """
    work_began = threading.Event()

    def read() -> None:
        work_began.wait()
        commits.read_all(store, there)

    def told(reading: Future[Any]) -> None:
        if reading.exception() is not None:
            state.stop("a record is damaged", 4)

    with ThreadPoolExecutor(1) as aside:
        reading = aside.submit(read)
        reading.add_done_callback(told)
        try:
            yield work_began.set
        finally:
            work_began.set()
        reading.result()


def _exit_code(state: RunState, published: Manifest | None) -> int:
    if state.stop_reason is not None:
        return state.exit_code
    troubled = bool(state.failed) or published is None or not published.complete
    troubled = troubled or bool(published and published.totals["shard_reasons"])
    counts = published.totals["counts"] if published else {}
    return int(troubled or counts.get("failed", 0) > 0)


def _shown_and_paid(show: Show, price: Price, begin: Callable[[], None]) -> Show:
    """What is done about every half second: show, stop when the budget is gone, and begin what waits for work to go."""

    def each_time(state: RunState, reports: list[Report]) -> None:
        show(state, reports)
        if reports:
            begin()
        if price.used_up(time.monotonic() - state.started):
            state.stop(f"this start has spent its budget of {price.budget:g}; the same command goes on with as much", 3)

    return each_time


@contextmanager
def _engines(order: Order, store: Store, state: RunState) -> Iterator[Fleet | None]:
    """The replicas that workers ask, None for an engine that runs in them."""
    if order.access is None:
        yield None
        return
    starting = None
    if order.hosting is not None:
        grows = order.address != "local"
        starting = Starting(hosting=order.hosting, grows=grows, stopped=lambda: state.stop_reason is not None)
    with fleet_of(store, order.access, starting, order.recipe.engine.settings) as fleet:
        yield fleet


def _dispatch(state: RunState, order: Order, output: str, fleet: Fleet | None, show: Show) -> None:
    """Keep every worker's open_shards filled until nothing waits; no sample ever comes through here."""
    pace, access = order.pace, order.access
    if fleet is not None and access is not None:
        urls = fleet.wait(access.start_seconds, lambda: state.stop_reason is not None)
        access = dataclasses.replace(access, endpoints=urls)
    job = Job(output=output, run_id=order.plan.run_id, recipe=order.recipe, pace=pace, access=access)
    there = cluster_cpus(fleet.held_cpus if fleet else 0.0)
    if pace.workers > there:
        log.warning("workers wait for CPUs, one each: asked=%d there=%d", pace.workers, there)
    workers = start_workers(min(pace.workers or there, len(state.waiting)), job)
    seats = [worker for _ in range(pace.open_shards) for worker in workers]
    desk = _Desk(state=state, job=job, seats=seats, fleet=fleet)
    reports = Reports(workers)
    while state.stop_reason is None and (desk.open() or state.waiting):
        desk.hand_out()
        desk.take_back()
        show(state, reports.latest())
        if fleet is not None:
            _look_after(fleet, state, reports)
    _stop_workers(list(desk.met.values()))
    desk.take_back(timeout=0)  # what a stopped worker had finished all the same


def _look_after(fleet: Fleet, state: RunState, reports: Reports) -> None:
    """Stop when no engine will ever serve again, and leave a note of what they all do."""
    if (last := fleet.lost()) is not None:
        state.stop(f"every engine was given up; the last words: {last}", 3)
    fleet.save(lambda: [to_json(each) for each in together([r.pool for r in reports.latest() if r.pool])])


@dataclass(slots=True, kw_only=True)
class _Desk:
    """Who has which shard. A seat is a worker's place for one shard; it is given none before the worker answered.

    fleet: whose URLs the workers are told, whenever they change and whenever Ray has revived one.
    """

    state: RunState
    job: Job
    seats: list[Any]
    fleet: Fleet | None = None
    free: deque[Any] = field(default_factory=deque)
    running: dict[Any, tuple[Any, ShardInput | None]] = field(default_factory=dict)
    asleep: list[tuple[float, Any]] = field(default_factory=list)
    answered: float = field(default_factory=time.monotonic)
    met: dict[int, Any] = field(default_factory=dict)  # who has answered: one that found no CPU could not hear a stop
    told: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.asleep = [(0.0, worker) for worker in self.seats]

    def open(self) -> bool:
        """Whether some worker has a shard."""
        return any(shard is not None for _, shard in self.running.values())

    def hand_out(self) -> None:
        """Shards to free seats, and a knock at every worker whose pause is over."""
        now = time.monotonic()
        self._tell(self.seats if self._moved() else [worker for due, worker in self.asleep if due <= now])
        for worker in [worker for due, worker in self.asleep if due <= now]:
            self.running[worker.report.remote()] = (worker, None)
        self.asleep = [(due, worker) for due, worker in self.asleep if due > now]
        while self.free and self.state.waiting:
            worker, given = self.free.popleft(), self.state.waiting.popleft()
            self.running[worker.caption.remote(given)] = (worker, given)
        if not self.free and not self.open() and now - self.answered > SILENT_SECONDS:
            self.state.stop(f"no worker has answered for {SILENT_SECONDS:.0f} s: has the cluster free CPUs?", 3)

    def _moved(self) -> bool:
        """Whether the replicas are elsewhere than the workers were told."""
        before, self.told = self.told, self.fleet.urls() if self.fleet is not None else ()
        return self.told != before

    def _tell(self, seats: list[Any]) -> None:
        if self.fleet is not None:
            for worker in {id(worker): worker for worker in seats}.values():
                worker.serve_at.remote(self.told)

    def take_back(self, timeout: float = REPORT_SECONDS) -> None:
        """Book whatever has come in."""
        refs = list(self.running)
        ready = ray.wait(refs, num_returns=1 if timeout else len(refs), timeout=timeout)[0] if refs else []
        for ref in ready:
            worker, shard = self.running.pop(ref)
            if _settle(self.state, ref, shard, self.job.pace):
                self.answered = time.monotonic()
                self.met[id(worker)] = worker
                self.free.append(worker)
            else:
                # Its other seats too: what Ray starts again must be told where the engines are before it has a shard.
                others = self.free.count(worker)
                self.free = deque(each for each in self.free if each is not worker)
                self.asleep += [(time.monotonic() + RESTART_SECONDS, worker)] * (1 + others)
        if not refs:
            time.sleep(timeout)


def _settle(state: RunState, ref: Any, shard: ShardInput | None, pace: Pace) -> bool:
    """Book one answer of a worker: done, to be tried again, or failed. Whether the worker lives."""
    try:
        answer = ray.get(ref)
    except RayTaskError as error:
        if shard is not None:
            why = str(error.cause or error).strip() or type(error.cause).__name__
            state.fail(shard.shard, why.splitlines()[-1], pace)
            log.error("%s", error)
        return True
    except RayError as error:  # dead, out of memory, its node gone, not placed
        if shard is not None:
            _died(state, shard, type(error).__name__, pace)
        return False
    match answer:
        case Done() if shard is not None:
            state.done(answer, shard.size)
        case Trouble(kind="stopped") if shard is not None:
            state.waiting.append(shard)
        case Trouble():
            state.stop(f"{answer.kind}: {answer.detail}", answer.exit_code)
    return True


def _died(state: RunState, shard: ShardInput, how: str, pace: Pace) -> None:
    state.deaths[shard.shard] += 1
    log.warning("worker died: shard=%s deaths=%d error=%s", shard.shard, state.deaths[shard.shard], how)
    if state.deaths[shard.shard] >= pace.shard_tries:
        state.fail(shard.shard, f"its worker died {state.deaths[shard.shard]} times", pace)
    else:
        state.waiting.append(shard)


def _stop_workers(workers: list[Any]) -> None:
    refs = [worker.stop.remote() for worker in workers]
    ray.wait(refs, num_returns=len(refs), timeout=20)


@contextmanager
def _asked_to_stop(state: RunState) -> Iterator[None]:
    """SIGTERM and Ctrl-C end a run in order; a second one ends it at once, and it resumes all the same."""

    signalled = False

    def stop(number: int, frame: object) -> None:
        nonlocal signalled
        if signalled:
            raise KeyboardInterrupt
        signalled = True
        state.stop("stopped by a signal; the same command goes on from here", 0)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

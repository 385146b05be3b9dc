"""Campaigns against lone workers: killed on disk, killed on S3 behind a bad network, stopped and woken."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shards import commits, journal, ledger, manifest
from shards import plan as plans
from shards import store as stores
from shards.store import Store
from shards.verify import verify
from tests.chaos_page import OTHERWISE, SHOWN, Result
from tests.corpora import planned, run_here
from tests.faultproxy import FaultProxy, Faults
from tests.kills import Answers, answers
from tests.loneworker import FIRST, Workers, recipe
from tests.processes import alive, kill
from tests.s3 import seaweedfs, upload
from tests.tinyshards import make_tiny_shards

LANES = 2  # corpora made at once: a worker waits for its disk and its engine most of the time
POLL_SECONDS = 0.002
ROUND_SECONDS = 300.0  # a round takes half a minute
FAULTS_PER_KILL = 2.5
SHARE = 0.15  # of the requests that are spoilt


class Hung(Exception):
    """Something did not end in its time."""


class Stopped(Exception):
    """This command, or another lane, was ended: that is unfinished, not wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where rounds are played. outs: the URL or path under which each has its output; writes: see _Corpus."""

    folder: Path
    shards: str
    outs: str
    undisturbed: Answers
    proxy: FaultProxy | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to be told: to go through the proxy."""
        return {"AWS_ENDPOINT_URL": self.proxy.url} if self.proxy else {}


@dataclass(slots=True)
class Held:
    """Samples whose caption a kill can no longer take: in a committed ledger, or in the journal of an open shard."""

    out: str
    _committed: dict[str, int] = field(default_factory=dict)

    def count(self) -> int:
        """How many now."""
        store = Store(self.out)
        plan = plans.read(store)
        if plan is None:
            return 0
        for shard in commits.committed(store) - self._committed.keys():
            self._committed[shard] = _asked_in(store, shard)
        open_shards = [each.shard for each in plan.inputs if each.shard not in self._committed]
        with ThreadPoolExecutor(8) as pool:
            kept = list(pool.map(lambda shard: journal.load(store, plan.run_id, shard), open_shards))
        waiting = sum(bool(entry.row.attempts) for entries in kept for entry in entries.values())
        return sum(self._committed.values()) + waiting

    def complete(self) -> bool:
        """Whether every planned shard has its record."""
        plan = plans.read(Store(self.out))
        return plan is not None and len(commits.committed(Store(self.out))) == len(plan.inputs)


def _asked_in(store: Store, shard: str) -> int:
    record = commits.read(store, shard)
    assert record is not None
    name = next(file.name for file in record.files if file.name.endswith(".parquet"))
    return sum(bool(row.attempts) for row in ledger.from_parquet(store.read(name)))


def asked(log: Path) -> int:
    """Asks that reached the engine."""
    return log.stat().st_size if log.exists() else 0


def begun(log: Path) -> int:
    """Samples that were asked about, each time that it was for the first time."""
    return log.read_bytes().count(FIRST) if log.exists() else 0


def judged(undisturbed: Answers, out: str, result: Result) -> None:
    """Book what is wrong with one round's corpus."""
    store = Store(out)
    plan = plans.read(store)
    assert plan is not None
    manifest.publish(store, plan, "chaos")
    verdict = verify(store)
    found = answers(out)
    for problem in verdict.problems:
        result.book_problem(problem.check, f"{problem.where}: {problem.detail}")
    if not verdict.complete:
        result.book(OTHERWISE, "a round that ended is not complete")
    lost, doubled = undisturbed - found, found - undisturbed
    result.book_all("lost", list(lost)[:SHOWN], lost.total())
    result.book_all("doubled", list(doubled)[:SHOWN], doubled.total())
    result.over(found.total())


@dataclass(slots=True, kw_only=True)
class _Round:
    """One corpus, made by workers of whom all but the last are killed."""

    ground: Ground
    out: str
    log: Path
    workers: Workers
    dice: random.Random
    stopped: threading.Event
    deadline: float = field(init=False)
    held: Held = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + ROUND_SECONDS
        self.held = Held(self.out)

    def play(self, kills: int, result: Result) -> int:
        """Kill so many workers, if the work lasts, then let one end it; how many were. Raises Hung and Stopped."""
        done, held = 0, 0
        while True:
            begun_before = begun(self.log)
            pid = self._start()
            if done == kills:
                self._wait(pid, lambda: False)
                if self.held.complete():
                    return done
                continue
            if not self._wait(pid, self._moment()) and self.held.complete():
                return done
            struck = kill(pid)
            self._settle(pid)
            now = self.held.count()
            if struck:
                done += 1
                result.killed(max(0, begun(self.log) - begun_before - (now - held)))
            held = now

    def _start(self) -> int:
        return self.workers.start({"in": self.ground.shards, "out": self.out, "log": str(self.log)})

    def _moment(self) -> Callable[[], bool]:
        """When to strike: at any time, after some asks, or as soon as a write is seen."""
        match self.dice.randrange(3):
            case 0:
                end = time.monotonic() + self.dice.uniform(0, 1.0)
                return lambda: time.monotonic() > end
            case 1:
                asks = asked(self.log) + self.dice.randrange(1, 64)
                return lambda: asked(self.log) >= asks
            case _:
                writes = self._writes() + self.dice.randrange(1, 20 if self.ground.proxy else 6)
                return lambda: self._writes() >= writes

    def _writes(self) -> int:
        """On disk, data files and records that are there; behind the proxy, requests to write that came by."""
        if self.ground.proxy:
            return self.ground.proxy.writes
        folders = [Path(self.out) / name for name in ("data", "commits")]
        return sum(len(os.listdir(folder)) for folder in folders if folder.is_dir())

    def _wait(self, pid: int, moment: Callable[[], bool]) -> bool:
        """Whether the moment came while the worker lived. Raises Hung."""
        while alive(pid):
            if moment():
                return True
            self._in_time("a worker")
            time.sleep(POLL_SECONDS)
        return False

    def _settle(self, pid: int) -> None:
        """What the dead worker had sent off arrives, and is counted as held."""
        while alive(pid) or (self.ground.proxy and self.ground.proxy.open):
            self._in_time("a dead worker's last request")
            time.sleep(POLL_SECONDS)

    def _in_time(self, who: str) -> None:
        if time.monotonic() > self.deadline:
            raise Hung(f"{who} was still at {self.out} after {ROUND_SECONDS:.0f} s")
        if self.stopped.is_set():
            raise Stopped


@dataclass(slots=True)
class _Purse:
    """Kills still to be made, shared by the lanes."""

    wanted: int
    per_round: int
    result: Result
    faults: int = 0
    promised: int = 0
    rounds: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> tuple[int, int] | None:
        """The next round's number and kills; None when there have been enough, of kills and of faults."""
        with self._lock:
            left = self.wanted - self.result.kills - self.promised
            if left <= 0 and (self.promised or self.result.faults.total() >= self.faults):
                return None
            share = min(self.per_round, left if left > 0 else self.per_round)
            self.promised += share
            self.rounds += 1
            return self.rounds, share

    def back(self, share: int) -> None:
        """A round is over; what it killed stands in the result."""
        with self._lock:
            self.promised -= share


def _lane(ground: Ground, purse: _Purse, seed: int, lane: int) -> None:
    result = purse.result
    with Workers(ground.folder / f"errors-{lane}", ground.environment) as workers:
        while (taken := purse.take()) is not None and not result.wrong[OTHERWISE]:
            number, share = taken
            out, log = f"{ground.outs}{number}", ground.folder / f"asked-{number}.log"
            dice = random.Random(f"{seed}/{number}")
            one = _Round(ground=ground, out=out, log=log, workers=workers, dice=dice, stopped=purse.stopped)
            try:
                one.play(share, result)
                judged(ground.undisturbed, out, result)
            except Hung as error:
                result.book(OTHERWISE, str(error))
            except Stopped:
                return
            finally:
                _book_faults(ground, result)
                purse.back(share)
            if not ground.proxy and not result.wrong.total():
                shutil.rmtree(out)
        _book_leftovers(workers, result)


def _book_leftovers(workers: Workers, result: Result) -> None:
    for pid in workers.left_behind(10):
        result.book(OTHERWISE, f"a decoder outlived its worker: {pid}")
    if workers.crashes():
        result.book(
            OTHERWISE, f"{workers.crashes()} uncaught exceptions in workers, the first:\n{workers.first_crash()}"
        )


def _book_faults(ground: Ground, result: Result) -> None:
    if ground.proxy:
        result.faults = ground.proxy.injected.copy()
        result.requests = ground.proxy.injected.total() + ground.proxy.passed


def _campaign(ground: Ground, purse: _Purse, seed: int) -> None:
    lanes = range(min(LANES, -(-purse.wanted // purse.per_round)))
    with ThreadPoolExecutor(len(lanes)) as pool:
        try:
            for lane in as_completed(pool.submit(_lane, ground, purse, seed, number) for number in lanes):
                lane.result()
        finally:  # what ends one lane, or this command, ends the others
            purse.stopped.set()


def undisturbed(folder: Path, shards: Path) -> Answers:
    """What a run that nobody touches comes to."""
    whole = recipe()
    run_here(whole, planned(whole, shards), folder / "undisturbed")
    return answers(folder / "undisturbed")


def killed_on_disk(result: Result, folder: Path, kills: int, seed: int, shards: int = 40) -> None:
    """Kill workers on a local disk, 36 a corpus."""
    made = make_tiny_shards(folder / "in", shards=shards, per_shard=40)
    ground = Ground(folder=folder, shards=str(made), outs=f"{folder}/out-", undisturbed=undisturbed(folder, made))
    _campaign(ground, _Purse(kills, 36, result), seed)


def killed_on_s3(result: Result, folder: Path, kills: int, seed: int) -> None:
    """Kill workers on an S3 server of their own."""
    with s3_here(folder) as bucket:
        killed_in_bucket(result, folder, f"{bucket}/chaos", kills, seed)


def killed_in_bucket(result: Result, folder: Path, bucket: str, kills: int, seed: int, shards: int = 20) -> None:
    """Kill workers from bucket to bucket, 15 a corpus, while a proxy spoils what passes; the judge goes past it."""
    made = make_tiny_shards(folder / "in", shards=shards, per_shard=40)
    expected = undisturbed(folder, made)
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"], Faults(share=SHARE), seed) as proxy:
        source, outs = upload(made, f"{bucket}/in"), f"{bucket}/out-"
        ground = Ground(folder=folder, shards=source, outs=outs, undisturbed=expected, proxy=proxy)
        purse = _Purse(kills, 15, result, faults=round(FAULTS_PER_KILL * kills))
        _campaign(ground, purse, seed)


@contextmanager
def s3_here(folder: Path) -> Iterator[str]:
    """A bucket on a real S3 server of one's own, and the environment set so that a plain s3:// URL reaches it."""
    (folder / "s3").mkdir()
    with seaweedfs(folder / "s3") as environment:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        stores._opened.cache_clear()
        try:
            yield "s3://recap-chaos"
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            stores._opened.cache_clear()


def zombies(result: Result, folder: Path, seconds: float, shards: int = 20) -> None:
    """Stop workers in the middle, let another finish the corpus, wake them: nothing changes."""
    made = make_tiny_shards(folder / "in", shards=shards, per_shard=40)
    expected = undisturbed(folder, made)
    out, log = folder / "out", folder / "asked.log"
    config = {"in": str(made), "out": str(out), "log": str(log)}
    with Workers(folder / "errors") as workers:
        sleepers = [workers.start(config) for _ in range(3)]
        _until(lambda: asked(log) >= 60, ROUND_SECONDS)
        for pid in sleepers:
            os.kill(pid, signal.SIGSTOP)
            result.killed()
        stopped, last = time.monotonic(), workers.start(config)
        _until(lambda: not alive(last), ROUND_SECONDS)
        records = {path: path.read_bytes() for path in (out / "commits").iterdir()}
        time.sleep(max(0.0, seconds - (time.monotonic() - stopped)))
        asleep = asked(log)
        for pid in sleepers:
            os.kill(pid, signal.SIGCONT)
        _until(lambda: not any(alive(pid) for pid in sleepers), ROUND_SECONDS)
        if asked(log) == asleep:
            result.book(OTHERWISE, "no zombie did anything once it was woken: nothing was tested")
        for path, data in records.items():
            if path.read_bytes() != data:
                result.book("torn", f"a zombie changed {path.name}")
        _book_leftovers(workers, result)
    judged(expected, str(out), result)


def _until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise Hung(f"the zombies, or who went on without them, were not done after {seconds:.0f} s")
        time.sleep(0.01)

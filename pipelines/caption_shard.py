"""The line, in order: read a shard, judge its samples, write its files, commit."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from captioner.captioning import Captioner
from captioner.errors import OutOfService, SourceError
from captioner.reasons import OUTCOMES, SHARD_REASONS
from captioner.recipe import Pace, Recipe, to_json
from captioner.types import Broken, Caption, Filtered, Sample, ShardInput
from pipelines.gate import Gate
from pipelines.quality import Quality
from shards import commits, journal
from shards.blob import Source
from shards.commits import DataFile, Record, Verdict
from shards.corpus import ShardFiles
from shards.journal import Entry, Journal
from shards.ledger import broken_row, counted, decided_row, digest, reasons, spent
from shards.patience import retries
from shards.store import Store, open_blob
from shards.tar import Account

log = logging.getLogger("recap")

BATCH = 16  # samples read in one go off the event loop: few enough to stay small, enough to pay for the thread's hop
BATCH_BYTES = 16 * 2**20  # or fewer, when they are large


@dataclass(slots=True)
class Progress:
    """What one open shard has come to so far; for display only. from_journal: of the judged, what came out of it."""

    shard: str
    outcomes: Counter[str] = field(default_factory=Counter)
    bytes_judged: int = 0
    from_journal: int = 0
    bytes_from_journal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a worker keeps open for all its shards. distrust: called with a replica whose captions went bad."""

    store: Store
    run_id: str
    recipe: Recipe
    source: Source
    captioner: Captioner
    gate: Gate
    pace: Pace
    quality: Quality
    distrust: Callable[[str], Awaitable[None]]
    open: dict[str, Progress] = field(default_factory=dict)  # by attempt: a blip can give one shard to a worker twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A shard that has its record now. from_journal: samples that an earlier attempt had finished, and their bytes.

    retries: how often a store was asked again, by cause, in this process since its last Done.
    """

    shard: str
    verdict: Verdict
    counts: dict[str, int]
    spent: dict[str, int]
    reason: str | None
    bytes_read: int
    from_journal: int
    bytes_from_journal: int
    retries: dict[str, int]


async def caption_shard(shard: ShardInput, line: Line) -> Done:
    """Take one shard from its tar to its commit record. Raises OutOfService or EngineUnavailable, to be tried again.

    A shard that another run on the same output has committed meanwhile is done. One whose bytes came wrong is read once
    more before they count as its own.
    """
    there = await asyncio.to_thread(commits.read, line.store, shard.shard)
    if there is not None:
        return _done(there, "lost", Progress(shard=shard.shard))
    done = await attempt_shard(shard, line, last=False) or await attempt_shard(shard, line, last=True)
    assert done is not None, "the last attempt commits what it found"
    return done


async def attempt_shard(shard: ShardInput, line: Line, last: bool) -> Done | None:
    """One attempt; None when the input came corrupt and this is not the last."""
    attempt, epoch = secrets.token_hex(16), int(time.time())
    known = await asyncio.to_thread(journal.load, line.store, line.run_id, shard.shard)
    progress = line.open[attempt] = Progress(shard=shard.shard)
    try:
        with closing(ShardFiles(store=line.store, shard=shard.shard, attempt=attempt)) as files:
            judging = _Judging(line=line, shard=shard, attempt=attempt, known=known, files=files)
            given = await judging.run()
            if "source_corrupt" in given["flags"] and not last:
                return None
            data = await asyncio.to_thread(files.publish)
            record = _record(judging, epoch, given, data)
            verdict = await asyncio.to_thread(commits.commit, line.store, record)
        if verdict == "lost":
            log.warning("lost_commit_race: shard=%s attempt=%s", shard.shard, attempt)
            # No record names them, and none ever will: the winner's have another attempt id.
            await asyncio.to_thread(line.store.delete, [file.name for file in data])
        await asyncio.to_thread(journal.clear, line.store, shard.shard)
    finally:
        del line.open[attempt]
    return _done(record, verdict, progress)


def _done(record: Record, verdict: Verdict, progress: Progress) -> Done:
    return Done(
        shard=record.shard,
        verdict=verdict,
        counts=dict(record.counts),
        spent=dict(record.spent),
        reason=record.reason,
        bytes_read=record.input["bytes_read"],
        from_journal=progress.from_journal,
        bytes_from_journal=progress.bytes_from_journal,
        retries=retries.take(),
    )


@dataclass(slots=True, kw_only=True)
class _Judging:
    """One attempt at one shard."""

    line: Line
    shard: ShardInput
    attempt: str
    known: journal.Entries
    files: ShardFiles
    journal: Journal = field(init=False)
    turn: int = field(init=False)
    written: float = field(init=False)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    copying: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.journal = Journal(self.line.store, self.line.run_id, self.shard.shard, self.attempt)
        self.turn = self.line.gate.turn()
        self.written = time.monotonic()

    async def run(self) -> dict[str, Any]:
        """Judge every sample; the input as the record shall state it."""
        try:
            reading = await asyncio.to_thread(self.line.source.read, self.shard, open_blob)
            async with asyncio.TaskGroup() as group:
                async for item in _read_ahead(reading):
                    await self._take(item, group)
        except (SourceError, BaseExceptionGroup) as errors:
            error = _first_cause(errors)
            if not isinstance(error, SourceError):
                raise error from None
            self.files.clear()  # half of one object and half of another would be no shard at all
            account = Account(size=self.shard.size, unread_bytes=self.shard.size, flags=(error.reason,))
            return _input(self.shard, account, error.detail)
        finally:
            # Whatever ends an attempt, what it finished is not asked again.
            with suppress(OutOfService):  # a store that is gone must not hide what ended the attempt
                await asyncio.shield(self._write())
        return _input(self.shard, reading.account, "")

    async def _take(self, item: Sample | Broken, group: asyncio.TaskGroup) -> None:
        if isinstance(item, Broken):
            self._add(Entry(row=broken_row(item)))
            return
        entry = self.known.get(_identity(item)) if self.known else None
        if entry is not None:
            progress = self.line.open[self.attempt]
            progress.from_journal += 1
            progress.bytes_from_journal += item.size
            await self._keep_large(entry, item)
            self._add(entry, item)
            return
        size = item.size
        await self.line.gate.enter(size, self.turn)
        # By the task's end and not in it: one that is cancelled before its first step would keep its place for ever.
        group.create_task(self._judge(item)).add_done_callback(lambda _: self.line.gate.leave(size))

    async def _judge(self, sample: Sample) -> None:
        decision = await self.line.captioner.decide(sample)
        outcome = decision.outcome
        facts = outcome.facts if isinstance(outcome, Caption) else None
        entry = Entry(row=decided_row(sample, decision, self.line.recipe), facts=facts)
        await self._keep_large(entry, sample)
        self._add(entry, sample)
        if not isinstance(outcome, Filtered):  # what a header decides is cheaper to decide again
            await self._note(entry)
        if (replica := self.line.quality.saw(outcome)) is not None:
            await self.line.distrust(replica)

    async def _keep_large(self, entry: Entry, sample: Sample) -> None:
        """A copy of gigabytes on the event loop would hold up answers until their deadlines."""
        if sample.large is not None and entry.row.outcome == "captioned":
            async with self.copying:
                await asyncio.to_thread(self.files.copy_large, sample)

    def _add(self, entry: Entry, sample: Sample | None = None) -> None:
        self.files.add(entry, sample)
        progress = self.line.open[self.attempt]
        progress.outcomes[entry.row.outcome] += 1
        progress.bytes_judged += sample.size if sample else 0

    async def _note(self, entry: Entry) -> None:
        late = time.monotonic() - self.written > self.line.pace.journal_seconds
        if self.journal.add(entry) >= self.line.pace.journal_every or late:
            await self._write()

    async def _write(self) -> None:
        """One write at a time; who comes meanwhile waits, so that a slow store holds the line back."""
        async with self.writing:
            if self.journal.waiting:
                self.written = time.monotonic()
                await asyncio.to_thread(self.journal.write)


def _identity(sample: Sample) -> tuple[str, int, str]:
    offset = -1 if sample.member_offset is None else sample.member_offset
    return sample.key, offset, sample.sha256


def _first_cause(errors: BaseException) -> BaseException:
    """One error of a group, however deep; a group says less than its first cause."""
    found = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _read_ahead(reading: Any) -> AsyncIterator[Sample | Broken]:
    """The reading's samples, read off the event loop in small batches."""
    samples: Iterator[Sample | Broken] = iter(reading)
    while batch := await asyncio.to_thread(_batch, samples):
        for item in batch:
            yield item


def _batch(samples: Iterator[Sample | Broken]) -> list[Sample | Broken]:
    """The next few samples, fewer if they are large; none at the end."""
    batch: list[Sample | Broken] = []
    size = 0
    while len(batch) < BATCH and size < BATCH_BYTES and (item := next(samples, None)) is not None:
        batch.append(item)
        size += item.size if isinstance(item, Sample) else 0
    return batch


def _record(judging: _Judging, epoch: int, given: dict[str, Any], files: tuple[DataFile, ...]) -> Record:
    """The commit record. Raises AssertionError when the counts do not add up: then our own code is wrong."""
    rows = judging.files.rows
    counts = counted(rows)
    assert counts["read"] == sum(counts[name] for name in OUTCOMES), f"{judging.shard.shard}: {counts}"
    flags = tuple(given["flags"])
    return Record(
        plan=judging.line.run_id,
        shard=judging.shard.shard,
        attempt=judging.attempt,
        epoch=epoch,
        input=given,
        reason=next((flag for flag in flags if flag not in SHARD_REASONS or SHARD_REASONS[flag].error), None),
        flags=flags,
        counts=counts,
        reasons=reasons(rows),
        spent=spent(rows),
        files=files,
        first_key=rows[0].key if rows else None,
        last_key=rows[-1].key if rows else None,
        digest=digest(rows),
    )


def _input(shard: ShardInput, account: Account, detail: str) -> dict[str, Any]:
    """The input as the record states it: what was read, and what became of its bytes."""
    fields = to_json(account)
    return {
        "url": shard.url,
        "size": shard.size,
        "etag": shard.etag,
        "take": shard.take,
        "bytes_read": account.size - account.unread_bytes,
        "flags": fields["flags"],
        "detail": detail or fields["detail"],
        "account": {name: value for name, value in fields.items() if name.endswith("_bytes")},
    }

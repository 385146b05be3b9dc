"""Which pictures and clips a report shows and where they come from; every one goes through the decoder processes."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from captioner.errors import MediaError, OutOfService, SourceError
from captioner.media.decoders import DecoderPool
from captioner.media.picks import steps
from captioner.reasons import REASONS
from captioner.recipe import Limits
from captioner.registry import build
from captioner.types import Broken, FrameBudget, Picture, PixelBudget, Sample, ShardInput, Spooled
from shards.commits import Record
from shards.ledger import Row
from shards.plan import Plan
from shards.sources import SOURCES
from shards.store import Store, open_blob
from shards.tar import CORPUS_MEMBER_BYTES, Member, TarReader

THUMBNAIL = PixelBudget(max_pixels=480 * 340)
STRIP, STRIP_FRAMES = PixelBudget(max_pixels=192 * 108), 12
PICTURE_SHARDS = 8  # pictures come from so few shards as long as these have enough of each kind: each is read through
# One of each kind a round, captioned ones every other time: half of a page shows what was made, half what was dropped.
DECK = ("captioned", "filtered", "captioned", "unreadable", "captioned", "rejected", "captioned", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A row with its picture's stored bytes, or why there are none; facts: what the experts saw."""

    row: Row
    media: bytes | Spooled | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A row with a thumbnail, or why there is none. strip: of a clip, frames that were looked at and their seconds."""

    row: Row
    thumbnail: Picture | None
    facts: Mapping[str, Any]
    missing: str
    strip: tuple[tuple[float, Picture], ...] = ()


@dataclass(slots=True, kw_only=True)
class Candidates:
    """A draw from ledgers of any length: equal ledgers give equal rows, and few are held for each reason."""

    most: int
    _groups: dict[tuple[str, str], list[tuple[int, str, Row]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, shard_number: int, rows: Iterable[Row]) -> None:
        """Take one shard's rows into account; earlier shards are preferred, eight at a time."""
        for row in rows:
            group = self._groups[row.outcome, row.reason or ""]
            group.append((shard_number // PICTURE_SHARDS, drawn(row), row))
        for name, group in self._groups.items():
            self._groups[name] = heapq.nsmallest(self.most, group, key=lambda each: each[:2])

    def chosen(self) -> list[Row]:
        """At most `most` rows, every outcome and within it every reason having its share."""
        queues: dict[str, list[tuple[int, str, Row]]] = defaultdict(list)
        for (outcome, reason), group in self._groups.items():
            queues[outcome] += [(turn, reason, row) for turn, (_, _, row) in enumerate(group)]
        ordered = {name: [row for *_, row in sorted(q, key=lambda each: each[:2])] for name, q in queues.items()}
        return dealt(ordered, self.most)


def drawn(row: Row) -> str:
    """A row's place in a draw that favours none: a hash of where it stands."""
    return hashlib.sha256("\0".join([row.source_shard, *map(str, row.place)]).encode()).hexdigest()


def dealt(queues: Mapping[str, Iterable[Row]], most: int) -> list[Row]:
    """Rows dealt from the outcomes' queues in turn, until there are enough or none is left."""
    waiting = {name: deque(queue) for name, queue in queues.items()}
    hand: list[Row] = []
    for name in itertools.cycle(DECK):
        if len(hand) >= most or not any(waiting.values()):
            return hand
        if waiting.get(name):
            hand.append(waiting[name].popleft())
    return hand


def finds(store: Store, plan: Plan, records: Mapping[str, Record], rows: Iterable[Row]) -> Iterator[Find]:
    """Each row with its picture, one at a time: captioned ones from the corpus, others from the input."""
    inputs = {each.shard: each for each in plan.inputs}
    by_shard: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_shard[row.source_shard].append(row)
    for shard, wanted in sorted(by_shard.items()):
        captioned = [row for row in wanted if row.outcome == "captioned"]
        others = [row for row in wanted if row.outcome != "captioned"]
        if captioned:
            yield from _from_corpus(store, records[shard], captioned)
        if others:
            yield from from_input(plan, inputs.get(shard), others)


def _from_corpus(store: Store, record: Record, rows: list[Row]) -> Iterator[Find]:
    wanted = {row.key: row for row in rows}
    why = "not in its corpus file"
    try:
        name = next(file.name for file in record.files if file.name.endswith(".tar"))
        reader = TarReader(store.blob(name), max_member_bytes=CORPUS_MEMBER_BYTES)
        members = (item for item in reader if isinstance(item, Member))
        for key, parts in itertools.groupby(members, key=lambda member: member.key):
            if key in wanted:
                yield _find(wanted.pop(key), {part.ext: part.spooled or part.data or b"" for part in parts})
            if not wanted:
                return
    except (StopIteration, FileNotFoundError, SourceError, OutOfService):
        why = "its corpus file cannot be read"
    for row in wanted.values():
        yield Find(row=row, missing=why)


def _find(row: Row, parts: Mapping[str, Any]) -> Find:
    media = next((data for ext, data in parts.items() if ext not in ("json", "txt")), None)
    try:
        facts = json.loads(parts.get("json", b"{}")).get("facts")
    except (ValueError, AttributeError):
        facts = None
    kept = facts if isinstance(facts, dict) else {}
    return Find(row=row, media=media, facts=kept, missing="" if media else "not in its corpus file")


def from_input(plan: Plan, shard: ShardInput | None, rows: list[Row]) -> Iterator[Find]:
    """Rows of one shard with their pictures from its input, read no further than the last of them."""
    wanted = {row.place: row for row in rows}
    why = "not in its input shard any more"
    try:
        source = build(SOURCES, plan.recipe["source"]["name"], plan.recipe["source"]["settings"])
        for item in source.read(shard, open_blob) if shard else ():
            if row := wanted.pop(_place(item), None):
                media = (item.large or item.media) if isinstance(item, Sample) else None
                yield Find(row=row, media=media, missing="" if media is not None else "no picture could be read")
            if not wanted:
                return
    except SourceError as error:
        why = f"its input cannot be read again ({error.reason})"
    except OutOfService:
        why = "the store of its input does not answer"
    for row in wanted.values():
        yield Find(row=row, missing=why)


def _place(item: Sample | Broken) -> tuple[str, int]:
    return item.key, -1 if item.member_offset is None else item.member_offset


def frames_of(plan: Plan) -> FrameBudget | None:
    """How the run looked at clips, None where it looked at pictures; here the frames are small."""
    rule = plan.recipe["asking"].get("frames")
    return FrameBudget(**{**rule, "pixels": STRIP, "multiple_of": 1}) if rule else None


async def thumbnails(found: Iterable[Find], frames: FrameBudget | None = None) -> list[Shown]:
    """Every find with its thumbnail; one original is held at a time. frames: how clips are looked at, if they are."""
    async with DecoderPool(1, Limits(), clips=frames.reader if frames else "") as decoder:
        return [await _shown(decoder, each, frames) for each in found]


async def _shown(decoder: DecoderPool, find: Find, frames: FrameBudget | None) -> Shown:
    shown = Shown(row=find.row, thumbnail=None, facts=find.facts, missing=find.missing)
    if find.media is None:
        return shown
    try:
        if frames is None:
            media = find.media if isinstance(find.media, bytes) else find.media.whole()
            return replace(shown, thumbnail=(await decoder.decode(media, THUMBNAIL)).picture)
        seen = await decoder.watch(find.media.file if isinstance(find.media, Spooled) else find.media, frames)
    except MediaError as error:
        return replace(shown, missing=REASONS[error.reason].meaning if error.reason in REASONS else error.reason)
    distinct = list(dict(zip(seen.times, seen.frames, strict=True)).items())
    return replace(shown, strip=tuple(distinct[step] for step in steps(len(distinct), STRIP_FRAMES)))

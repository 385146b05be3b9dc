"""The journal: finished captions of a shard still open, so that a kill costs little; a cache, never evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shards.ledger import Row, from_json
from shards.sidecars import compact
from shards.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One judged sample: its row, and the facts that only its record in the tar holds."""

    row: Row
    facts: Mapping[str, Any] | None = None


Entries = dict[tuple[str, int, str | None], Entry]  # (key, member offset, sha256 of the media)


def _folder(shard: str, attempt: str = "") -> str:
    return f"journal/{shard}-{attempt}"


def encode(run_id: str, entries: list[Entry]) -> bytes:
    """A segment: the sha256 of the rest, the run id, then one entry a line."""
    lines = [compact({"row": entry.row.plain(), "facts": entry.facts}) for entry in entries]
    body = b"\n".join([run_id.encode(), *lines])
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode(run_id: str, segment: bytes) -> list[Entry]:
    """A segment's entries; none when it is damaged or another run's."""
    seal, _, body = segment.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != seal:
        return []
    owner, *lines = body.split(b"\n")
    if owner.decode() != run_id:
        return []
    values = [orjson.loads(line) for line in lines]
    return [Entry(row=from_json(value["row"]), facts=value["facts"]) for value in values]


def load(store: Store, run_id: str, shard: str) -> Entries:
    """Everything that any earlier attempt at this shard finished and wrote down."""
    entries: Entries = {}
    for name in segments(store, shard):
        try:
            found = decode(run_id, store.read(name))
        except FileNotFoundError:  # a zombie's shard was committed and its journal cleared meanwhile
            continue
        entries.update({(*entry.row.place, entry.row.sha256): entry for entry in found})
    return entries


def segments(store: Store, shard: str) -> list[str]:
    """The names of a shard's journal files, of every attempt."""
    names = store.names(_folder(shard))
    attempt_hex = 32
    # "a" must not take the journal of shard "a-b": what follows the dash is exactly one attempt id.
    return [name for name in names if len(name.split("/")[1]) == len(f"{shard}-") + attempt_hex]


def clear(store: Store, shard: str) -> None:
    """Drop the journal of a shard that has its commit record."""
    store.delete(segments(store, shard))


class Journal:
    """One attempt's journal: entries wait here until write() makes them durable as a segment of their own."""

    def __init__(self, store: Store, run_id: str, shard: str, attempt: str) -> None:
        self._store, self._run_id = store, run_id
        self._folder = _folder(shard, attempt)
        self._written = 0
        self.waiting: list[Entry] = []

    def add(self, entry: Entry) -> int:
        """Note an entry; how many wait now."""
        self.waiting.append(entry)
        return len(self.waiting)

    def write(self) -> None:
        """Make the waiting entries durable. Raises OutOfService."""
        if not self.waiting:
            return
        entries, self.waiting = self.waiting, []
        self._written += 1
        self._store.create(f"{self._folder}/{self._written:06d}.jsonl", encode(self._run_id, entries))

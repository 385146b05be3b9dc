"""Commit records: the one file that makes a shard done, and the data files it vouches for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from captioner.errors import CorruptState
from captioner.recipe import canonical, digest, to_json
from shards.store import Store

Verdict = Literal["committed", "lost"]
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file as its record vouches for it: path inside the run's folder, bytes, sha256 in hex."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A shard's commit record.

    input: url, size, etag, bytes_read and how the bytes are accounted for. reason: a shard-level reason that makes
    the run end with exit 1, or None. flags: what was odd. digest: see ledger.digest. epoch: unix seconds of the
    attempt's start, for audit only. sha256: of this record's canonical JSON without this very field.
    """

    plan: str
    shard: str
    attempt: str
    epoch: int
    input: Mapping[str, Any]
    reason: str | None
    flags: tuple[str, ...]
    counts: Mapping[str, int]
    reasons: Mapping[str, int]
    files: tuple[DataFile, ...]
    first_key: str | None
    last_key: str | None
    digest: str
    sha256: str = ""


def name_of(shard: str) -> str:
    """The record's place inside a run's folder."""
    return f"commits/{shard}.json"


def sealed(record: Record) -> Record:
    """The record with its own sha256 filled in."""
    body = to_json(record)
    del body["sha256"]
    return replace(record, sha256=digest(body))


def encode(record: Record) -> bytes:
    """A sealed record as the bytes that are stored."""
    return canonical(to_json(record)) + b"\n"


def decode(data: bytes, name: str) -> Record:
    """A stored record. Raises CorruptState, naming the file, when it is not one of ours or does not match its seal."""
    try:
        value = json.loads(data)
        files = tuple(DataFile(**each) for each in value.pop("files"))
        record = Record(**value | {"files": files, "flags": tuple(value["flags"])})
        sound = sealed(record).sha256 == record.sha256 and encode(record) == data
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptState(f"corrupt_state: {name} is not a commit record ({type(error).__name__})") from error
    if not sound:
        raise CorruptState(f"corrupt_state: {name} does not match its own sha256")
    if not _is_record(record):
        raise CorruptState(f"corrupt_state: {name} does not say what a commit record says")
    return record


def is_counter(value: Any) -> bool:
    """Whether a JSON value maps names to whole numbers."""
    return isinstance(value, Mapping) and all(type(each) is int for each in value.values())


def _is_record(record: Record) -> bool:
    """Whether the fields that others count on are what their types say: anybody can seal anything."""
    given, files = record.input, record.files
    texts = [record.plan, record.shard, record.attempt, *record.flags, *(file.name for file in files)]
    texts += [file.sha256 for file in files]
    sound = all(isinstance(text, str) for text in texts) and all(type(file.bytes) is int for file in files)
    sound = sound and isinstance(record.reason, str | None) and bool(SHA256.fullmatch(str(record.digest)))
    sound = sound and is_counter(record.counts) and is_counter(record.reasons) and isinstance(given, Mapping)
    return sound and is_counter(given.get("account")) and type(given.get("bytes_read")) is int


def read(store: Store, shard: str) -> Record | None:
    """A shard's record, None while it has none. Raises CorruptState."""
    try:
        data = store.read(name_of(shard))
    except FileNotFoundError:
        return None
    return decode(data, name_of(shard))


def commit(store: Store, record: Record) -> Verdict:
    """Create the record, the one commit point. "lost" when another attempt was first; its record stands.

    The name can be taken because our own put got through and only its answer was lost: then it is ours.
    """
    record = sealed(record)
    if store.create(name_of(record.shard), encode(record)):
        return "committed"
    winner = read(store, record.shard)
    return "committed" if winner is not None and winner.attempt == record.attempt else "lost"


def committed(store: Store) -> set[str]:
    """The names of all shards that have a record; the records are not opened."""
    names = store.names("commits/")
    return {name.removeprefix("commits/").removesuffix(".json") for name in names if name.endswith(".json")}


def sha256_of(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()

"""Commit records: the one file that makes a shard done, and the data files it vouches for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from captioner.errors import CorruptState, OutOfService
from captioner.recipe import canonical, digest, to_json
from shards.store import Store

Verdict = Literal["committed", "lost"]
READERS = 16  # records are small and an object store far away
COMMIT_TRIES = 5
ASIDE = "damaged"  # what repair has moved out of the way, under its old name and the first digits of its sha256
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
    the run end with exit 1, or None. flags: what was odd. spent: see ledger.spent. digest: see ledger.digest. epoch:
    unix seconds of the attempt's start, for audit only. sha256: of this record's canonical JSON without this field.
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
    spent: Mapping[str, int]
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
        body = {field: each for field, each in value.items() if field != "sha256"}
        # On plain JSON: a record's own to_json takes three times as long, and a resume reads a hundred thousand.
        sound = digest(body) == value["sha256"] and canonical(value) + b"\n" == data
        files = tuple(DataFile(**each) for each in value["files"])
        record = Record(**value | {"files": files, "flags": tuple(value["flags"])})
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
    sound = sound and is_counter(record.counts) and is_counter(record.reasons) and is_counter(record.spent)
    return (
        sound
        and isinstance(given, Mapping)
        and is_counter(given.get("account"))
        and type(given.get("bytes_read")) is int
    )


def read(store: Store, shard: str) -> Record | None:
    """A shard's record, None while it has none. Raises CorruptState."""
    name = name_of(shard)
    try:
        return store.read_sound(name, lambda data: decode(data, name))
    except FileNotFoundError:
        return None


def read_all(store: Store, shards: Iterable[str]) -> list[Record]:
    """The records of shards that have one, in the order of their names. Raises CorruptState, naming the first file."""
    with ThreadPoolExecutor(READERS) as pool:
        found = zip(wanted := sorted(shards), pool.map(lambda shard: read(store, shard), wanted), strict=True)
        return [_there(shard, record) for shard, record in found]


def _there(shard: str, record: Record | None) -> Record:
    if record is None:
        raise CorruptState(f"corrupt_state: {name_of(shard)} was listed but is not there")
    return record


def commit(store: Store, record: Record) -> Verdict:
    """Create the record, the one commit point. "lost" when another attempt was first; its record stands.

    The name can be taken because our own put got through and only its answer was lost: then it is ours.
    """
    record = sealed(record)
    for _ in range(COMMIT_TRIES):
        if store.create(name_of(record.shard), encode(record)):
            return "committed"
        winner = read(store, record.shard)
        if winner is not None:
            return "committed" if winner.attempt == record.attempt else "lost"
    raise OutOfService(f"{store.url} says that {name_of(record.shard)} is taken, and does not show it")


def committed(store: Store) -> set[str]:
    """The names of all shards that have a record; the records are not opened."""
    names = store.names("commits/")
    return {name.removeprefix("commits/").removesuffix(".json") for name in names if name.endswith(".json")}


def set_aside(store: Store, folder: str) -> set[str]:
    """The names inside a folder of those objects that repair has moved out of it."""
    names = store.names(f"{ASIDE}/{folder}/")
    return {name.removeprefix(f"{ASIDE}/{folder}/").rpartition(".json-")[0] for name in names}


def sha256_of(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()

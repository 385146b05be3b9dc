"""Manifests: immutable, numbered versions of a corpus; what readers and trainers open."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from captioner.errors import CorruptState
from captioner.recipe import canonical, digest, to_json
from shards import commits
from shards.commits import Record
from shards.ledger import add_digests
from shards.plan import Plan
from shards.store import Store

TOTALS = ("counts", "reasons", "shard_reasons", "bytes", "spent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One version of a corpus.

    parent: sha256 of the version before, None for the first. complete: every planned shard is listed.
    shards: sorted (shard, its record's sha256). totals: the counters named in TOTALS, over all listed shards.
    merkle_root: over the listed pairs. digest: the sum of the records' digests. sha256: of this manifest without it.
    """

    plan: str
    number: int
    parent: str | None
    complete: bool
    shards: tuple[tuple[str, str], ...]
    totals: Mapping[str, Any]
    merkle_root: str
    digest: str
    tool: str
    sha256: str = ""


def name_of(number: int) -> str:
    """The manifest's place inside a run's folder."""
    return f"manifests/{number:06d}.json"


def numbers(store: Store) -> list[int]:
    """The numbers of all manifests there are."""
    names = store.names("manifests/")
    found = [int(name[10:-5]) for name in names if name.endswith(".json") and name[10:-5].isdecimal()]
    return [number for number in set(found) if name_of(number) in names]


def retired(store: Store) -> list[int]:
    """The numbers of damaged manifests that repair moved aside; none is given again."""
    return [int(name) for name in commits.set_aside(store, "manifests") if name.isdigit()]


def read(store: Store, number: int) -> Manifest:
    """One manifest. Raises CorruptState, naming the file."""
    name = name_of(number)
    return store.read_sound(name, lambda data: _decode(data, name))


def _decode(data: bytes, name: str) -> Manifest:
    try:
        value = json.loads(data)
        manifest = Manifest(**value | {"shards": tuple((shard, sha256) for shard, sha256 in value["shards"])})
        sound = _sealed(manifest).sha256 == manifest.sha256 and _encode(manifest) == data
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptState(f"corrupt_state: {name} is not a manifest ({type(error).__name__})") from error
    if not sound:
        raise CorruptState(f"corrupt_state: {name} does not match its own sha256")
    if not _is_manifest(manifest):
        raise CorruptState(f"corrupt_state: {name} does not say what a manifest says")
    return manifest


def _is_manifest(manifest: Manifest) -> bool:
    """Whether the fields that others count on are what their types say: anybody can seal anything."""
    sound = type(manifest.number) is int and all(isinstance(each, str) for pair in manifest.shards for each in pair)
    sound = sound and bool(commits.SHA256.fullmatch(str(manifest.digest))) and isinstance(manifest.totals, Mapping)
    return sound and all(commits.is_counter(manifest.totals.get(name)) for name in TOTALS)


def latest(store: Store) -> Manifest | None:
    """The newest manifest, None where there is none."""
    known = numbers(store)
    return read(store, max(known)) if known else None


def publish(store: Store, plan: Plan, tool: str) -> Manifest:
    """List every committed shard in a manifest of its own, unless the newest one says the same already.

    Records that an earlier manifest lists are not opened again: they never change, save where repair made room for
    others; then all are read, as nothing can be taken back out of a sum. Raises CorruptState.
    """
    store.keep(("commits", "manifests"))  # a record whose writer was killed may be there and not yet durable
    while True:
        parent = latest(store)
        kept = dict(parent.shards) if parent else {}
        if _repaired(store, kept):
            kept = {}
        fresh = commits.read_all(store, commits.committed(store) - kept.keys())
        listed = kept | {record.shard: record.sha256 for record in fresh}
        if parent is not None and listed == dict(parent.shards):
            return parent
        before = parent if kept else None
        manifest = _sealed(
            Manifest(
                plan=plan.run_id,
                number=max(numbers(store) + retired(store), default=0) + 1,
                parent=parent.sha256 if parent else None,
                complete=listed.keys() == {each.shard for each in plan.inputs},
                shards=tuple(sorted(listed.items())),
                totals=totals([*([before.totals] if before else []), *map(totals_of, fresh)]),
                merkle_root=merkle_root(tuple(sorted(listed.items()))),
                digest=add_digests([*([before.digest] if before else []), *(record.digest for record in fresh)]),
                tool=tool,
            )
        )
        if store.create(name_of(manifest.number), _encode(manifest)):
            return manifest


def _repaired(store: Store, listed: Mapping[str, str]) -> bool:
    """Whether a listed record was moved aside, and is gone or another one now."""
    moved = sorted(commits.set_aside(store, "commits") & listed.keys())
    return any((there := commits.read(store, shard)) is None or there.sha256 != listed[shard] for shard in moved)


def totals_of(record: Record) -> dict[str, Any]:
    """What one record adds to a manifest's totals."""
    sizes = {name.rpartition(".")[2]: size for name, size in ((file.name, file.bytes) for file in record.files)}
    shard_reasons = {record.reason: 1} if record.reason else {}
    return {
        "counts": dict(record.counts),
        "reasons": dict(record.reasons),
        "shard_reasons": shard_reasons,
        "spent": dict(record.spent),
        "bytes": sizes | {"input": record.input["bytes_read"]},
    }


def totals(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several totals."""
    summed: dict[str, Counter[str]] = {name: Counter() for name in TOTALS}
    for part in parts:
        for name, counter in summed.items():
            counter.update(part[name])
    return {name: dict(sorted(counter.items())) for name, counter in summed.items()}


def merkle_root(shards: tuple[tuple[str, str], ...]) -> str:
    """The root of a binary hash tree over the listed pairs, so that one shard can be proved without all the others."""
    level = [hashlib.sha256(b"\0" + canonical([shard, sha256])).digest() for shard, sha256 in shards]
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [hashlib.sha256(b"\1" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0].hex() if level else hashlib.sha256(b"").hexdigest()


def _sealed(manifest: Manifest) -> Manifest:
    body = to_json(manifest)
    del body["sha256"]
    return replace(manifest, sha256=digest(body))


def _encode(manifest: Manifest) -> bytes:
    return canonical(to_json(manifest)) + b"\n"

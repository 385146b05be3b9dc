"""Repair: which records and manifests are damaged, and moving one out of the way so that its shard is done again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from captioner.errors import CorruptState, OutOfService, Refused
from shards import commits, manifest
from shards import plan as plans
from shards.commits import DataFile
from shards.plan import Plan
from shards.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A file that only we write, and that does not say what we wrote."""

    name: str
    detail: str


def damage(store: Store) -> list[Damage]:
    """Every damaged plan, record and manifest. Raises Refused where there is no run."""
    try:
        plan = plans.read(store)
    except CorruptState as error:
        return [Damage(name=plans.NAME, detail=str(error))]
    if plan is None:
        raise Refused(f"no run at {store.url}: there is no {plans.NAME}")
    shards = sorted(commits.committed(store))
    with ThreadPoolExecutor(commits.READERS) as pool:
        records = [found for found in pool.map(lambda shard: _record(store, plan, shard), shards) if found]
    return [*records, *_manifests(store, plan)]


def _record(store: Store, plan: Plan, shard: str) -> Damage | None:
    name = commits.name_of(shard)
    try:
        record = commits.read(store, shard)
    except CorruptState as error:
        return Damage(name=name, detail=str(error))
    if record is not None and (record.plan, record.shard) != (plan.run_id, shard):
        return Damage(name=name, detail=f"it is the record of {record.shard} of plan {record.plan[:12]}")
    return None


def _manifests(store: Store, plan: Plan) -> Iterator[Damage]:
    for number in sorted(manifest.numbers(store)):
        name = manifest.name_of(number)
        try:
            each = manifest.read(store, number)
        except CorruptState as error:
            yield Damage(name=name, detail=str(error))
            continue
        if (each.plan, each.number) != (plan.run_id, number):
            yield Damage(name=name, detail=f"it is manifest {each.number} of plan {each.plan[:12]}")


def requeue(store: Store, what: str) -> str:
    """Move a shard's record, or a file by its name, to damaged/; where it is now.

    Only what is damaged moves, a record or manifest that does not read or a shard whose data files are gone or others;
    and a shard that another turn may mend: its input could not be read (`source_…`), or captions of its samples were
    rejected or failed, as those of an engine that had gone bad are.
    The same run command then does the shard, or lists the manifest, again. Raises Refused for all else.
    """
    name = what if "/" in what or what == plans.NAME else commits.name_of(what)
    if name == plans.NAME:
        raise Refused(f"{name} says what the run is; nothing can be done again without it: restore it from a copy")
    if name not in {each.name for each in damage(store)} and not _may_go(store, name):
        raise Refused(f"{name} is not damaged and has nothing to make anew; `recap repair OUT` names what is damaged")
    try:
        data = store.read(name)
    except FileNotFoundError:
        raise Refused(f"there is no {name}; give a shard, or a name that `recap repair OUT` prints") from None
    aside = f"{commits.ASIDE}/{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    if not store.create(aside, data) and store.read(aside) != data:
        raise OutOfService(f"{aside} holds other bytes than {name}")
    store.delete([name])
    return aside


def _may_go(store: Store, name: str) -> bool:
    if not name.startswith("commits/"):
        return False
    record = commits.read(store, name.removeprefix("commits/").removesuffix(".json"))
    if record is None:
        return False
    again = (record.reason or "").startswith("source_") or record.counts.get("rejected") or record.counts.get("failed")
    return bool(again) or not all(_sound(store, file) for file in record.files)


def _sound(store: Store, file: DataFile) -> bool:
    seen = hashlib.sha256()
    try:
        for piece in store.blob(file.name).chunks():
            seen.update(piece)
    except FileNotFoundError:
        return False
    return seen.hexdigest() == file.sha256

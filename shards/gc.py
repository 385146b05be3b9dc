"""Garbage: what killed attempts left in a run's folder, and what may be deleted of it."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from captioner.errors import Refused
from shards import commits, probe
from shards import plan as plans
from shards.status import ENGINES_SEEN
from shards.store import Store, Stored

log = logging.getLogger("recap")

HOURS = 24.0
_OF_ATTEMPT = re.compile(r"(?:data|journal)/(?P<shard>.+)-(?P<attempt>[0-9a-f]{32})[./]")
_STAGED = re.compile(r"(?:.*/)?\..+\.[0-9a-f]{16}\.tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """An object that nothing needs. age_seconds: since it, or anything else of its attempt, was last written."""

    name: str
    bytes: int
    age_seconds: float
    why: str


def garbage(store: Store, hours: float = HOURS) -> list[Garbage]:
    """Everything in a run's folder that nothing needs and that is older than so many hours; sorted by name.

    An attempt still at work may yet commit its files, so all its files are as young as the youngest of them, and ages
    are told by the store's own clock. Raises Refused where there is no run, CorruptState when a record is damaged:
    then nobody knows what it names.
    """
    if plans.read(store) is None:
        raise Refused(f"no run at {store.url}: there is no {plans.NAME}")
    now = _now(store)
    there = store.stored()  # before the records: what is written after this is not looked at
    committed = commits.committed(store)
    named = _named(store, committed)
    youngest = _youngest(there)
    found = [
        Garbage(name=each.name, bytes=each.bytes, age_seconds=_age(each, now, youngest).total_seconds(), why=why)
        for each in there
        if (why := _why(each.name, named, committed))
    ]
    return [each for each in found if each.age_seconds > hours * 3600]


def collect(store: Store, found: list[Garbage]) -> list[Garbage]:
    """Delete garbage, save what a record has come to name meanwhile; what was deleted."""
    named = _named(store, commits.committed(store))
    gone = [each for each in found if each.name not in named]
    for each in gone:
        hours = each.age_seconds / 3600
        log.info("deleting: name=%s bytes=%d age_hours=%.1f why=%s", each.name, each.bytes, hours, each.why)
    store.delete([each.name for each in gone])
    return gone


def _named(store: Store, committed: Iterable[str]) -> set[str]:
    return {file.name for record in commits.read_all(store, committed) for file in record.files}


def _now(store: Store) -> datetime:
    """The time by the clock that stamps the objects: ours may be days away from it."""
    name = f"{probe.FOLDER}/clock-{secrets.token_hex(8)}"
    store.create(name, b"")
    try:
        return next(each.modified for each in store.stored(name))
    finally:
        store.delete([name])


def _youngest(there: list[Stored]) -> dict[str, datetime]:
    """For each attempt, when anything of it was last written."""
    youngest: dict[str, datetime] = {}
    for each in there:
        if found := _OF_ATTEMPT.match(each.name):
            attempt = found["attempt"]
            youngest[attempt] = max(each.modified, youngest.get(attempt, each.modified))
    return youngest


def _age(each: Stored, now: datetime, youngest: dict[str, datetime]) -> timedelta:
    found = _OF_ATTEMPT.match(each.name)
    return now - (youngest[found["attempt"]] if found else each.modified)


def _why(name: str, named: set[str], committed: set[str]) -> str | None:
    """Why nothing needs an object; None for one that is needed or not ours."""
    if _STAGED.fullmatch(name):
        return "a file that was never finished"
    if name.startswith(f"{probe.FOLDER}/"):
        return "left by a probe"
    if name.startswith("data/") and name not in named:
        return "in no commit record"
    if name.startswith(ENGINES_SEEN):
        return "what the engines of a run did"
    found = _OF_ATTEMPT.match(name)
    if name.startswith("journal/") and found and found["shard"] in committed:
        return "the journal of a committed shard"
    return None

"""Where a run's folder stands, read from its plan, records and manifests alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.errors import Refused, SourceError
from shards import commits, manifest
from shards import plan as plans
from shards.plan import Plan
from shards.store import Store, open_blob

ENGINES_SEEN = "journal/~engines-"  # how the folder of a run's replicas begins; no shard is called so
RECORDS_AT_ONCE = 1000  # of a hundred thousand that are summed up
_ATTEMPT_HEX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A run's folder at one moment. open_shards: begun and not committed, as their journals tell.

    engines: what its replicas were doing at `time`, Unix seconds; None where no run goes on or it asks none.
    """

    run_id: str
    source: str
    engine: str
    model: str
    shards: int
    committed: int
    open_shards: tuple[str, ...]
    manifest: int | None
    complete: bool
    totals: dict[str, Any]
    engines: dict[str, Any] | None = None


def status(store: Store) -> Status:
    """The status of a run's folder. Raises Refused where there is no run, CorruptState."""
    return Tally(store).look()


class Tally:
    """A run's folder that is looked at again and again: its plan is read when it changes, and each record once.

    plan: as of the last look; another one, or a record that repair took away, begins the sum anew. fresh: shards whose
    records were there for the first time. segments: the journal files of each open shard.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._etag = ""
        self.plan: Plan | None = None
        self._counted: set[str] = set()
        self._totals = manifest.totals([])
        self.fresh: set[str] = set()
        self.segments: dict[str, list[str]] = {}

    def look(self) -> Status:
        """The status now. Raises Refused where there is no run, CorruptState, OutOfService."""
        plan = self.plan = self._planned()
        versions = manifest.numbers(self._store)
        # Before the records: of a shard that is committed meanwhile, and its journal cleared, one of the two is seen.
        written = self._store.names("journal/")
        done = commits.committed(self._store)
        self._count(done, bool(versions))
        seen = [name for name in written if name.startswith(ENGINES_SEEN)]
        journals = _by_shard(name for name in written if not name.startswith(ENGINES_SEEN))
        self.segments = {shard: names for shard, names in journals.items() if shard not in done}
        return Status(
            run_id=plan.run_id,
            source=plan.recipe["source"]["name"],
            engine=plan.recipe["engine"]["name"],
            model=plan.recipe["model"],
            shards=len(plan.inputs),
            committed=len(done),
            open_shards=tuple(sorted(self.segments)),
            manifest=max(versions, default=None),
            complete=len(done) == len(plan.inputs),
            totals=self._totals,
            engines=_engines(self._store, seen),
        )

    def _planned(self) -> Plan:
        try:
            etag = open_blob(self._store.url_of(plans.NAME), "").etag
        except SourceError:
            etag = ""
        if self.plan is not None and etag and etag == self._etag:
            return self.plan
        plan = plans.read(self._store)
        if plan is None:
            raise Refused(f"no run at {self._store.url}: there is no {plans.NAME}")
        if self.plan is None or plan.run_id != self.plan.run_id:
            self._forget()
        self._etag = etag
        return plan

    def _forget(self) -> None:
        self._counted, self._totals = set(), manifest.totals([])

    def _count(self, done: set[str], published: bool) -> None:
        """Add what records say that were not read before; what the newest manifest lists is summed up there already."""
        if not self._counted <= done:
            self._forget()
        newest = manifest.latest(self._store) if published and not self._counted else None
        self.fresh = done - self._counted
        # Repair may have moved a listed record aside: then all are summed.
        if newest is not None and (listed := {shard for shard, _ in newest.shards}) <= done:
            self._counted, self._totals = listed, manifest.totals([newest.totals])
        unread = sorted(done - self._counted)
        for start in range(0, len(unread), RECORDS_AT_ONCE):
            shards = unread[start : start + RECORDS_AT_ONCE]
            records = commits.read_all(self._store, shards)
            self._totals = manifest.totals([self._totals, *map(manifest.totals_of, records)])
            self._counted.update(shards)


def _by_shard(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[name.split("/")[1][: -_ATTEMPT_HEX - 1]].append(name)
    return found


def _engines(store: Store, names: Sequence[str]) -> dict[str, Any] | None:
    """The newest snapshot of what a run's replicas do, None where none asks any. Half a minute old, or a dead run's."""
    try:
        found: dict[str, Any] = json.loads(store.read(max(names))) if names else {}
    except (FileNotFoundError, ValueError):  # it has just ended, or was never whole: it is no evidence of anything
        return None
    return found or None

"""Where a run's folder stands, read from its plan, records and manifests alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from captioner.errors import Refused
from shards import commits, manifest
from shards import plan as plans
from shards.store import Store


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


ENGINES_SEEN = "journal/~engines-"  # how the folder of a run's replicas begins; no shard is called so


def _engines(store: Store) -> dict[str, Any] | None:
    """The newest snapshot of what a run's replicas do, None where none asks any. Half a minute old, or a dead run's."""
    names = store.names(ENGINES_SEEN)
    try:
        found: dict[str, Any] = json.loads(store.read(max(names))) if names else {}
    except (FileNotFoundError, ValueError):  # it has just ended, or was never whole: it is no evidence of anything
        return None
    return found or None


def status(store: Store) -> Status:
    """The status of a run's folder. Raises Refused where there is no run, CorruptState."""
    plan = plans.read(store)
    if plan is None:
        raise Refused(f"no run at {store.url}: there is no {plans.NAME}")
    newest = manifest.latest(store)
    listed = {shard for shard, _ in newest.shards} if newest else set()
    done = commits.committed(store)
    before = newest if listed <= done else None  # repair may have moved a listed record aside: then all are summed
    fresh = commits.read_all(store, done - listed if before else done)
    parts = [*([before.totals] if before else []), *(manifest.totals_of(record) for record in fresh)]
    attempt_hex = 32
    written = [name for name in store.names("journal/") if not name.startswith(ENGINES_SEEN)]
    journals = {name.split("/")[1][: -attempt_hex - 1] for name in written}
    return Status(
        run_id=plan.run_id,
        source=plan.recipe["source"]["name"],
        engine=plan.recipe["engine"]["name"],
        model=plan.recipe["model"],
        shards=len(plan.inputs),
        committed=len(done),
        open_shards=tuple(sorted(journals - done)),
        manifest=newest.number if newest else None,
        complete=len(done) == len(plan.inputs),
        totals=manifest.totals(parts),
        engines=_engines(store),
    )

"""Verify: prove from the bytes alone that a corpus lost nothing, doubled nothing and is as it was written."""

from __future__ import annotations

from captioner.errors import CorruptState, Refused
from captioner.registry import build
from shards import commits, ledger, manifest
from shards import plan as plans
from shards.blob import Source
from shards.commits import Record
from shards.manifest import Manifest
from shards.plan import Plan
from shards.sources import SOURCES
from shards.store import Store
from shards.verdict import Problem, Verified
from shards.verify_shard import SHOWN_KEYS, check_account, check_files, check_input


def verify(store: Store, read_input: bool = True) -> Verified:
    """Read everything a run wrote, and its input again. Raises Refused where there is no run."""
    try:
        plan = plans.read(store)
    except CorruptState as error:
        return Verified(run_id="", problems=[Problem(check="plan", where=plans.NAME, detail=str(error))])
    if plan is None:
        raise Refused(f"no run at {store.url}: there is no {plans.NAME}")
    verdict = Verified(run_id=plan.run_id)
    records = _records(store, plan, verdict)
    source = _source(plan, verdict)
    for shard in plan.inputs:
        if (record := records.get(shard.shard)) is None:
            continue
        check_account(shard, record, verdict)
        rows = check_files(store, record, verdict)
        if read_input and source is not None and rows is not None:
            check_input(source, shard, record, rows, verdict)
    _files(store, records, verdict)
    _manifests(store, plan, records, verdict)
    _unfinished(plan, records, verdict)
    verdict.totals = manifest.totals(manifest.totals_of(record) for record in records.values())
    return verdict


def _source(plan: Plan, verdict: Verified) -> Source | None:
    part = plan.recipe["source"]
    try:
        source: Source = build(SOURCES, part["name"], part["settings"])
    except Refused as error:
        verdict.must(False, "plan", plans.NAME, f"its source is none of ours: {error}")
        return None
    return source


def _records(store: Store, plan: Plan, verdict: Verified) -> dict[str, Record]:
    """Every planned shard's record that reads; a record that nobody planned is a problem."""
    planned = {each.shard for each in plan.inputs}
    records: dict[str, Record] = {}
    alien: dict[str, str] = {}
    for shard in sorted(commits.committed(store)):
        name = commits.name_of(shard)
        try:
            record = commits.read(store, shard)
        except CorruptState as error:
            verdict.must(False, "record", name, str(error))
            continue
        if record is None:
            continue
        if record.plan != plan.run_id:
            alien[name] = record.plan
        elif verdict.must(shard in planned, "planned", name, "a record of a shard that the plan does not have") and (
            verdict.must(record.shard == shard, "record", name, f"it is the record of {record.shard}")
        ):
            records[shard] = record
            verdict.count("records")
    _aliens(alien, bool(records), verdict)
    return records


def _aliens(alien: dict[str, str], some_are_ours: bool, verdict: Verified) -> None:
    """Records of another plan, by name; where all of them agree on which, the plan is what has changed."""
    if not some_are_ours and len(owners := set(alien.values())) == 1:
        detail = f"its hash is {verdict.run_id[:12]}, and all {len(alien)} records belong to {owners.pop()[:12]}"
        verdict.must(False, "plan", plans.NAME, detail)
        return
    for name in alien:
        verdict.must(False, "record", name, "it belongs to another plan")


def _files(store: Store, records: dict[str, Record], verdict: Verified) -> None:
    """Files that no record names are litter of killed attempts, not damage."""
    named = {file.name for record in records.values() for file in record.files}
    litter = [name for name in store.names("data/") if name not in named]
    if litter:
        verdict.count("files of killed attempts, in no record", len(litter))


def _manifests(store: Store, plan: Plan, records: dict[str, Record], verdict: Verified) -> None:
    """Each manifest's seal, the chain of parents, and the newest one against the records."""
    parent: Manifest | None = None
    numbers = sorted(manifest.numbers(store))
    moved = commits.set_aside(store, "commits")
    for number in numbers:
        name = manifest.name_of(number)
        try:
            each = manifest.read(store, number)
        except CorruptState as error:
            verdict.must(False, "manifest", name, str(error))
            continue
        verdict.count("manifests")
        verdict.must(each.plan == plan.run_id and each.number == number, "manifest", name, "it belongs to another plan")
        expected = parent.sha256 if parent else None
        planned = {shard.shard for shard in plan.inputs}
        whole = each.complete == ({shard for shard, _ in each.shards} == planned)
        verdict.must(whole, "manifest", name, "it is wrong about being complete")
        known = each.parent == expected or bool(manifest.retired(store))
        verdict.must(known, "manifest", name, "its parent is not the version before it")
        # An older version may list a record that repair has replaced since; the newest may not.
        _listed(each, records, moved if number != numbers[-1] else set(), verdict)
        parent = each
    if parent is None or {shard for shard, _ in parent.shards} != set(records):
        verdict.notes.append("the newest manifest does not list every committed shard: run the same command again")


def _listed(each: Manifest, records: dict[str, Record], moved: set[str], verdict: Verified) -> None:
    name = manifest.name_of(each.number)
    wrong = [shard for shard, sha256 in each.shards if shard not in records or records[shard].sha256 != sha256]
    if wrong and set(wrong) <= moved:
        verdict.count("manifests with records that were repaired since")
        return
    if not verdict.must(not wrong, "manifest", name, f"records are gone or others: {wrong[:SHOWN_KEYS]}"):
        return
    ordered = list(each.shards) == sorted(dict(each.shards).items())
    verdict.must(ordered, "manifest", name, "its shards are not sorted, each once")
    listed = [records[shard] for shard, _ in each.shards]
    totals = manifest.totals(manifest.totals_of(record) for record in listed)
    verdict.must(totals == each.totals, "manifest", name, "its totals are not the sum of its records")
    verdict.must(
        each.digest == ledger.add_digests(record.digest for record in listed), "manifest", name, "another digest"
    )
    verdict.must(each.merkle_root == manifest.merkle_root(each.shards), "manifest", name, "another Merkle root")


def _unfinished(plan: Plan, records: dict[str, Record], verdict: Verified) -> None:
    missing = [each.shard for each in plan.inputs if each.shard not in records]
    verdict.complete = not missing
    if missing:
        verdict.notes.append(f"{len(missing)} shards have no record yet, such as {missing[:SHOWN_KEYS]}")
    for shard, record in records.items():
        if record.reason is not None:
            verdict.notes.append(f"{shard}: {record.reason} ({record.input.get('detail') or ''})")
    failed = sum(record.counts.get("failed", 0) for record in records.values())
    if failed:
        verdict.notes.append(f"the engine failed on {failed} samples")

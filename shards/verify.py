"""Verify: prove from the bytes alone that a corpus lost nothing, doubled nothing and is as it was written."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from captioner.errors import CorruptState, Refused, SourceError
from captioner.reasons import OUTCOMES, SHARD_REASONS
from captioner.recipe import to_json
from captioner.registry import build
from captioner.types import Sample, ShardInput
from shards import commits, ledger, manifest
from shards import plan as plans
from shards.blob import Blob
from shards.commits import DataFile, Record
from shards.ledger import Row
from shards.manifest import Manifest
from shards.plan import Plan
from shards.sources import SOURCES
from shards.store import Store, open_blob
from shards.tar import Member, TarReader

SHOWN_KEYS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it must be. check: which rule; where: the file or shard."""

    check: str
    where: str
    detail: str


@dataclass(slots=True, kw_only=True)
class Verified:
    """The verdict: problems are damage, notes are unfinished or failed work; checked counts what was looked at."""

    run_id: str
    complete: bool = False
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 sound and complete, 1 sound but unfinished or with failed work, 4 damaged."""
        return 4 if self.problems else int(bool(self.notes))

    def must(self, holds: bool, check: str, where: str, detail: str) -> bool:
        """Book a problem unless it holds; the answer is passed through."""
        if not holds:
            self.problems.append(Problem(check=check, where=where, detail=detail))
        return holds

    def count(self, what: str, much: int = 1) -> None:
        """Add to what was looked at."""
        self.checked[what] = self.checked.get(what, 0) + much


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
    for shard in plan.inputs:
        if shard.shard in records:
            _shard(store, records[shard.shard], verdict)
            if read_input:
                _input(store, plan, shard, records[shard.shard], verdict)
    _files(store, records, verdict)
    _manifests(store, plan, records, verdict)
    _unfinished(plan, records, verdict)
    verdict.totals = manifest.totals(manifest.totals_of(record) for record in records.values())
    return verdict


def _records(store: Store, plan: Plan, verdict: Verified) -> dict[str, Record]:
    """Every planned shard's record that reads; a record that nobody planned is a problem."""
    planned = {each.shard for each in plan.inputs}
    there = commits.committed(store)
    records: dict[str, Record] = {}
    for shard in sorted(there):
        name = commits.name_of(shard)
        if not verdict.must(shard in planned, "planned", name, "a record of a shard that the plan does not have"):
            continue
        try:
            record = commits.read(store, shard)
        except CorruptState as error:
            verdict.must(False, "record", name, str(error))
            continue
        if record is not None and verdict.must(
            record.plan == plan.run_id and record.shard == shard, "record", name, "it belongs to another plan or shard"
        ):
            records[shard] = record
            verdict.count("records")
    return records


class _Hashing:
    """A blob that hashes what is read from its beginning to its end."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self.size, self.etag = blob.size, blob.etag
        self.sha256, self.bytes = hashlib.sha256(), 0

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """The bytes from offset on; only a read on from where the last one ended is hashed."""
        for chunk in self._blob.chunks(offset):
            if offset == self.bytes:
                self.sha256.update(chunk)
                self.bytes += len(chunk)
            offset += len(chunk)
            yield chunk

    def finish(self) -> str:
        """The sha256 of all bytes, read to the end if nobody did."""
        for _ in self.chunks(self.bytes):
            pass
        return self.sha256.hexdigest()


def _shard(store: Store, record: Record, verdict: Verified) -> None:
    """One shard's files against its record, and against each other."""
    by_kind = {file.name.rpartition(".")[2]: file for file in record.files}
    where = commits.name_of(record.shard)
    if not verdict.must(set(by_kind) == {"tar", "parquet"}, "files", where, "it must name one tar and one ledger"):
        return
    rows = _ledger(store, by_kind["parquet"], verdict)
    if rows is not None:
        _counts(record, rows, verdict)
        _tar(store, by_kind["tar"], {row.key: row for row in rows if row.outcome == "captioned"}, verdict)


def _ledger(store: Store, file: DataFile, verdict: Verified) -> list[Row] | None:
    try:
        data = store.read(file.name)
    except FileNotFoundError:
        verdict.must(False, "missing_file", file.name, "a record names it, and it is not there")
        return None
    verdict.count("bytes", len(data))
    sound = len(data) == file.bytes and commits.sha256_of(data) == file.sha256
    if not verdict.must(sound, "sha256", file.name, "its bytes are not those that were committed"):
        return None
    rows = ledger.from_parquet(data)
    verdict.count("rows", len(rows))
    return rows


def _counts(record: Record, rows: list[Row], verdict: Verified) -> None:
    where = commits.name_of(record.shard)
    counts = ledger.counted(rows)
    verdict.must(counts == dict(record.counts), "counts", where, f"the ledger has {counts}, the record {record.counts}")
    total = sum(counts[name] for name in OUTCOMES)
    verdict.must(counts["read"] == total, "counts", where, f"read {counts['read']}, but the outcomes sum to {total}")
    verdict.must(ledger.reasons(rows) == dict(record.reasons), "reasons", where, "the ledger has other reasons")
    verdict.must(ledger.digest(rows) == record.digest, "digest", where, "the ledger's rows have another digest")
    places = Counter(row.place for row in rows)
    doubled = [key for (key, _), times in places.items() if times > 1]
    verdict.must(not doubled, "doubled", where, f"rows stand twice: {doubled[:SHOWN_KEYS]}")
    account = record.input["account"]
    accounted = sum(value for name, value in account.items() if name.endswith("_bytes"))
    verdict.must(
        accounted == record.input["size"],
        "bytes",
        where,
        f"{accounted} of {record.input['size']} bytes are accounted for",
    )


def _tar(store: Store, file: DataFile, captioned: dict[str, Row], verdict: Verified) -> None:
    """The corpus tar: its hash, and each sample's picture, caption and record against the ledger's row."""
    try:
        blob = _Hashing(store.blob(file.name))
    except FileNotFoundError:
        verdict.must(False, "missing_file", file.name, "a record names it, and it is not there")
        return
    verdict.count("bytes", blob.size)
    if not verdict.must(
        blob.size == file.bytes, "sha256", file.name, f"{blob.size} bytes, committed were {file.bytes}"
    ):
        return
    parts: dict[str, set[str]] = {}
    reader = TarReader(blob)
    for item in reader:
        if isinstance(item, Member):
            _member(item, captioned.get(item.key), file.name, verdict)
            parts.setdefault(item.key, set()).add(item.ext)
    if not verdict.must(
        blob.finish() == file.sha256, "sha256", file.name, "its bytes are not those that were committed"
    ):
        return
    for key in captioned.keys() ^ parts.keys():
        verdict.must(False, "tar_ledger", file.name, f"{key!r} is not in both the tar and the ledger as captioned")
    for key, extensions in parts.items():
        whole = len(extensions) == 3 and {"json", "txt"} <= extensions
        verdict.must(whole, "tar_ledger", file.name, f"{key!r} has the parts {sorted(extensions)}")
    verdict.count("captioned", len(captioned))


def _member(member: Member, row: Row | None, where: str, verdict: Verified) -> None:
    if row is None:
        return
    data = member.data or b""
    match member.ext:
        case "txt":
            verdict.must(
                data.decode(errors="replace") == row.caption, "tar_ledger", where, f"{row.key!r}: another caption"
            )
        case "json":
            verdict.must(_says_the_same(data, row), "tar_ledger", where, f"{row.key!r}: its record is not its row")
        case _:
            sound = hashlib.sha256(data).hexdigest() == row.sha256
            verdict.must(sound, "tar_ledger", where, f"{row.key!r}: other picture bytes")


def _says_the_same(data: bytes, row: Row) -> bool:
    try:
        record = json.loads(data)
    except ValueError:
        return False
    row_values = to_json(row)
    fields = ("source_shard", "key", "member_offset", "outcome", "caption", "sha256", "width", "height", "prompt_id")
    return all(record.get(name) == row_values[name] for name in fields)


def _input(store: Store, plan: Plan, shard: ShardInput, record: Record, verdict: Verified) -> None:
    """Read the input shard again, on its own: every sample has its row, and no row is without its sample."""
    source = build(SOURCES, plan.recipe["source"]["name"], plan.recipe["source"]["settings"])
    if record.reason in SHARD_REASONS and record.reason is not None and record.reason.startswith("source_"):
        return
    found: Counter[tuple[str, int, str]] = Counter()
    reading = source.read(shard, open_blob)
    try:
        for item in reading:
            what = hashlib.sha256(item.media).hexdigest() if isinstance(item, Sample) else item.reason
            found[(item.key, -1 if item.member_offset is None else item.member_offset, what)] += 1
    except SourceError as error:
        verdict.notes.append(f"{shard.shard}: its input cannot be read again ({error})")
        return
    rows = _rows_of(store, record)
    in_ledger = Counter((*row.place, row.sha256 or row.reason or "") for row in rows)
    where = f"{shard.shard} (input)"
    for name, difference in (("lost", found - in_ledger), ("unaccounted", in_ledger - found)):
        keys = [key for key, _, _ in difference]
        verdict.must(not difference, name, where, f"{len(keys)} samples, such as {keys[:SHOWN_KEYS]}")
    verdict.count("input samples", sum(found.values()))
    verdict.count("input bytes", shard.size)


def _rows_of(store: Store, record: Record) -> list[Row]:
    name = next(file.name for file in record.files if file.name.endswith(".parquet"))
    try:
        return ledger.from_parquet(store.read(name))
    except (CorruptState, FileNotFoundError):  # booked already, by the check of the file itself
        return []


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

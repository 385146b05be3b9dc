"""One shard's proof: record, ledger, tar and input say the same, sample for sample and byte for byte."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator

from captioner.errors import CorruptState, SourceError
from captioner.reasons import OUTCOMES, SHARD_REASONS
from captioner.types import Sample, ShardInput
from shards import commits, ledger
from shards.blob import Blob, Source
from shards.commits import DataFile, Record
from shards.ledger import Row
from shards.store import Store, open_blob
from shards.tar import CORPUS_MEMBER_BYTES, Member, TarReader
from shards.verdict import Verified

SHOWN_KEYS = 3
# A record in the tar repeats its row, but for what differs from run to run and what Parquet rounds to 32 bits.
REPEATED = tuple(sorted(Row.__dataclass_fields__.keys() - {"engine_seconds", "signals", "frame_times"}))


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


def check_files(store: Store, record: Record, verdict: Verified) -> list[Row] | None:
    """A shard's files against its record and against each other; the ledger's rows, if it is as it was written."""
    where = commits.name_of(record.shard)
    by_kind = {file.name.rpartition(".")[2]: file for file in record.files}
    names = [f"data/{record.shard}-{record.attempt}.{kind}" for kind in ("tar", "parquet")]
    if not verdict.must(
        [file.name for file in record.files] == names, "files", where, "it must name its own tar and its own ledger"
    ):
        return None
    rows = _ledger(store, by_kind["parquet"], verdict)
    if rows is not None:
        _counts(record, rows, verdict)
        _places(record, rows, verdict)
    captioned = None if rows is None else {row.key: row for row in rows if row.outcome == "captioned"}
    _tar(store, by_kind["tar"], captioned, verdict)
    return rows


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
    try:
        rows = ledger.from_parquet(data)
    except CorruptState as error:
        verdict.must(False, "ledger", file.name, str(error))
        return None
    verdict.count("rows", len(rows))
    return rows


def _counts(record: Record, rows: list[Row], verdict: Verified) -> None:
    where = commits.name_of(record.shard)
    counts = ledger.counted(rows)
    verdict.must(counts == dict(record.counts), "counts", where, f"the ledger has {counts}, the record {record.counts}")
    total = sum(counts[name] for name in OUTCOMES)
    verdict.must(counts["read"] == total, "counts", where, f"read {counts['read']}, but the outcomes sum to {total}")
    verdict.must(ledger.reasons(rows) == dict(record.reasons), "reasons", where, "the ledger has other reasons")
    verdict.must(ledger.spent(rows) == dict(record.spent), "spent", where, "the ledger tells of other asks and tokens")
    verdict.must(ledger.digest(rows) == record.digest, "digest", where, "the ledger's rows have another digest")


def _places(record: Record, rows: list[Row], verdict: Verified) -> None:
    """Every row stands once, in this shard, in order, and says why it has no caption or what its caption is."""
    where = commits.name_of(record.shard)
    doubled = [place[0] for place, times in Counter(row.place for row in rows).items() if times > 1]
    verdict.must(not doubled, "doubled", where, f"rows stand twice: {doubled[:SHOWN_KEYS]}")
    alien = [row.key for row in rows if row.source_shard != record.shard]
    verdict.must(not alien, "ledger", where, f"rows of another shard: {alien[:SHOWN_KEYS]}")
    mute = [row.key for row in rows if (row.caption if row.outcome == "captioned" else row.reason) is None]
    verdict.must(not mute, "ledger", where, f"rows with neither caption nor reason: {mute[:SHOWN_KEYS]}")
    ends = (rows[0].key, rows[-1].key) if rows else (None, None)
    verdict.must(ends == (record.first_key, record.last_key), "ledger", where, f"its first and last keys are {ends}")


def _tar(store: Store, file: DataFile, captioned: dict[str, Row] | None, verdict: Verified) -> None:
    """The corpus tar: its hash, and each sample's picture, caption and record against the ledger's row."""
    try:
        blob = _Hashing(store.blob(file.name))
    except FileNotFoundError:
        verdict.must(False, "missing_file", file.name, "a record names it, and it is not there")
        return
    verdict.count("bytes", blob.size)
    sized = f"{blob.size} bytes, committed were {file.bytes}"
    if not verdict.must(blob.size == file.bytes, "sha256", file.name, sized):
        return
    odd = [] if captioned is None else list(_odd(TarReader(blob, max_member_bytes=CORPUS_MEMBER_BYTES), captioned))
    # Where the bytes are others, all that is odd in them comes of that.
    if not verdict.must(
        blob.finish() == file.sha256, "sha256", file.name, "its bytes are not those that were committed"
    ):
        return
    for detail in odd:
        verdict.must(False, "tar_ledger", file.name, detail)
    verdict.count("captioned", len(captioned or ()))


def _odd(reader: TarReader, captioned: dict[str, Row]) -> Iterator[str]:
    """What the tar has that the ledger has not, and the other way round."""
    parts: dict[str, list[str]] = {}
    for item in reader:
        if not isinstance(item, Member):
            yield f"bytes {item.offset} to {item.end}: {item.reason}"
            continue
        parts.setdefault(item.key, []).append(item.ext)
        if item.key in captioned:
            yield from _odd_part(item, captioned[item.key])
    yield from (f"the tar is {flag}" for flag in reader.account.flags)
    for key in sorted(captioned.keys() ^ parts.keys()):
        yield f"{key!r} is not in both the tar and the ledger as captioned"
    for key, extensions in parts.items():
        if len(extensions) != 3 or len(set(extensions)) != 3 or not {"json", "txt"} <= set(extensions):
            yield f"{key!r} has the parts {sorted(extensions)}"


def _odd_part(member: Member, row: Row) -> Iterator[str]:
    data = member.data or b""
    match member.ext:
        case "txt":
            if data != (row.caption or "").encode():
                yield f"{row.key!r}: another caption"
        case "json":
            if not _says_the_same(data, row):
                yield f"{row.key!r}: its record is not its row"
        case _:
            sha256 = member.spooled.sha256 if member.spooled else hashlib.sha256(data).hexdigest()
            if sha256 != row.sha256:
                yield f"{row.key!r}: other picture bytes"


def _says_the_same(data: bytes, row: Row) -> bool:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and all(record.get(name) == getattr(row, name) for name in REPEATED)


def check_input(source: Source, shard: ShardInput, record: Record, rows: list[Row], verdict: Verified) -> None:
    """Read the input shard again, on its own: every sample has its row, and no row is without its sample."""
    if record.reason is not None and record.reason.startswith("source_"):
        verdict.must(not rows, "unaccounted", f"{shard.shard} (input)", f"{len(rows)} rows of what was never read")
        return
    found: Counter[tuple[str, int, str]] = Counter()
    try:
        reading = source.read(shard, open_blob)
        for item in reading:
            what = item.sha256 if isinstance(item, Sample) else item.reason
            found[(item.key, -1 if item.member_offset is None else item.member_offset, what)] += 1
    except SourceError as error:
        verdict.notes.append(f"{shard.shard}: its input cannot be read again ({error})")
        return
    in_ledger = Counter((*row.place, row.sha256 or row.reason or "") for row in rows)
    where = f"{shard.shard} (input)"
    for name, difference in (("lost", found - in_ledger), ("unaccounted", in_ledger - found)):
        keys = [key for key, _, _ in difference]
        verdict.must(not difference, name, where, f"{len(keys)} samples, such as {keys[:SHOWN_KEYS]}")
    account = dataclasses.asdict(reading.account)
    same = record.input["account"] == {name: value for name, value in account.items() if name.endswith("_bytes")}
    verdict.must(same and record.flags == account["flags"], "bytes", where, "read again, its bytes are others")
    verdict.count("input samples", sum(found.values()))
    verdict.count("input bytes", shard.size)


def check_account(shard: ShardInput, record: Record, verdict: Verified) -> None:
    """The record's input is the planned one, all its bytes are accounted for, and what was odd is said."""
    where, given = commits.name_of(shard.shard), record.input
    planned = {"url": shard.url, "size": shard.size, "etag": shard.etag, "take": shard.take}
    verdict.must(planned.items() <= given.items(), "input", where, "its input is not the one that was planned")
    account = given["account"]
    accounted = sum(account.values())
    said = f"{accounted} of {shard.size} bytes are accounted for"
    verdict.must(accounted == shard.size, "bytes", where, said)
    read = shard.size - account.get("unread_bytes", 0)
    verdict.must(given["bytes_read"] == read, "bytes", where, f"{read} bytes were read, it says {given['bytes_read']}")
    errors = [flag for flag in record.flags if flag not in SHARD_REASONS or SHARD_REASONS[flag].error]
    verdict.must(record.reason == next(iter(errors), None), "reasons", where, f"its flags are {list(record.flags)}")

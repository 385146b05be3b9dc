"""A download's folder: the list as it was taken, whole shards in img2dataset's layout, and what became of every row.

OUT/00000.tar, 00000.parquet, 00000_stats.json     a whole shard; its stats come last and make it count
OUT/download/plan.json                             the list's files and what decides what comes out of them
OUT/download/list/01-00000.parquet                 the rows as img2dataset reads them; 02-… those tried again
OUT/download/rounds/000001.json                    which of these files are one round, created last
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from captioner.errors import CorruptState, OutOfService, PlanMismatch, Refused
from captioner.recipe import canonical, differences
from captioner.types import Broken
from shards.blob import FileBlob
from shards.failures import FAILURES, reason_of
from shards.samples import TarReading
from shards.store import Store
from shards.url_list import ROW, parts

PLAN, ROUNDS, LISTS, STATS = "download/plan.json", "download/rounds/", "download/list/", "_stats.json"
PART_ROWS = 1_000_000  # of a file of the list, at most: img2dataset holds one of them
NOTHING, DOWNLOADED = 0, 1  # of a row; what failed is 2 and more, by its place in _REASONS
_REASONS = tuple(FAILURES)
_PASSES = np.array([False, False, *(failure.passes for failure in FAILURES.values())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A shard that is to be: rows `start` to `start + rows` of a file of the list."""

    shard: int
    part: str
    start: int
    rows: int

    @property
    def name(self) -> str:
        return f"{self.shard:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One try of a list's rows: its files with their rows, in order."""

    parts: tuple[tuple[str, int], ...]

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.parts)


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of a list's rows. left: not tried yet. missing: of whole shards, and nobody knows what became of
    them. doubled: downloaded more than once. bytes: of the pictures."""

    listed: int
    shards: int = 0
    downloaded: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    left: int = 0
    missing: int = 0
    doubled: int = 0
    bytes: int = 0
    missing_rows: list[int] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """4 where rows are missing or doubled, 1 where some failed or are left, else 0."""
        if self.missing or self.doubled:
            return 4
        return 1 if self.failed or self.left else 0


def begin(to: Store, plan: Mapping[str, Any]) -> None:
    """Say what is downloaded here, before anything is. Raises PlanMismatch, Refused."""
    names = to.names()
    if PLAN not in names and names:
        raise Refused(f"{to.url} holds something else; an empty or new folder would be right")
    if not to.create(PLAN, canonical(dict(plan)) + b"\n"):
        there = _read_json(to, PLAN)
        if there != plan:
            raise PlanMismatch(list(differences(there, dict(plan))))


def forget(to: Store) -> None:
    """Undo `begin` and a first round that came to no record."""
    to.delete([*to.names(LISTS), PLAN])


def _read_json(to: Store, name: str) -> Any:
    try:
        return json.loads(to.read(name))
    except ValueError as error:
        raise CorruptState(f"{to.url}/{name} is no JSON") from error


def rounds(to: Store) -> list[Round]:
    """The rounds that were begun, in order."""
    read = (_read_json(to, name) for name in to.names(ROUNDS))
    return [Round(parts=tuple((name, rows) for name, rows in each["parts"])) for each in read]


def new_round(to: Store, number: int, rows: Iterable[pa.Table], samples_a_shard: int) -> Round:
    """Write a round's rows, then the record that makes it one. number: from 1.

    What a killed attempt left of the same rows stays: the rows of a round are decided by what came before it.
    """
    made = []
    a_part = samples_a_shard * max(1, PART_ROWS // samples_a_shard)  # whole shards: only the last may be short
    for part, table in enumerate(parts(iter(rows), a_part)):
        name = f"{LISTS}{number:02d}-{part:05d}.parquet"
        sink = io.BytesIO()
        pq.write_table(table, sink)
        to.create(name, sink.getvalue())
        made.append((name, table.num_rows))
    record = {"parts": made}
    to.create(f"{ROUNDS}{number:06d}.json", canonical(record) + b"\n")
    return Round(parts=tuple(made))


def wanted(all_rounds: Sequence[Round], samples_a_shard: int) -> list[Wanted]:
    """Every shard that these rounds are, numbered as img2dataset numbers them."""
    found: list[Wanted] = []
    for part, rows in (part for each in all_rounds for part in each.parts):
        for start in range(0, rows, samples_a_shard):
            size = min(samples_a_shard, rows - start)
            found.append(Wanted(shard=len(found), part=part, start=start, rows=size))
    return found


def whole(to: Store) -> set[int]:
    """The numbers of the shards that count."""
    stats = (name.removesuffix(STATS) for name in to.names() if name.endswith(STATS) and "/" not in name)
    return {int(name) for name in stats if name.isdigit()}


def clear_cut(to: Store) -> list[str]:
    """Delete what a killed download published of shards that then did not come to count; the names."""
    counting = whole(to)
    kinds = ".tar", ".parquet"
    cut = [name for name in to.names() if "/" not in name and name.endswith(kinds)]
    cut = [name for name in cut if (stem := name.partition(".")[0]).isdigit() and int(stem) not in counting]
    to.delete(cut)
    return cut


def publish(to: Store, made: Path, lists: Path, one: Wanted) -> bool:
    """Check a shard that img2dataset made and create its objects, stats last; False while its stats are not written.

    made: the folder it wrote to; lists: where the list's files lie under their plain names. Raises OutOfService where
    its files do not agree with each other or with the list, or somebody else downloads to the same place.
    """
    stats = _stats_of(made / f"{one.name}{STATS}")
    if stats is None:
        return False
    size = _checked(made, lists, one)
    for ending in (".parquet", ".tar"):
        with to.building(one.name + ending) as building, (made / (one.name + ending)).open("rb") as file:
            shutil.copyfileobj(file, building.file, 1 << 20)
            if not building.publish():
                raise OutOfService(f"{to.url} has another {one.name}{ending}: does a second download run there?")
    to.create(one.name + STATS, json.dumps({**stats, "bytes": size}, indent=4).encode())
    for ending in (".parquet", ".tar"):
        (made / (one.name + ending)).unlink()
    return True


def _stats_of(path: Path) -> dict[str, Any] | None:
    try:
        stats = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # it is being written
        return None
    return stats if isinstance(stats, dict) and "count" in stats else None


def _checked(made: Path, lists: Path, one: Wanted) -> int:
    """Bytes of a shard's pictures, if the tar holds just the downloaded rows of this part of the list, each as it came.

    A row that img2dataset dropped without a word is for the account to find.
    """
    try:
        rows = pq.read_table(made / f"{one.name}.parquet", columns=[ROW, "status", "sha256", "key"])
        asked = pq.read_table(lists / Path(one.part).name, columns=[ROW])[ROW].slice(one.start, one.rows)
    except (OSError, pa.ArrowException) as error:
        raise OutOfService(f"shard {one.name} came out broken: {error}") from error
    there = rows[ROW].to_pylist()
    if len(set(there)) < len(there) or not set(there) <= set(asked.to_pylist()):
        raise OutOfService(f"shard {one.name} came out with rows that are not those of the list")
    status = zip(rows["key"].to_pylist(), rows["status"].to_pylist(), rows["sha256"].to_pylist(), strict=True)
    expected = {key: sha256 for key, status, sha256 in status if status == "success"}
    return _checked_tar(made / f"{one.name}.tar", expected)


def _checked_tar(tar: Path, expected: dict[str, str]) -> int:
    size = 0
    for sample in TarReading(FileBlob(tar), shard=tar.stem, meta_of=lambda text, fields: {}):
        if isinstance(sample, Broken):
            raise OutOfService(f"{tar.name} came out broken at {sample.key}: {sample.reason}")
        if sample.key not in expected:
            raise OutOfService(f"{tar.name} holds {sample.key}, of which its Parquet file says nothing")
        if hashlib.sha256(sample.media).hexdigest() != expected.pop(sample.key):
            raise OutOfService(f"{tar.name} holds {sample.key} with other bytes than were downloaded")
        size += len(sample.media)
    if expected:
        raise OutOfService(f"{tar.name} came out without {len(expected)} pictures, such as {min(expected)}")
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What became of each row of a list. fate [listed], uint8: NOTHING, DOWNLOADED or a reason's number.

    doubled: rows downloaded twice. untried: rows of shards that are not whole, of the first round.
    """

    fate: np.ndarray[Any, np.dtype[np.uint8]]
    doubled: int
    untried: int
    shards: int
    bytes: int

    def account(self) -> Account:
        """The sums."""
        counts = np.bincount(self.fate, minlength=2 + len(_REASONS)).tolist()
        missing = counts[NOTHING] - self.untried
        shown = np.flatnonzero(self.fate == NOTHING)[:10].tolist() if missing and not self.untried else []
        return Account(
            listed=len(self.fate),
            shards=self.shards,
            downloaded=counts[DOWNLOADED],
            failed={name: counts[2 + at] for at, name in enumerate(_REASONS) if counts[2 + at]},
            left=self.untried,
            missing=missing,
            doubled=self.doubled,
            bytes=self.bytes,
            missing_rows=shown,
        )

    def worth_another_try(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Per row of the list: whether it failed for a reason that passes, or nobody knows what became of it."""
        again: np.ndarray[Any, np.dtype[np.bool_]] = _PASSES[self.fate] | (self.fate == NOTHING)
        return again


def fates(to: Store, all_rounds: Sequence[Round], shards: Sequence[Wanted]) -> Fates:
    """Read what the shards' Parquet files say of every row; the last word on a row counts. Raises CorruptState."""
    fate = np.zeros(all_rounds[0].rows, np.uint8)
    counting, doubled, size = whole(to), 0, 0
    for one in (each for each in shards if each.shard in counting):
        rows, codes = to.read_sound(f"{one.name}.parquet", _codes)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(fate):
            raise CorruptState(f"{one.name}.parquet has rows that the list has not")
        doubled += int(np.count_nonzero((fate[rows] == DOWNLOADED) & (codes == DOWNLOADED)))
        doubled += len(rows) - len(np.unique(rows))
        fate[rows] = np.where(fate[rows] == DOWNLOADED, DOWNLOADED, codes)
        size += int(_read_json(to, one.name + STATS).get("bytes", 0))
    first = {part for part, _ in all_rounds[0].parts}
    untried = sum(each.rows for each in shards if each.part in first and each.shard not in counting)
    count = sum(each.shard in counting for each in shards)
    return Fates(fate=fate, doubled=doubled, untried=untried, shards=count, bytes=size)


def _codes(parquet: bytes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A shard's rows and what became of each."""
    try:
        table = pq.read_table(pa.BufferReader(parquet), columns=[ROW, "status", "error_message"])
    except (OSError, pa.ArrowException) as error:
        raise CorruptState(f"a shard's Parquet file is damaged: {error}") from error
    said = table["error_message"].combine_chunks().dictionary_encode()
    reasons = [2 + _REASONS.index(reason_of(each)) for each in said.dictionary.to_pylist()]
    numbers = np.array([*reasons, 2 + _REASONS.index("other")], np.uint8)
    failed = numbers[said.indices.fill_null(len(reasons)).to_numpy(zero_copy_only=False)]
    success = np.array([each == "success" for each in table["status"].to_pylist()], bool)
    return table[ROW].to_numpy(), np.where(success, np.uint8(DOWNLOADED), failed)


def rows_again(to: Store, first: Round, again: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[pa.Table]:
    """The rows of the list that are to be tried once more, as they were listed."""
    for name, _ in first.parts:
        table = pq.read_table(pa.BufferReader(to.read(name)))
        yield table.filter(pa.array(again[table[ROW].to_numpy()]))


def fetch_lists(to: Store, all_rounds: Sequence[Round], folder: Path) -> list[str]:
    """Put every file of the rounds into a local folder, and return their columns: a link where it lies on a local
    disk, else a copy."""
    folder.mkdir()
    for name, _ in (part for each in all_rounds for part in each.parts):
        path = folder / Path(name).name
        if to.path is not None:
            path.symlink_to(to.path / name)
        else:
            path.write_bytes(to.read(name))
    names: list[str] = pq.read_schema(min(folder.iterdir())).names
    return names

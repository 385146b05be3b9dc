"""Every way a corpus can lie while all its hashes are right, and the check that must find it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from captioner.recipe import canonical, digest
from shards import commits, ledger, manifest
from shards import plan as plans
from shards.commits import DataFile, Record
from shards.ledger import Row
from shards.store import Store
from shards.tar import Member
from shards.verdict import Verified
from shards.verify import verify
from tests.tars import items_of, tar_of

Parts = list[tuple[str, bytes]]


@dataclass(slots=True)
class Corpus:
    """A copy of the corpus, to be damaged."""

    out: Path

    @property
    def store(self) -> Store:
        return Store(str(self.out))

    def record(self, shard: str = "00000") -> Record:
        found = commits.read(self.store, shard)
        assert found is not None
        return found

    def path(self, kind: str, shard: str = "00000") -> Path:
        return next(self.out / file.name for file in self.record(shard).files if file.name.endswith(kind))

    def rows(self) -> list[Row]:
        return ledger.from_parquet(self.path("parquet").read_bytes())

    def parts(self) -> Parts:
        items, _ = items_of(self.path("tar").read_bytes())
        return [(item.name, item.data or b"") for item in items if isinstance(item, Member)]

    def lie(self, rows: list[Row] | bytes | None = None, tar: Parts | bytes | None = None, **changes: Any) -> None:
        """Replace what is given in the first shard, and make every hash, count, seal and manifest right again."""
        record = self.record()
        data = {"parquet": ledger.to_parquet(rows) if isinstance(rows, list) else rows}
        data["tar"] = tar_of(tar) if isinstance(tar, list) else tar
        for file in record.files:
            if (new := data[file.name.rpartition(".")[2]]) is not None:
                (self.out / file.name).write_bytes(new)
        files = tuple(self._vouched(file.name) for file in record.files)
        record = replace(record, files=files)
        if isinstance(rows, list):
            ends = {"first_key": rows[0].key, "last_key": rows[-1].key}
            counts = {"counts": ledger.counted(rows), "reasons": ledger.reasons(rows), "spent": ledger.spent(rows)}
            record = replace(record, digest=ledger.digest(rows), **counts, **ends)  # type: ignore[arg-type]
        self.seal(commits.sealed(replace(record, **changes)))

    def _vouched(self, name: str) -> DataFile:
        data = (self.out / name).read_bytes()
        return DataFile(name=name, bytes=len(data), sha256=commits.sha256_of(data))

    def seal(self, record: Record) -> None:
        (self.out / "commits/00000.json").write_bytes(commits.encode(record))
        plan = plans.read(self.store)
        assert plan is not None
        shutil.rmtree(self.out / "manifests")
        manifest.publish(self.store, plan, "test")

    def manifest(self, number: int, **changes: Any) -> None:
        """Replace fields of a manifest, and seal it again."""
        path = self.out / manifest.name_of(number)
        value = json.loads(path.read_bytes()) | changes
        del value["sha256"]
        path.write_bytes(canonical(value | {"sha256": digest(value)}) + b"\n")

    def verify(self, **options: bool) -> Verified:
        return verify(self.store, **options)


def changed(parts: Parts, name: str, data: bytes) -> Parts:
    return [(each, data if each == name else old) for each, old in parts]


def without(parts: Parts, key: str) -> Parts:
    return [(name, data) for name, data in parts if not name.startswith(key)]


def first(corpus: Corpus) -> Row:
    return next(row for row in corpus.rows() if row.outcome == "captioned")


def lose_a_row(corpus: Corpus) -> None:
    key = first(corpus).key
    corpus.lie(rows=[row for row in corpus.rows() if row.key != key], tar=without(corpus.parts(), key))


def lose_a_row_of_the_ledger_alone(corpus: Corpus) -> None:
    corpus.lie(rows=[row for row in corpus.rows() if row.key != first(corpus).key])


def double_a_row(corpus: Corpus) -> None:
    corpus.lie(rows=[first(corpus), *corpus.rows()])


def move_a_row_to_another_shard(corpus: Corpus) -> None:
    one, *rest = corpus.rows()
    corpus.lie(rows=[replace(one, source_shard="00001"), *rest])


def swap_a_caption_in_the_tar(corpus: Corpus) -> None:
    corpus.lie(tar=changed(corpus.parts(), f"{first(corpus).key}.txt", b"Another caption."))


def swap_a_caption_in_the_ledger(corpus: Corpus) -> None:
    row = first(corpus)
    corpus.lie(rows=[replace(each, caption="Another.") if each == row else each for each in corpus.rows()])


def swap_a_record_in_the_tar(corpus: Corpus) -> None:
    corpus.lie(tar=changed(corpus.parts(), f"{first(corpus).key}.json", b"[]"))


def claim_another_model_in_the_tar(corpus: Corpus) -> None:
    name = f"{first(corpus).key}.json"
    record = json.loads(dict(corpus.parts())[name]) | {"model": "another"}
    corpus.lie(tar=changed(corpus.parts(), name, canonical(record)))


def swap_a_picture_in_the_tar(corpus: Corpus) -> None:
    pictures = [(name, data) for name, data in corpus.parts() if name.endswith("jpg")]
    corpus.lie(tar=changed(corpus.parts(), pictures[0][0], pictures[1][1]))


def swap_a_picture_everywhere(corpus: Corpus) -> None:
    name, _ = next(part for part in corpus.parts() if part[0].endswith("jpg"))
    row, sha256 = first(corpus), commits.sha256_of(b"another picture")
    rows = [replace(each, sha256=sha256) if each == row else each for each in corpus.rows()]
    record = json.loads(dict(corpus.parts())[f"{row.key}.json"]) | {"sha256": sha256}
    parts = changed(corpus.parts(), name, b"another picture")
    corpus.lie(rows=rows, tar=changed(parts, f"{row.key}.json", canonical(record)))


def double_a_sample_in_the_tar(corpus: Corpus) -> None:
    corpus.lie(tar=[*corpus.parts(), *corpus.parts()[:3]])


def lose_a_sample_in_the_tar(corpus: Corpus) -> None:
    corpus.lie(tar=without(corpus.parts(), first(corpus).key))


def make_the_tar_no_tar(corpus: Corpus) -> None:
    corpus.lie(tar=b"no tar at all" * 100)


def make_the_ledger_no_parquet(corpus: Corpus) -> None:
    corpus.lie(rows=b"no Parquet at all")


def make_the_ledger_another_table(corpus: Corpus) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({name: [1] for name in ledger.SCHEMA.names}), sink)
    corpus.lie(rows=sink.getvalue())


def lose_the_tar(corpus: Corpus) -> None:
    corpus.path("tar").unlink()


def lose_the_ledger(corpus: Corpus) -> None:
    corpus.path("parquet").unlink()


def cut_the_tar(corpus: Corpus) -> None:
    corpus.path("tar").write_bytes(corpus.path("tar").read_bytes()[:-1024])


def plant_a_record(corpus: Corpus) -> None:
    shutil.copy(corpus.out / "commits/00000.json", corpus.out / "commits/00009.json")


def put_a_record_in_anothers_place(corpus: Corpus) -> None:
    shutil.copy(corpus.out / "commits/00000.json", corpus.out / "commits/00001.json")


def bring_a_record_of_another_plan(corpus: Corpus) -> None:
    corpus.lie(plan="0" * 64)


def name_files_of_another_shard(corpus: Corpus) -> None:
    corpus.lie(files=corpus.record("00001").files)


def name_a_file_outside(corpus: Corpus) -> None:
    outside = [replace(file, name=f"../../{file.name}") for file in corpus.record().files]
    corpus.seal(commits.sealed(replace(corpus.record(), files=tuple(outside))))


def count_one_too_many(corpus: Corpus) -> None:
    counts = corpus.record().counts
    corpus.lie(counts=dict(counts) | {"captioned": counts["captioned"] + 1})


def give_other_reasons(corpus: Corpus) -> None:
    corpus.lie(reasons={"undecodable": 1})


def tell_of_fewer_asks(corpus: Corpus) -> None:
    corpus.lie(spent=dict(corpus.record().spent) | {"asks": 1})


def give_another_digest(corpus: Corpus) -> None:
    corpus.lie(digest="0" * 64)


def account_for_too_little(corpus: Corpus) -> None:
    given = corpus.record().input
    corpus.lie(input=given | {"account": dict(given["account"]) | {"data_bytes": 0}})


def hide_a_shards_damage(corpus: Corpus) -> None:
    corpus.lie(flags=("truncated",), reason=None)


def name_another_input(corpus: Corpus) -> None:
    corpus.lie(input=corpus.record().input | {"etag": "another"})


def claim_that_the_input_was_gone(corpus: Corpus) -> None:
    corpus.lie(flags=("source_missing",), reason="source_missing")


def give_a_manifest_another_parent(corpus: Corpus) -> None:
    corpus.manifest(2, parent="0" * 64)


def drop_the_first_manifest(corpus: Corpus) -> None:
    (corpus.out / manifest.name_of(1)).unlink()


def total_too_much(corpus: Corpus) -> None:
    newest = manifest.latest(corpus.store)
    assert newest is not None
    corpus.manifest(2, totals=dict(newest.totals) | {"counts": {"read": 99}})


def list_another_record(corpus: Corpus) -> None:
    _, *rest = json.loads((corpus.out / manifest.name_of(2)).read_bytes())["shards"]
    corpus.manifest(2, shards=[["00000", "0" * 64], *rest])


def claim_to_be_incomplete(corpus: Corpus) -> None:
    corpus.manifest(2, complete=False)


def bring_another_plan(corpus: Corpus) -> None:
    plan = json.loads((corpus.out / "plan.json").read_bytes())
    (corpus.out / "plan.json").write_bytes(canonical(plan | {"versions": {"recap": "another"}}))


LIES: dict[Callable[[Corpus], None], set[str]] = {
    lose_a_row: {"lost"},
    lose_a_row_of_the_ledger_alone: {"lost", "tar_ledger"},
    double_a_row: {"doubled", "unaccounted"},
    move_a_row_to_another_shard: {"ledger", "tar_ledger"},
    swap_a_caption_in_the_tar: {"tar_ledger"},
    swap_a_caption_in_the_ledger: {"tar_ledger"},
    swap_a_record_in_the_tar: {"tar_ledger"},
    claim_another_model_in_the_tar: {"tar_ledger"},
    swap_a_picture_in_the_tar: {"tar_ledger"},
    swap_a_picture_everywhere: {"lost", "unaccounted"},
    double_a_sample_in_the_tar: {"tar_ledger"},
    lose_a_sample_in_the_tar: {"tar_ledger"},
    make_the_tar_no_tar: {"tar_ledger"},
    make_the_ledger_no_parquet: {"ledger"},
    make_the_ledger_another_table: {"ledger"},
    lose_the_tar: {"missing_file"},
    lose_the_ledger: {"missing_file"},
    cut_the_tar: {"sha256"},
    plant_a_record: {"planned"},
    put_a_record_in_anothers_place: {"record", "manifest"},
    bring_a_record_of_another_plan: {"record", "manifest"},
    name_files_of_another_shard: {"files"},
    name_a_file_outside: {"files"},
    count_one_too_many: {"counts"},
    give_other_reasons: {"reasons"},
    tell_of_fewer_asks: {"spent"},
    give_another_digest: {"digest"},
    account_for_too_little: {"bytes"},
    hide_a_shards_damage: {"bytes", "reasons"},
    name_another_input: {"input"},
    claim_that_the_input_was_gone: {"unaccounted"},
    give_a_manifest_another_parent: {"manifest"},
    drop_the_first_manifest: {"manifest"},
    total_too_much: {"manifest"},
    list_another_record: {"manifest"},
    claim_to_be_incomplete: {"manifest"},
    bring_another_plan: {"plan", "manifest"},
}

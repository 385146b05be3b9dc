"""The line without Ray: every sample of a shard gets one row, and a shard is done when its record is there."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import webdataset
from PIL import Image, ImageDraw, ImageFont

from captioner.engines import ENGINES
from captioner.engines.fake import Fake
from captioner.errors import PlanMismatch, SourceError
from captioner.presets import Wishes, asking_for
from captioner.recipe import Pace
from captioner.registry import part
from captioner.types import ShardInput
from pipelines.caption_shard import caption_shard
from pipelines.gate import Gate
from shards import commits, journal, ledger, manifest
from shards import plan as plans
from shards.blob import OpenBlob
from shards.pack import Packed, pack
from shards.sources import SOURCES
from shards.sources.datacomp import Datacomp
from shards.store import Store
from shards.tar_writer import add_sample, open_tar
from shards.verify import verify
from tests.corpora import fake_recipe, line_of, make_shards, planned, run_here, samples


def rows_of(store: Store, shard: str) -> list[ledger.Row]:
    record = commits.read(store, shard)
    assert record is not None
    return ledger.from_parquet(store.read(f"data/{shard}-{record.attempt}.parquet"))


def test_every_sample_gets_one_row_and_the_outcomes_sum_to_what_was_read(tmp_path: Path) -> None:
    recipe = fake_recipe(refused=0.1)
    plan = planned(recipe, make_shards(tmp_path / "in", 2, 20))
    done = run_here(recipe, plan, tmp_path / "out")
    store = Store(str(tmp_path / "out"))
    for number, each in enumerate(done):
        rows = rows_of(store, each.shard)
        assert [row.key for row in rows] == [sample.key for sample in samples(20, 20 * number)]
        assert each.counts["read"] == 20 == sum(Counter(row.outcome for row in rows).values())
        reasons = {row.key: row.reason for row in rows}
        assert reasons[f"{20 * number + 4:09d}"] == "below_min_resolution"
        assert reasons[f"{20 * number + 9:09d}"] == "truncated_image"
        assert reasons[f"{20 * number + 14:09d}"] == "undecodable"


@pytest.mark.parametrize("key_bytes", [1000, 1001, 1020])
def test_the_longest_names_that_are_taken_are_read_back_from_the_corpus(tmp_path: Path, key_bytes: int) -> None:
    first, *_ = samples(1)
    pack(Store(str(tmp_path / "in")), [replace(first, key="k" * key_bytes), *samples(1, first=1)], 9)
    recipe = fake_recipe()
    (done,) = run_here(recipe, planned(recipe, tmp_path / "in"), tmp_path / "out")
    assert done.counts["captioned"] == (2 if key_bytes <= 1000 else 1)
    assert done.counts["read"] == (2 if key_bytes <= 1000 else 4), "the long one's picture, caption and fields"
    assert verify(Store(str(tmp_path / "out"))).problems == []


def claiming(width: int, height: int) -> bytes:
    """A BigTIFF's header, which has 64 bits for each side, and no pixels."""
    sides = b"".join(struct.pack("<HHQQ", tag, 16, 1, side) for tag, side in ((256, width), (257, height)))
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2) + sides + bytes(8)


@pytest.mark.parametrize("width", [2**31, 2**64 - 1])
def test_a_header_that_claims_more_pixels_than_a_column_holds_is_a_row_and_breaks_no_shard(
    tmp_path: Path, width: int
) -> None:
    pack(Store(str(tmp_path / "in")), [Packed(key="big", extension="tif", media=claiming(width, 700)), *samples(2)], 9)
    recipe = fake_recipe()
    (done,) = run_here(recipe, planned(recipe, tmp_path / "in"), tmp_path / "out")
    assert (done.counts["read"], done.counts["captioned"], done.counts["filtered"]) == (3, 2, 1)
    (row,) = [row for row in rows_of(Store(str(tmp_path / "out")), done.shard) if row.key == "big"]
    assert (row.reason, row.width, row.height) == ("too_many_pixels", None, 700)


def test_a_row_says_where_its_caption_came_from(tmp_path: Path) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 4))
    run_here(recipe, plan, tmp_path / "out")
    row = rows_of(Store(str(tmp_path / "out")), "00000")[1]
    assert (row.engine, row.model, row.model_revision, row.prompt_id) == ("fake", "recap-fake", "1", "describe-image-1")
    assert (row.width, row.height, row.attempts, row.finish_reason) == (540, 520, 1, "stop")
    assert (row.original_caption, row.url) == ("alt text 1", "https://pictures.example/1.jpg")
    assert row.signals and any(name.startswith("repetition.") for name in row.signals)
    assert row.words == len((row.caption or "").split())


def test_webdataset_reads_the_corpus_with_the_pictures_as_they_were(tmp_path: Path) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 2, 20))
    run_here(recipe, plan, tmp_path / "out")
    tars = [str(path) for path in sorted((tmp_path / "out/data").glob("*.tar"))]
    read = {sample["__key__"]: sample for sample in webdataset.WebDataset(tars, shardshuffle=False)}
    originals = {sample.key: sample.media for sample in samples(40)}
    assert len(read) == 34
    for key, sample in read.items():
        assert sample["jpg"] == originals[key]
        record = json.loads(sample["json"])
        assert record["caption"] == sample["txt"].decode()
        assert record["source"]["uid"] == f"{int(key):032x}"


def test_a_user_reads_the_ledger_with_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 20)), tmp_path / "out")
    query = f"select outcome, count(*) from '{tmp_path}/out/data/*.parquet' group by outcome"
    assert dict(duckdb.sql(query).fetchall()) == {"captioned": 17, "filtered": 1, "unreadable": 2}


def test_equal_runs_make_equal_bytes(tmp_path: Path) -> None:
    recipe = fake_recipe(looping=0.2, refused=0.1)
    folder = make_shards(tmp_path / "in", 2, 20)
    for out in ("a", "b"):
        run_here(recipe, planned(recipe, folder), tmp_path / out)
    records = [[commits.read(Store(str(tmp_path / out)), shard) for shard in ("00000", "00001")] for out in ("a", "b")]
    assert [[file.sha256 for file in each.files] for each in records[0] if each] == [
        [file.sha256 for file in each.files] for each in records[1] if each
    ]


def test_a_looping_answer_is_asked_again_and_both_are_counted(tmp_path: Path) -> None:
    recipe = fake_recipe(looping=1.0)
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 4)), tmp_path / "out")
    row = rows_of(Store(str(tmp_path / "out")), "00000")[0]
    assert (row.outcome, row.attempts) == ("captioned", 2)
    assert row.signals and row.signals["again.repetitive_caption"] == 1.0


def test_what_the_experts_told_the_engine_stands_in_the_record_and_the_prompt_in_the_row(tmp_path: Path) -> None:
    recipe = fake_recipe()
    recipe = replace(recipe, asking=asking_for(Fake, recipe.model, Wishes(external="experts")))
    sign = Image.new("RGB", (900, 560), "white")
    ImageDraw.Draw(sign).text((60, 200), "HARBOUR MUSEUM", fill="black", font=ImageFont.load_default(90))
    sink = io.BytesIO()
    sign.save(sink, "JPEG")
    packed = Packed(key="sign", extension="jpg", media=sink.getvalue(), caption="a sign", fields={})
    pack(Store(str(tmp_path / "in")), [packed], 1)
    run_here(recipe, planned(recipe, tmp_path / "in"), tmp_path / "out")
    row = rows_of(Store(str(tmp_path / "out")), "00000")[0]
    assert (row.outcome, row.prompt_id) == ("captioned", "external-information-1")
    tars = [str(path) for path in (tmp_path / "out/data").glob("*.tar")]
    (read,) = webdataset.WebDataset(tars, shardshuffle=False)
    assert json.loads(read["json"])["facts"] == {"alt_text": "a sign", "boxes": [], "lines": ["HARBOUR MUSEUM"]}


def test_what_an_earlier_attempt_finished_is_not_asked_again(tmp_path: Path) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 20))
    run_here(recipe, plan, tmp_path / "whole")
    rows = rows_of(Store(str(tmp_path / "whole")), "00000")
    store = Store(str(tmp_path / "resumed"))
    plans.enter(store, plan)
    before = journal.Journal(store, plan.run_id, "00000", "0" * 32)
    for row in rows[:3]:
        before.add(journal.Entry(row=row))
    before.write()
    done = run_here(recipe, plan, tmp_path / "resumed")
    assert done[0].from_journal == 3 and done[0].bytes_from_journal > 0
    assert rows_of(store, "00000") == rows
    assert store.names("journal/") == []


def test_a_damaged_or_foreign_journal_is_a_cache_that_is_not_believed(tmp_path: Path) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 20))
    run_here(recipe, plan, tmp_path / "whole")
    rows = rows_of(Store(str(tmp_path / "whole")), "00000")
    entries = [journal.Entry(row=row) for row in rows[:3]]
    torn = journal.encode(plan.run_id, entries)[:-9]
    foreign = journal.encode("0" * 64, entries)
    store = Store(str(tmp_path / "resumed"))
    store.create(f"journal/00000-{'0' * 32}/000001.jsonl", torn)
    store.create(f"journal/00000-{'1' * 32}/000001.jsonl", foreign)
    assert run_here(recipe, plan, tmp_path / "resumed")[0].from_journal == 0
    assert rows_of(store, "00000") == rows


def test_the_journal_of_one_shard_is_not_that_of_a_longer_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for shard in ("a", "a-b"):
        store.create(f"journal/{shard}-{'0' * 32}/000001.jsonl", b"")
    assert [name.split("/")[1] for name in journal.segments(store, "a")] == [f"a-{'0' * 32}"]


def test_of_two_attempts_at_one_shard_the_first_record_stands(tmp_path: Path) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 8))
    first = run_here(recipe, plan, tmp_path / "out")[0]
    record = commits.read(Store(str(tmp_path / "out")), "00000")
    second = run_here(recipe, plan, tmp_path / "out")[0]
    zombie = run_here(recipe, plan, tmp_path / "out", zombie=True)[0]
    assert (first.verdict, second.verdict, zombie.verdict) == ("committed", "lost", "lost")
    assert len(Store(str(tmp_path / "out")).names("data/")) == 2, "who loses takes its files away"
    assert commits.read(Store(str(tmp_path / "out")), "00000") == record


def test_a_put_whose_answer_was_lost_is_still_ours(tmp_path: Path) -> None:
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 4)), tmp_path / "out")
    store = Store(str(tmp_path / "out"))
    record = commits.read(store, "00000")
    assert record is not None
    assert commits.commit(store, record) == "committed"


def test_another_recipe_is_refused_field_by_field(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "in", 1, 4)
    plan = planned(fake_recipe(), folder)
    run_here(fake_recipe(), plan, tmp_path / "out")
    before = (tmp_path / "out/plan.json").read_bytes()
    with pytest.raises(PlanMismatch) as caught:
        run_here(fake_recipe(cut=0.5), planned(fake_recipe(cut=0.5), folder), tmp_path / "out")
    assert caught.value.differences == [("recipe.engine.settings.cut", 0.0, 0.5)]
    assert (tmp_path / "out/plan.json").read_bytes() == before


def test_a_picture_more_in_a_folder_is_named_and_not_all_its_neighbours(tmp_path: Path) -> None:
    recipe = replace(fake_recipe(), source=part(SOURCES, "folder", pictures_per_shard=300))
    for number in range(200):
        (tmp_path / f"{number:03d}.jpg").write_bytes(b"x")
    before = planned(recipe, tmp_path)
    (tmp_path / "000a.jpg").write_bytes(b"y")
    after = planned(recipe, tmp_path)
    store = Store(str(tmp_path / "out"))
    plans.enter(store, before)
    with pytest.raises(PlanMismatch) as mismatch:
        plans.enter(store, after)
    names = [name.rpartition("/")[2] for name, _, _ in mismatch.value.differences]
    assert names == ["inputs.pictures-00000.etag", "000a.jpg", "inputs.pictures-00000.size"]


def test_a_shard_more_in_the_input_is_another_plan(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "in", 1, 4)
    run_here(fake_recipe(), planned(fake_recipe(), folder), tmp_path / "out")
    make_shards(folder, 2, 4)
    with pytest.raises(PlanMismatch, match=r"inputs\.00001"):
        run_here(fake_recipe(), planned(fake_recipe(), folder), tmp_path / "out")


def test_a_shard_that_vanished_is_committed_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    recipe = fake_recipe()
    folder = make_shards(tmp_path / "in", 2, 4)
    plan = planned(recipe, folder)
    (folder / "00000.tar").unlink()
    done = run_here(recipe, plan, tmp_path / "out")
    assert [(each.reason, each.counts["read"]) for each in done] == [("source_missing", 0), (None, 4)]


def test_a_shard_that_changed_since_it_was_planned_is_not_mixed(tmp_path: Path) -> None:
    recipe = fake_recipe()
    folder = make_shards(tmp_path / "in", 1, 4)
    plan = planned(recipe, folder)
    data = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").unlink()
    (folder / "00000.tar").write_bytes(data)
    done = run_here(recipe, plan, tmp_path / "out")
    assert (done[0].reason, done[0].counts["read"]) == ("source_changed", 0)


def test_a_manifest_names_its_parent_and_grows(tmp_path: Path) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 2, 4))
    run_here(recipe, plan, tmp_path / "out", shards=["00001"])
    store = Store(str(tmp_path / "out"))
    first = manifest.latest(store)
    assert first is not None and not first.complete
    run_here(recipe, plan, tmp_path / "out", shards=["00000"])
    second = manifest.latest(store)
    assert second is not None and second.complete and second.parent == first.sha256
    assert [shard for shard, _ in second.shards] == ["00000", "00001"]
    assert manifest.publish(store, plan, "test") == second


def test_a_parquet_ledger_comes_back_as_it_went(tmp_path: Path) -> None:
    rows = [
        ledger.Row(source_shard="s", key="a", member_offset=None, outcome="captioned", caption="Ein Käfer 漢字 🙂."),
        ledger.Row(source_shard="s", key="b", member_offset=5, outcome="filtered", signals={"x": 1.0}, words=3),
    ]
    assert ledger.from_parquet(ledger.to_parquet(rows)) == rows
    assert ledger.to_parquet(rows) == ledger.to_parquet(rows)


def test_the_digest_does_not_depend_on_order_but_on_every_row() -> None:
    a = ledger.Row(source_shard="s", key="a", member_offset=0, outcome="captioned", caption="one")
    b = ledger.Row(source_shard="s", key="b", member_offset=1, outcome="rejected", caption="two")
    assert ledger.digest([a, b]) == ledger.digest([b, a]) != ledger.digest([a])
    assert ledger.add_digests([ledger.digest([a]), ledger.digest([b])]) == ledger.digest([a, b])


def test_journal_writes_are_bounded_by_the_pace(tmp_path: Path) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 20))
    store = Store(str(tmp_path / "out"))
    sizes: list[int] = []
    real = journal.encode

    def counting(run_id: str, entries: list[journal.Entry]) -> bytes:
        sizes.append(len(entries))
        return real(run_id, entries)

    journal.encode = counting
    try:
        run_here(recipe, plan, tmp_path / "out", pace=Pace(journal_every=4, journal_seconds=1e9))
    finally:
        journal.encode = real
    # Who is judged while a piece is being written goes into the next one, however many they are.
    assert sum(sizes) == 19 and len(sizes) >= 2, "all but what a header decides, in pieces"
    assert store.names("journal/") == []


@pytest.mark.parametrize(
    "keys", [(), ("a", "b/c"), ("n" * 140, "ü" * 130, "d/" * 60 + "e")], ids=["none", "two", "long"]
)
def test_a_tar_is_byte_for_byte_what_webdatasets_own_writer_makes(keys: tuple[str, ...]) -> None:
    samples = [{"jpg": b"pixels" * number, "json": b"{}", "txt": key.encode()} for number, key in enumerate(keys)]
    ours, theirs = io.BytesIO(), io.BytesIO()
    tar = open_tar(ours)
    writer = webdataset.TarWriter(theirs, mtime=0, user="", group="", encoder=False, compress=False)
    for key, parts in zip(keys, samples, strict=True):
        add_sample(tar, key, parts)
        writer.write({"__key__": key, **parts})
    tar.close()
    writer.close()
    assert ours.getvalue() == theirs.getvalue()
    read = list(webdataset.tariterators.tar_file_iterator(io.BytesIO(ours.getvalue())))
    assert len(read) == 3 * len(keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreaksOff(Datacomp):
    """DataComp whose store stops giving bytes behind the 16th sample, when their captions have come."""

    def read(self, shard: ShardInput, open_blob: OpenBlob) -> Any:
        return _BreakingOff(Datacomp.read(self, shard, open_blob))


@dataclass(slots=True)
class _BreakingOff:
    reading: Any

    @property
    def account(self) -> Any:
        return self.reading.account

    def __iter__(self) -> Iterator[Any]:
        yield from islice(self.reading, 16)
        time.sleep(1.0)
        raise SourceError("source_changed", "another object has its name now")


def test_an_input_that_changes_behind_its_first_captions_is_committed_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 20))
    monkeypatch.setitem(SOURCES, recipe.source.name, f"{__name__}:BreaksOff")
    done = run_here(recipe, plan, tmp_path / "out")
    assert (done[0].reason, done[0].counts["read"]) == ("source_changed", 0)
    (tar,) = (tmp_path / "out/data").glob("*.tar")
    assert not list(webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False))


@pytest.mark.parametrize("room", [1, 4])
def test_a_sample_that_breaks_our_code_gives_all_of_its_shards_places_back(tmp_path: Path, room: int) -> None:
    recipe = fake_recipe(seconds=0.2)
    recipe = replace(recipe, engine=part(ENGINES, "fake", seconds=0.2, buggy=0.3), filters=(), screens=())
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 40))
    gate = Gate(room=lambda: room, max_bytes=2**29)

    async def scenario() -> None:
        async with line_of(recipe, plan, Store(str(tmp_path / "out")), gate=gate) as line:
            for _ in range(6):
                async with asyncio.timeout(60):
                    with pytest.raises(ArithmeticError):
                        await caption_shard(plan.inputs[0], line)
                assert (gate.samples, gate.bytes) == (0, 0)

    asyncio.run(scenario())

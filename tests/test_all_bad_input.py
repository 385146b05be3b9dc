"""Every bad tar, bad picture and hostile caption in one run: each has its reason, and all that is good is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from captioner.engines import ENGINES
from captioner.filters import FILTERS
from captioner.registry import part
from pipelines.caption_shard import Done
from shards import commits, ledger
from shards.pack import Packed, pack, tar_of
from shards.sources import SOURCES
from shards.store import Store
from tests.bad_tars import BAD_TARS, MOST_MEMBER_BYTES, BadTar
from tests.captions import HOSTILE, PROMPT
from tests.corpora import fake_recipe, picture, planned, run_here
from tests.pictures import BAD_PICTURES, made
from tests.processes import datacomp, recap, run

ENGINE = '''
"""An engine that says what a file tells it to, by the media's hash."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from captioner.types import Caption, CaptionRequest

@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    MODEL: ClassVar[str] = "told"
    REVISION: ClassVar[str] = "1"
    SLOTS: ClassVar[int] = 8
    answers: str = ""

    async def __aenter__(self): return self
    async def __aexit__(self, *exc): return None

    async def caption(self, request: CaptionRequest) -> Caption:
        told = json.loads(Path(self.answers).read_text())
        honest = "A field of smooth colours, without any thing in it."
        return Caption(text=told.get(request.media_sha256, honest), finish_reason="stop")
'''


@dataclass(slots=True, kw_only=True)
class Run:
    """What one run over everything left behind."""

    out: Path
    inputs: Path
    done: dict[str, Done]
    rows: dict[str, list[ledger.Row]] = field(default_factory=dict)

    def of(self, shard: str) -> list[ledger.Row]:
        if shard not in self.rows:
            store = Store(str(self.out))
            record = commits.read(store, shard)
            assert record is not None
            tables = [file.name for file in record.files if file.name.endswith(".parquet")]
            self.rows[shard] = [row for name in tables for row in ledger.from_parquet(store.read(name))]
        return self.rows[shard]


def hostile_pictures() -> list[Packed]:
    """A good picture for every hostile caption."""
    return [Packed(key=f"{n:05d}", extension="jpg", media=picture(20_000 + n)) for n in range(len(HOSTILE))]


def write_inputs(folder: Path) -> None:
    """One tar a bad tar, one of bad pictures and one of good pictures that are answered badly."""
    folder.mkdir()
    for bad in BAD_TARS:
        (folder / f"{bad.name}.tar").write_bytes(bad.make())
    pictures = (Packed(key=f"{n:05d}", extension="jpg", media=made(bad)) for n, bad in enumerate(BAD_PICTURES))
    (folder / "bad-pictures.tar").write_bytes(tar_of(pictures))
    (folder / "hostile-captions.tar").write_bytes(tar_of(hostile_pictures()))
    pack(Store(str(folder)), [Packed(key=f"{n:05d}", extension="jpg", media=picture(n)) for n in range(20)], 20)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The line over all of it, with an engine that answers as it is told."""
    folder = tmp_path_factory.mktemp("bad")
    write_inputs(folder / "in")
    told = {
        hashlib.sha256(each.media).hexdigest(): text
        for each, (text, _) in zip(hostile_pictures(), HOSTILE, strict=True)
    }
    (folder / "answers.json").write_text(json.dumps(told))
    (folder / "told_engine.py").write_text(ENGINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setitem(ENGINES, "told", "told_engine:Told")
        recipe = replace(
            fake_recipe(),
            source=part(SOURCES, "datacomp", max_member_bytes=MOST_MEMBER_BYTES),
            engine=part(ENGINES, "told", answers=str(folder / "answers.json")),
            model="told",
            filters=tuple(part(FILTERS, name, **({"prompt": PROMPT} if name == "echo" else {})) for name in FILTERS),
        )
        plan = planned(recipe, folder / "in")
        os.utime(folder / "in/changed.tar", ns=(1, 1))  # another object than the planned one
        done = run_here(recipe, plan, folder / "out")
    return Run(out=folder / "out", inputs=folder / "in", done={each.shard: each for each in done})


@pytest.mark.parametrize("bad", BAD_TARS, ids=lambda bad: f"{bad.case}: {bad.name}")
def test_a_bad_tar_gives_its_reasons_and_its_good_pictures(bad: BadTar, everything: Run) -> None:
    rows = everything.of(bad.name)
    assert Counter(row.reason for row in rows if row.outcome != "captioned") == Counter(bad.rows)
    assert sum(row.outcome == "captioned" for row in rows) == bad.captioned
    record = commits.read(Store(str(everything.out)), bad.name)
    assert record is not None and tuple(record.input["flags"]) == bad.flags


def test_every_bad_picture_gives_its_reason(everything: Run) -> None:
    found = {row.key: row.reason for row in everything.of("bad-pictures")}
    assert found == {f"{n:05d}": bad.reason for n, bad in enumerate(BAD_PICTURES)}


def test_every_hostile_caption_gives_its_reason_and_is_kept_for_later(everything: Run) -> None:
    rows = sorted(everything.of("hostile-captions"), key=lambda row: row.key)
    assert [row.reason for row in rows] == [reason for _, reason in HOSTILE]
    assert {row.outcome for row in rows} == {"rejected"} and len(rows) >= 60


def test_every_good_sample_among_them_is_captioned(everything: Run) -> None:
    assert all(row.outcome == "captioned" for row in everything.of("00000"))
    counts = Counter[str]()
    for done in everything.done.values():
        counts.update(done.counts)
    assert counts["captioned"] == 20 + sum(bad.captioned for bad in BAD_TARS)
    assert counts["read"] == sum(counts[name] for name in counts if name != "read")


def test_the_corpus_verifies_and_says_that_not_all_is_well(everything: Run) -> None:
    verified = recap("verify", str(everything.out), "--json", "--no-input")
    verdict = json.loads(verified.stdout)
    assert (verified.returncode, verdict["problems"]) == (1, [])


def test_a_run_over_all_of_it_as_a_user_starts_it_ends_with_exit_1(everything: Run, tmp_path: Path) -> None:
    options = ("--source.max-member-bytes", str(MOST_MEMBER_BYTES))
    finished = run(*datacomp(everything.inputs, tmp_path / "out", *options))
    assert finished.returncode == 1, finished.stderr[-2000:]
    verdict = json.loads(recap("verify", str(tmp_path / "out"), "--json").stdout)
    # The fake engine has a caption for every picture that reaches it; nothing is wrong with the "changed" tar here.
    assert verdict["problems"] == []
    assert verdict["totals"]["counts"]["captioned"] == 20 + len(HOSTILE) + 1 + sum(bad.captioned for bad in BAD_TARS)

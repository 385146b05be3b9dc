"""A new filter, engine, source or export format is one file and one line in its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from captioner.engines import ENGINES
from captioner.errors import UnknownPart
from captioner.filters import FILTERS, SCREENS
from captioner.registry import build, part
from pipelines.cli import recap
from pipelines.options import options_class, recipe_from
from pipelines.recap_datacomp import DATACOMP
from shards import commits, ledger
from shards.formats import FORMATS
from shards.sources import SOURCES
from shards.store import Store
from tests.corpora import fake_recipe, make_shards, planned, run_here, with_filter

FILTER = '''
"""Captions that name a colour are dropped."""
from collections.abc import Mapping
from dataclasses import dataclass
from captioner.types import Caption, Sample

@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    word: str = "red"

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        return "colourful" if self.word in caption.text else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        return {"colour.words": float(caption.text.count(self.word))}
'''

ENGINE = '''
"""An engine that counts bytes."""
from dataclasses import dataclass
from typing import ClassVar
from captioner.presets import preset
from captioner.recipe import Asking
from captioner.types import Caption, CaptionRequest

@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    MODEL: ClassVar[str] = "counting"
    REVISION: ClassVar[str] = "1"
    SLOTS: ClassVar[int] = 4
    ASKING: ClassVar[Asking] = preset("fake")

    async def __aenter__(self): return self
    async def __aexit__(self, *exc): return None

    async def caption(self, request: CaptionRequest) -> Caption:
        width, height = request.images[0].width, request.images[0].height
        return Caption(text=f"A picture of {width} by {height} pixels, seen by nobody.", finish_reason="stop")
'''

SOURCE = '''
"""A dataset whose captions stand in a field of their own."""
from dataclasses import dataclass
from shards.blob import open_planned
from shards.samples import TarReading
from shards.sources.tars import plan_tars

@dataclass(frozen=True, slots=True, kw_only=True)
class Titled:
    def plan(self, listing):
        return plan_tars(listing)

    def read(self, shard, open_blob):
        return TarReading(open_planned(shard, open_blob), shard=shard.shard, take=shard.take, meta_of=meta)

def meta(text, sidecar):
    return {"caption": (sidecar or {}).get("uid"), "sidecar": sidecar}
'''

FORMAT = '''
"""Captions alone, one a line."""
from dataclasses import dataclass

@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """`captions.txt`, for a language model."""
    clips = True
    question: str = ""

    def write(self, samples, to):
        to.create("captions.txt", "".join(f"{self.question}{each.caption}\\n" for each in samples).encode())
'''


@pytest.fixture
def part_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path / "parts"))
    (tmp_path / "parts").mkdir()
    return tmp_path / "parts"


def rows_of(out: Path) -> list[ledger.Row]:
    store = Store(str(out))
    record = commits.read(store, "00000")
    assert record is not None
    return ledger.from_parquet(store.read(record.files[1].name))


def test_a_new_filter_is_one_file_and_one_line(
    tmp_path: Path, part_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part_file / "colour_filter.py").write_text(FILTER)
    monkeypatch.setitem(FILTERS, "colour", "colour_filter:Colour")
    recipe = with_filter(fake_recipe(), part(FILTERS, "colour", word="bicycle"))
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 20)), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    dropped = [row for row in rows if row.outcome == "rejected"]
    assert dropped and all(row.reason == "colourful" and "bicycle" in (row.caption or "") for row in dropped)
    assert all("colour.words" in (row.signals or {}) for row in rows if row.caption)


def test_a_new_engine_is_one_file_and_one_line(
    tmp_path: Path, part_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part_file / "counting_engine.py").write_text(ENGINE)
    monkeypatch.setitem(ENGINES, "counting", "counting_engine:Counting")
    recipe = replace(fake_recipe(), engine=part(ENGINES, "counting"), model="counting")
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 4)), tmp_path / "out")
    assert rows_of(tmp_path / "out")[0].caption == "A picture of 532 by 532 pixels, seen by nobody."


def test_a_new_engine_is_on_the_command_line_at_once(part_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part_file / "counting_cli_engine.py").write_text(ENGINE)
    monkeypatch.setitem(ENGINES, "counting", "counting_cli_engine:Counting")
    arguments = ["--input", "in", "--output", "out", "--engine", "counting"]
    recipe = recipe_from(DATACOMP, tyro.cli(options_class(DATACOMP), args=arguments))
    assert (recipe.engine.name, recipe.model) == ("counting", "counting")


def test_a_new_source_is_one_file_and_one_line(
    tmp_path: Path, part_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part_file / "titled_source.py").write_text(SOURCE)
    monkeypatch.setitem(SOURCES, "titled", "titled_source:Titled")
    recipe = replace(fake_recipe(), source=part(SOURCES, "titled"))
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 4)), tmp_path / "out")
    assert rows_of(tmp_path / "out")[3].original_caption == f"{3:032x}"


def test_a_new_format_is_one_file_and_one_line(
    tmp_path: Path, part_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (part_file / "lines_format.py").write_text(FORMAT)
    monkeypatch.setitem(FORMATS, "lines", "lines_format:Lines")
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 4)), tmp_path / "out")
    arguments = ["export", str(tmp_path / "out"), "--format", "lines", "--to", str(tmp_path / "to"), "--question", "Q "]
    assert recap(arguments) == 0 and "exported" in capsys.readouterr().out
    lines = (tmp_path / "to/captions.txt").read_text().splitlines()
    assert lines == [f"Q {row.caption}" for row in rows_of(tmp_path / "out") if row.outcome == "captioned"]


def test_an_unknown_part_or_setting_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(UnknownPart, match=r"no 'lenght' here; there is .*length.*did you mean 'length'"):
        part(FILTERS, "lenght")
    with pytest.raises(UnknownPart, match=r"'length' has no setting 'min_word'; there is .*min_words"):
        part(FILTERS, "length", min_word=3)


@pytest.mark.parametrize(
    "table", [SCREENS, FILTERS, ENGINES, SOURCES], ids=["screens", "filters", "engines", "sources"]
)
def test_every_part_of_a_table_is_there_and_its_defaults_build(table: dict[str, str]) -> None:
    for name in table:
        made = part(table, name)
        assert build(table, name, made.settings) == build(table, name, {})
        assert made.version >= 1

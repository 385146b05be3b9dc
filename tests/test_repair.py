"""Damage is named, moved aside only when asked to, and done again by the same command; never in silence."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from captioner.errors import CorruptState, Refused
from captioner.filters import FILTERS
from captioner.recipe import Recipe
from captioner.registry import part
from pipelines.keeping import GcCommand, RepairCommand
from shards import commits, manifest, repair
from shards.plan import Plan
from shards.status import status
from shards.store import Store
from shards.verify import verify
from tests.corpora import fake_recipe, make_shards, planned, run_here, with_filter
from tests.kills import answers
from tests.processes import recap

Run = tuple[Recipe, Plan, Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of three shards."""
    folder = tmp_path_factory.mktemp("repair")
    recipe = fake_recipe(looping=0.2)
    plan = planned(recipe, make_shards(folder / "in", 3, 10))
    run_here(recipe, plan, folder / "out")
    return recipe, plan, folder / "out"


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """A copy of it."""
    recipe, plan, out = finished
    return recipe, plan, Path(shutil.copytree(out, tmp_path / "out"))


def hurt(path: Path) -> bytes:
    """Turn one digit of a JSON file into another; the bytes as they are then."""
    data = path.read_bytes()
    at = data.index(b'"read":') + 7
    path.write_bytes(data[:at] + (b"8" if data[at : at + 1] != b"8" else b"7") + data[at + 1 :])
    return path.read_bytes()


@pytest.mark.parametrize("command", [GcCommand, RepairCommand])
def test_a_names_brackets_are_no_markup_and_a_long_one_stays_whole(run: Run, command: Any) -> None:
    _, _, out = run
    name = f"commits/[/b] {'x' * 100}.json" if command is RepairCommand else "data/[/b] [red]x.tar"
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"")
    command_line = {"older_than_hours": 0.0} if command is GcCommand else {}
    console = Console(file=io.StringIO(), width=80)
    command(out=str(out), **command_line).run(console)
    assert name in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_name_that_the_terminal_cannot_spell_is_escaped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, out = run
    (out / "data/ü.tar").write_bytes(b"")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said = recap("gc", str(out), "--older-than-hours", "0")
    assert said.returncode == 0 and "data/\\xfc.tar" in said.stdout, said.stderr


def test_damaged_records_and_manifests_are_all_named(run: Run) -> None:
    _, _, out = run
    assert repair.damage(Store(str(out))) == []
    assert recap("repair", str(out)).returncode == 0
    hurt(out / "commits/00000.json")
    (out / "commits/00002.json").write_bytes(b"")
    hurt(out / "manifests/000001.json")
    said = recap("repair", str(out))
    assert said.returncode == 4
    names = ["commits/00000.json", "commits/00002.json", "manifests/000001.json"]
    assert [each.name for each in repair.damage(Store(str(out)))] == names
    assert all(f"damaged {name}" in said.stdout for name in names)


def test_a_requeued_shard_is_done_again_by_the_same_run_and_the_damaged_record_is_kept(run: Run) -> None:
    recipe, plan, out = run
    store, before = Store(str(out)), answers(out)
    damaged = hurt(out / "commits/00001.json")
    with pytest.raises(CorruptState, match=r"commits/00001\.json"):
        run_here(recipe, plan, out)
    said = recap("repair", str(out), "--requeue", "00001")
    assert said.returncode == 0, said.stderr
    kept = store.names("damaged/")
    assert len(kept) == 1 and store.read(kept[0]) == damaged
    assert status(store).committed == 2 and status(store).totals["counts"]["read"] == 20
    run_here(recipe, plan, out)
    verdict = verify(store)
    assert verdict.complete and not verdict.problems and not verdict.notes
    assert answers(out) == before
    newest = manifest.latest(store)
    assert newest is not None and newest.number == 2 and newest.totals["counts"]["read"] == 30
    run_here(recipe, plan, out)
    assert manifest.numbers(store) == [1, 2]


def test_a_shard_whose_data_rotted_can_be_requeued_too(run: Run) -> None:
    recipe, plan, out = run
    store = Store(str(out))
    record = commits.read(store, "00002")
    assert record is not None
    tar = out / record.files[0].name
    tar.write_bytes(tar.read_bytes().replace(b"JFIF", b"JFIX", 1))
    assert verify(store).exit_code == 4
    repair.requeue(store, "00002")
    run_here(recipe, plan, out)
    assert not verify(store).problems


@pytest.mark.parametrize("outcome", ["failed", "rejected"])
def test_a_shard_with_captions_that_came_out_badly_can_be_made_anew(tmp_path: Path, outcome: str) -> None:
    strict = with_filter(fake_recipe(), part(FILTERS, "length", min_words=900))
    recipe, store = fake_recipe(refused=0.3) if outcome == "failed" else strict, Store(str(tmp_path / "out"))
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 10))
    run_here(recipe, plan, tmp_path / "out")
    before = commits.read(store, "00000")
    assert before is not None and before.counts[outcome] > 0
    repair.requeue(store, "00000")
    (done,) = run_here(recipe, plan, tmp_path / "out")
    after = commits.read(store, "00000")
    assert after is not None and after.attempt != before.attempt and done.from_journal == 0
    assert not verify(store).problems and verify(store).complete


def test_a_damaged_manifest_is_set_aside_and_its_number_never_given_again(run: Run) -> None:
    recipe, plan, out = run
    store = Store(str(out))
    hurt(out / "manifests/000001.json")
    with pytest.raises(CorruptState, match=r"manifests/000001\.json"):
        run_here(recipe, plan, out)
    repair.requeue(store, "manifests/000001.json")
    run_here(recipe, plan, out)
    assert manifest.numbers(store) == [2]
    assert not verify(store).problems and verify(store).complete


@pytest.mark.parametrize(
    ("what", "said"),
    [("00000", "is not damaged"), ("nope", "is not damaged"), ("manifests/000001.json", "is not damaged"),
     ("plan.json", "restore it")],
)  # fmt: skip
def test_what_is_sound_never_moves(run: Run, what: str, said: str) -> None:
    _, _, out = run
    before = Store(str(out)).names()
    with pytest.raises(Refused, match=said):
        repair.requeue(Store(str(out)), what)
    assert Store(str(out)).names() == before


def test_a_damaged_plan_is_named(run: Run) -> None:
    _, _, out = run
    value = json.loads((out / "plan.json").read_bytes())
    (out / "plan.json").write_text(json.dumps(value, indent=1))
    assert [each.name for each in repair.damage(Store(str(out)))] == ["plan.json"]
    assert recap("repair", str(out)).returncode == 4


def test_a_shard_that_was_missing_by_mistake_is_done_again_on_request(tmp_path: Path) -> None:
    recipe, folder = fake_recipe(), make_shards(tmp_path / "in", 2, 8)
    plan = planned(recipe, folder)
    run_here(recipe, plan, tmp_path / "whole")
    (folder / "00001.tar").rename(tmp_path / "away.tar")
    assert [done.reason for done in run_here(recipe, plan, tmp_path / "out")] == [None, "source_missing"]
    (tmp_path / "away.tar").rename(folder / "00001.tar")
    store = Store(str(tmp_path / "out"))
    with pytest.raises(Refused, match="not damaged"):
        repair.requeue(store, "00000")
    repair.requeue(store, "00001")
    run_here(recipe, plan, tmp_path / "out", shards=["00001"])
    verdict = verify(store)
    assert verdict.complete and not verdict.problems and not verdict.notes
    assert answers(tmp_path / "out") == answers(tmp_path / "whole")

"""Verify finds every flipped bit and every lie that a corpus can tell, names its check, and never falls over."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards import commits, manifest
from shards.commits import Record
from shards.store import Store
from shards.verify import verify
from tests import bitrot
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.lies import LIES, Corpus


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus of three shards of six."""
    return bitrot.corpus(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def corpus(sound: Path, tmp_path: Path) -> Corpus:
    """A copy for one test; its input stays where it was."""
    return Corpus(Path(shutil.copytree(sound, tmp_path / "out")))


def test_a_sound_corpus_is_clean(corpus: Corpus) -> None:
    verdict = corpus.verify()
    assert (verdict.exit_code, verdict.problems, verdict.notes, verdict.complete) == (0, [], [], True)
    assert verdict.checked["input samples"] == verdict.checked["rows"] == 18


def test_every_one_of_a_hundred_flipped_bits_is_found_and_its_file_named(corpus: Corpus) -> None:
    missed = [flip for flip in bitrot.flips(corpus.out, 100, random.Random(1)) if not (flip.found and flip.named)]
    assert missed == []


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_with_all_its_hashes_right_is_found_by_its_check(corpus: Corpus, lie: Callable[[Corpus], None]) -> None:
    lie(corpus)
    verdict = corpus.verify()
    assert {problem.check for problem in verdict.problems} == LIES[lie], verdict.problems
    assert verdict.exit_code == 4


@pytest.mark.parametrize("value", [None, -1, 1.5, "x", "\ud800", [], [[]], {}, {"x": None}, float("nan"), 10**400])
def test_nonsense_under_a_right_seal_is_a_problem_and_never_an_exception(corpus: Corpus, value: Any) -> None:
    places = [("commits/00000.json", field.name) for field in dataclasses.fields(Record)]
    places += [("manifests/000002.json", field.name) for field in dataclasses.fields(manifest.Manifest)]
    places += [("commits/00000.json", f"input.{name}") for name in ("account", "bytes_read", "size", "take", "etag")]
    places += [("plan.json", name) for name in ("recipe", "inputs", "versions")]
    for name, place in places:
        path = corpus.out / name
        kept = path.read_bytes()
        path.write_bytes(sealed_nonsense(json.loads(kept), place, value))
        harmless = place in ("epoch", "tool") or path.read_bytes() == kept  # nothing hangs on these two
        assert corpus.verify(read_input=False).exit_code == 4 or harmless, (name, place)
        path.write_bytes(kept)


def sealed_nonsense(value: dict[str, Any], place: str, nonsense: Any) -> bytes:
    """The object with nonsense in one place and, where its JSON can be hashed at all, the seal made right."""
    above, _, name = place.rpartition(".")
    (value[above] if above else value)[name] = nonsense
    if "sha256" in value and place != "sha256":
        del value["sha256"]
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        value["sha256"] = commits.sha256_of(text.encode("utf-8", "replace"))
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n" * ("sha256" in value)


@pytest.mark.parametrize("name", ["plan.json", "commits/00001.json", "manifests/000001.json"])
@pytest.mark.parametrize("data", [b"", b"null", b"[" * 100_000, b'{"files": 1}', b"\xff\xfe", b"0"])
def test_what_is_no_state_at_all_is_a_problem_of_its_file(corpus: Corpus, name: str, data: bytes) -> None:
    (corpus.out / name).write_bytes(data)
    verdict = corpus.verify(read_input=False)
    assert verdict.exit_code == 4 and name in {problem.where for problem in verdict.problems}


def test_strange_names_among_the_manifests_are_not_manifests(corpus: Corpus) -> None:
    for name in ("1.json", "0000002.json", "²²²²²².json", "000009.json.tmp"):
        (corpus.out / "manifests" / name).write_bytes(b"{}")
    assert corpus.verify().exit_code == 0


def test_an_unfinished_run_is_sound_and_exits_1(corpus: Corpus) -> None:
    (corpus.out / "commits/00002.json").unlink()
    (corpus.out / manifest.name_of(2)).unlink()
    verdict = corpus.verify()
    assert (verdict.exit_code, verdict.problems, verdict.complete) == (1, [], False)
    assert any("1 shards have no record yet" in note for note in verdict.notes)


def test_litter_of_killed_attempts_is_no_damage(corpus: Corpus) -> None:
    (corpus.out / f"data/00000-{'0' * 32}.tar").write_bytes(b"half")
    (corpus.out / f"journal/00000-{'0' * 32}").mkdir(parents=True)
    (corpus.out / f"journal/00000-{'0' * 32}/000001.jsonl").write_bytes(b"half")
    verdict = corpus.verify()
    assert (verdict.exit_code, verdict.problems) == (0, [])
    assert verdict.checked["files of killed attempts, in no record"] == 1


def test_an_input_that_has_changed_since_is_a_note_as_the_corpus_is_whole(tmp_path: Path) -> None:
    recipe = fake_recipe()
    folder = make_shards(tmp_path / "in", 1, 4)
    run_here(recipe, planned(recipe, folder), tmp_path / "out")
    data = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").unlink()
    (folder / "00000.tar").write_bytes(data[:512])
    verdict = verify(Store(str(tmp_path / "out")))
    assert (verdict.exit_code, verdict.problems) == (1, [])
    assert any("source_changed" in note for note in verdict.notes)
    assert verify(Store(str(tmp_path / "out")), read_input=False).exit_code == 0

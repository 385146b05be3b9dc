"""What --input names is found whole, or the user is told what is not: nothing is left out unseen."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.errors import OutOfService, Refused
from pipelines import recaption
from pipelines.recaption import make_plan
from shards import store as stores
from shards.blob import Listed
from shards.finding import find
from shards.store import absolute
from tests.corpora import fake_recipe, make_shards, planned, run_here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tars at two depths, some with names that mean something to a shell."""
    (tmp_path / "in/old").mkdir(parents=True)
    for name in ("0.tar", "1.tar", "10.tar", "b [1].tar", "ü ü.tar", "old/2.tar"):
        (tmp_path / "in" / name).write_bytes(b"12")
    return tmp_path / "in"


def names(where: object) -> list[str]:
    return [os.path.basename(stores.local_path(each.url) or "") for each in find(str(where))]


def listed(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder.parent / "shards.txt"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_glob_is_read_as_a_shell_reads_it(folder: Path) -> None:
    assert names(f"{folder}/*.tar") == ["ü ü.tar", "0.tar", "1.tar", "10.tar", "b [1].tar"]
    assert names(f"{folder}/[01].tar") == ["0.tar", "1.tar"]
    assert names(f"{folder}/*/?.tar") == ["2.tar"]
    assert names(f"{folder}/**/?.tar") == ["0.tar", "1.tar", "2.tar"]
    assert len(names(f"{folder}/**")) == 6


def test_a_name_with_a_globs_marks_is_that_name_where_it_is_there(folder: Path) -> None:
    assert names(folder / "b [1].tar") == ["b [1].tar"]
    marked = folder.rename(folder.parent / "set [2024]?")
    assert len(names(marked)) == 6
    assert names(f"{marked}/[01].tar") == ["0.tar", "1.tar"]


def test_a_list_files_odd_lines_are_read_as_they_are_meant(folder: Path) -> None:
    text = f"{folder}/0.tar\r\n\r\n  \r\n  # a note\r\n{folder}/ü ü.tar\r\n{folder}/0.tar"
    assert names(listed(folder, text, "utf-8-sig")) == ["ü ü.tar", "0.tar"]


def test_a_line_that_names_nothing_is_refused_and_not_left_out(folder: Path) -> None:
    with pytest.raises(Refused, match=r"1 of its 2 lines, such as '.*gone.tar'"):
        find(str(listed(folder, f"{folder}/0.tar\n{folder}/gone.tar\n")))


def test_a_list_file_looks_at_its_own_lines_and_not_at_all_their_neighbours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each line's whole folder was listed: 2,000 lines took 108 s.
    monkeypatch.setattr(stores.Store, "listing", lambda self, prefix="": pytest.fail("a folder was listed"))
    assert names(listed(folder, f"{folder}/0.tar\n{folder}/old/2.tar\n")) == ["0.tar", "2.tar"]


def test_a_line_and_a_folder_give_one_version_of_an_object(folder: Path) -> None:
    assert find(str(listed(folder, f"{folder}/1.tar"))) == [each for each in find(str(folder)) if "/1.tar" in each.url]


def test_a_folder_that_is_called_like_a_list_file_is_a_folder(folder: Path) -> None:
    assert len(names(folder.rename(folder.parent / "set.txt"))) == 6


@pytest.mark.parametrize("where", ["", "  ", "s3:/bucket/x", "s3://", "file://host/x", "ftp://host/x", "http://[x"])
def test_what_is_no_place_is_refused(where: str) -> None:
    with pytest.raises(Refused, match="cannot open"):
        absolute(where)


def test_a_glob_of_buckets_is_no_address_of_a_machine() -> None:
    assert absolute("s3://b[ck]/x/*.tar") == "s3://b[ck]/x/*.tar"


def test_a_name_that_no_store_holds_is_named(folder: Path) -> None:
    (folder / "a\nb.tar").write_bytes(b"")
    with pytest.raises(Refused, match="a name that must change"):
        find(str(folder))
    assert names(listed(folder, f"{folder}/0.tar")) == ["0.tar"]


def test_a_loop_of_links_is_told_as_one(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    with pytest.raises(OutOfService, match="loop found"):
        find(str(folder))


def test_a_trial_goes_on_behind_a_shard_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_shards(tmp_path / "in", 3, 4)

    def lost(where: str, output: str = "") -> list[Listed]:
        found = find(where, output)
        (folder / "00000.tar").unlink()
        return found

    monkeypatch.setattr(recaption, "find", lost)
    plan = make_plan(replace(fake_recipe(), limit=5), str(folder), {"recap": "test"})
    assert [(each.shard, each.take) for each in plan.inputs] == [("00000", 5), ("00001", None), ("00002", 1)]


def test_an_input_that_holds_the_output_is_the_same_plan_when_the_run_resumes(tmp_path: Path) -> None:
    recipe, where = fake_recipe(), str(make_shards(tmp_path, 1, 3))
    out = tmp_path / "out"
    before = make_plan(recipe, where, {"recap": "test"}, str(out))
    run_here(recipe, before, out)
    assert len(planned(recipe, where).inputs) == 2, "its own corpus is found there now"
    assert make_plan(recipe, where, {"recap": "test"}, str(out)).run_id == before.run_id
    with pytest.raises(Refused, match="lies in the output"):
        make_plan(recipe, str(out), {"recap": "test"}, str(out))

"""The campaigns of `python -m tests.chaos`, in short, and that they would see what they look for."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.store import Store
from tests import chaos
from tests.chaos_page import OTHERWISE, Page, Result
from tests.chaos_race import race_in_bucket, race_on_disk
from tests.chaos_workers import judged, killed_in_bucket, killed_on_disk, zombies
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.kills import answers


def played(result: Result) -> Result:
    """A result at the end of its campaign."""
    result.ended = True
    return result


def test_workers_killed_on_disk_lose_nothing(tmp_path: Path) -> None:
    result = Result("disk")
    killed_on_disk(result, tmp_path, kills=6, seed=3, shards=8)
    assert played(result).verdict == "0 / 0 / 0 / 0", result.details
    assert result.kills == 6 and result.samples == 320 * result.rounds


def test_workers_killed_on_s3_behind_a_bad_network_lose_nothing(bucket: str, tmp_path: Path) -> None:
    result = Result("s3")
    killed_in_bucket(result, tmp_path, f"{bucket}/chaos", kills=4, seed=3, shards=5)
    assert played(result).verdict == "0 / 0 / 0 / 0", result.details
    assert result.kills == 4 and result.faults.total() >= 10 and len(result.faults) >= 4


def test_zombies_change_nothing(tmp_path: Path) -> None:
    result = Result("zombies")
    zombies(result, tmp_path, seconds=0.5, shards=6)
    assert played(result).verdict == "0 / 0 / 0 / 0", result.details


def test_of_sixteen_processes_on_each_key_one_wins_and_all_know_which(tmp_path: Path) -> None:
    result = Result("race")
    race_on_disk(result, tmp_path, writers=16, keys=10)
    assert played(result).verdict == "0 / 0 / 0 / 0", result.details
    assert result.samples == 160


def test_of_six_processes_behind_a_bad_network_one_wins_each_key(bucket: str, tmp_path: Path) -> None:
    result = Result("race")
    race_in_bucket(result, tmp_path, f"{bucket}/chaos-race", writers=6, keys=5, seed=3)
    assert played(result).verdict == "0 / 0 / 0 / 0", result.details
    assert result.faults.total() > 10


def test_a_corpus_with_a_loss_a_flipped_bit_and_a_missing_record_is_not_found_sound(tmp_path: Path) -> None:
    recipe, out = fake_recipe(), tmp_path / "out"
    plan = planned(recipe, make_shards(tmp_path / "in", 2, 10))
    run_here(recipe, plan, out)
    expected = answers(out)
    expected[("00000", "one more", "captioned", None, "text")] += 1
    tar = next((out / "data").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[1000] ^= 1
    tar.write_bytes(data)
    result = Result("damaged")
    judged(expected, str(out), result)
    assert result.wrong["lost"] == 1 and result.wrong["torn"] == 1 and not result.wrong["doubled"]
    Store(str(out)).delete(["commits/00001.json"])
    judged(expected, str(out), result)
    assert result.wrong["lost"] >= 11 and result.wrong[OTHERWISE] == 1


def test_the_page_says_what_failed_and_what_was_not_finished_and_keeps_other_campaigns(tmp_path: Path) -> None:
    page = Page(tmp_path / "page.md", command="one", names=("disk", "s3"))
    page.results["disk"] = Result("first", kills=7)
    page.results["disk"].killed(redone=65)
    page.write()
    again = Page(page.path, command="two", names=page.names)
    again.recall()
    again.results["s3"] = played(Result("second"))
    again.write()
    text = (tmp_path / "page.md").read_text()
    assert "| first | 8 | 0 | 0 | – | 65 (65.0) | 0 / 0 / 0 / 0 **NOT FINISHED** **WRONG** 1 otherwise wrong |" in text
    assert "a kill cost 65 samples, over 64" in text and "| second | 0 |" in text and "`two`" in text


def test_a_campaign_that_breaks_is_wrong_and_the_command_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    page = tmp_path / "page.md"
    # A round may take no time at all, so the first is said to hang, and its worker is not left behind.
    monkeypatch.setattr("tests.chaos_workers.ROUND_SECONDS", 0.0)
    assert chaos.main(["--only", "zombies", "--zombie-seconds", "1", "--page", str(page)]) == 1
    assert "**NOT FINISHED** **WRONG**" in page.read_text() and "not done after 0 s" in capsys.readouterr().out

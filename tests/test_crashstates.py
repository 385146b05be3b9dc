"""A power cut at any moment leaves what is sound and resumes; the short form of `python -m tests.crashstates`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crashdisk import Weakness
from tests.crashstates import DEATHS, Judge, Work, drawn, killed, recorded, resumed, traces, work


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """What an undisturbed run answers."""
    return work(tmp_path_factory.mktemp("work"))


def test_ten_thousand_states_after_a_power_cut_are_sound_and_resume_to_the_same_answers(
    job: Work, tmp_path: Path
) -> None:
    dice, judge = random.Random(1), Judge(job=job)
    for trace in traces(job, tmp_path, races=40, dice=dice, deaths=DEATHS[:4]):
        judge.watch(trace, dice, most=11_000)
    assert judge.wrong == {}
    assert len(judge.trees) >= 10_000
    assert resumed(job, drawn(judge, 40, dice), tmp_path / "resumed") == []


@pytest.mark.parametrize(
    ("weakness", "caught"),
    [
        ("no file fsync", {"torn: plan.json", "torn: commits", "a record whose tar is not there as it says"}),
        ("no folder fsync", {"a record whose tar is not there as it says", "promised, then gone or changed: commits"}),
        ("rename over", {"a manifest whose records are gone or others", "promised, then gone or changed: commits"}),
        ("record before data", {"a record whose tar is not there as it says"}),
    ],
)
def test_a_weaker_protocol_is_caught(job: Work, tmp_path: Path, weakness: Weakness, caught: set[str]) -> None:
    judge = Judge(job=job)
    judge.watch(recorded(job, tmp_path / "out", weakness), random.Random(1), most=2_000)
    assert caught <= judge.wrong.keys()


def test_folders_and_records_that_a_killed_process_left_unsynced_are_caught_unless_they_are_kept(
    job: Work, tmp_path: Path
) -> None:
    lost = Judge(job=job)
    for number, die_at in enumerate(DEATHS[:3]):
        lost.watch(killed(job, tmp_path / str(number), die_at, "own names only"), random.Random(1))
    assert lost.wrong["promised, then gone or changed: plan.json"] > 0
    assert lost.wrong["promised, then gone or changed: commits"] > 0
    assert lost.wrong["a manifest whose records are gone or others"] > 0

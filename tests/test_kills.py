"""A run killed at random points, the short form of `python -m tests.kills`."""

from __future__ import annotations

from pathlib import Path

from tests.corpora import make_shards
from tests.kills import AT_ONCE, campaign, in_turn, judge
from tests.processes import datacomp, run


def test_a_run_killed_at_random_points_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    make_shards(tmp_path / "in", 4, 40)
    assert run(*datacomp(tmp_path / "in", tmp_path / "undisturbed", *AT_ONCE)).returncode in (0, 1)
    told = campaign(tmp_path, in_turn(3), seed=7)
    assert judge(tmp_path, told) == []
    assert sum(told.kills.values()) == 3 and told.kills["driver"] == 1

"""A stage as a Ray Train job: two ranks of a local cluster train as one process does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the `train` extra")

from pipelines.recap_train import output_of
from tests.trainer.runs import alike, words
from trainer import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("spelt", [["--output", "runs/a"], ["--output=runs/a"], ["--stage", "1", "--output=runs/a"]])
def test_the_ranks_share_the_runs_folder_however_it_is_spelt(spelt: list[str]) -> None:
    assert output_of(spelt) == "runs/a"
    assert output_of(["--stage", "1"]) == "."


@pytest.mark.timeout(600)  # Ray, and torch in each of its processes: half a minute of two cores, more if they are busy
def test_two_ranks_of_a_ray_train_job_train_as_one_process_does(yard: Path, whole: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", yard / "ray")
    script = [sys.executable, "pipelines/recap_train.py", "--workers", "2", "--cpu", *told]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    environment["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"  # of 2 s, which a job of seconds waits out at each turn
    subprocess.run(script, cwd=ROOT, check=True, capture_output=True, env=environment)
    alike(yard / "ray/eve-v2-1", whole)
    newest = checkpoint.latest(yard / "ray/eve-v2-1")
    assert newest is not None and newest.told["ranks"] == 2

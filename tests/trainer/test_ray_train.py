"""A stage as a Ray Train job: two ranks of a local cluster train as one process does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the `train` extra")

from tests.trainer.runs import alike, words
from trainer import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("--stage 9", "no stage '9'; there is eve-v2-1"),
        ("--stage 1 --batch -1", "--batch -1: 0 or more would be right"),
        ("--stage 1 --output=s3://bucket/x", "checkpoints go to a disk that all ranks see"),
        ("--stage 1 --workers 0", "--workers of 1 or more"),
        ("--stage 1 --address auto --output runs", "--output runs is relative to Ray's copy"),
    ],
)
def test_wrong_words_are_refused_before_ray_starts(wrong: str, right: str, capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    from pipelines.recap_train import main

    assert main(["--data", "x", "--output", "/x", *wrong.split()]) == 2
    assert right in capsys.readouterr().err and not ray.is_initialized()
    with pytest.raises(SystemExit, match="2"):
        main(["--stage", "1", "--data", "x", "--output", "/x", "--bacth", "8"])
    assert not ray.is_initialized()


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

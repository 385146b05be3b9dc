"""A stage as a Ray Train job: two ranks of a local cluster train as one process does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the `train` extra")

from rich.console import Console

from tests.trainer import made
from trainer import commands
from trainer.meter import losses

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)  # Ray, and torch in each of its processes: half a minute of two cores, more if they are busy
def test_two_ranks_of_a_ray_train_job_train_as_one_process_does(tmp_path: Path) -> None:
    llm, out = made.language_model(tmp_path / "llm"), made.corpus(tmp_path, shards=1)
    told = ["--stage", "1", "--data", str(out), "--llm", str(llm), "--model-config", str(llm / "fields.json")]
    told += ["--precision", "fp32", "--max-side", "96", "--rows", "2", "--budget", "256", "--samples", "24"]
    script = [sys.executable, "pipelines/recap_train.py", "--workers", "2", "--cpu", *told]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run(
        [*script, "--output", str(tmp_path / "ray")], cwd=ROOT, check=True, capture_output=True, env=environment
    )
    assert commands.train([*told, "--output", str(tmp_path / "one")], Console(quiet=True)) == 0
    ours = losses(tmp_path / "ray/eve-v2-1")
    assert len(ours) > 1 and ours == pytest.approx(losses(tmp_path / "one/eve-v2-1"), abs=1e-4)

"""Options that do not fit are refused with what would be right, before anything is started or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tyro
from rich.console import Console

from captioner.errors import Refused
from pipelines.models import price_of
from pipelines.options import Dataset, options_class, recipe_from
from pipelines.preflight import plan
from pipelines.recap_clips import CLIPS
from pipelines.recap_datacomp import DATACOMP
from pipelines.recap_folder import FOLDER
from shards.plan import plan_for
from tests.corpora import make_shards


def planned(dataset: Dataset, *words: str) -> str:
    """The run id that a command line leads to, as far as one goes before it looks for inputs."""
    arguments = ["--input", "in", "--output", "out", "--engine", "fake", *words]
    options: Any = tyro.cli(options_class(dataset), args=arguments)
    price_of(options.models)
    return plan_for(recipe_from(dataset, options), [], {}).run_id


@pytest.mark.parametrize(
    ("option", "value"),
    [("--limits.decode-seconds", "inf"), ("--aspect.at-most", "1e400"), ("--fake.seconds", "nan"), ("--budget", "nan")],
)
def test_a_setting_that_is_no_finite_number_is_refused(option: str, value: str) -> None:
    with pytest.raises(Refused, match="would be right"):
        planned(DATACOMP, option, value, "--gpu-hour-price", "1", "--gpus", "1")


@pytest.mark.parametrize(("option", "value"), [("most", "3"), ("per-second", "-1")])
def test_frames_that_no_model_takes_are_refused_in_the_words_of_the_command_line(option: str, value: str) -> None:
    with pytest.raises(Refused, match=f"--frames.{option} {value}: ") as refused:
        planned(CLIPS, f"--frames.{option}", value)
    assert "FrameBudget" not in str(refused.value)


def test_a_source_of_clips_is_no_setting_of_a_recipe_for_pictures() -> None:
    with pytest.raises(Refused, match=r"recap_clips\.py clips"):
        planned(FOLDER, "--source.kind", "video")


def test_the_help_says_what_each_setting_of_frames_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(options_class(CLIPS), args=["--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--frames.reader {pyav,decord}" in said and "Frames looked at of each second" in said


@pytest.mark.parametrize(
    "words",
    [("--shards", "0"), ("--captions-per-second", "nan")],
)
def test_an_estimate_of_nothing_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    where = str(make_shards(tmp_path / "in", 1, 2))
    with pytest.raises(Refused, match="would be right"):
        plan(["datacomp", "--input", where, *words], Console())

"""`recap plan` counts what a run would read, pass and ask, and says when it cannot know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.image_tokens import image_tokens
from captioner.presets import PRESETS, preset
from captioner.types import PixelBudget
from pipelines.estimate import clip_tokens
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.processes import recap


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("plan"), 4, 20)


def told(folder: Path, *options: str) -> dict[str, object]:
    done = recap("plan", "datacomp", "--input", str(folder), "--json", *options)
    assert done.returncode == 0, done.stderr
    value: dict[str, object] = json.loads(done.stdout)
    return value


def test_a_plan_that_looks_at_every_shard_knows_what_a_run_screens(folder: Path, tmp_path: Path) -> None:
    expected = told(folder, "--engine", "fake", "--shards", "4")
    recipe = fake_recipe()
    done = run_here(recipe, planned(recipe, folder), tmp_path / "out")
    read, filtered = (sum(each.counts[name] for each in done) for name in ("read", "filtered"))
    assert expected["samples"] == read and isinstance(expected["dropped"], dict)
    assert round(read * expected["dropped"]["below_min_resolution"]) == filtered > 0
    assert expected["gpu_hours"] is None and expected["cost"] is None


def test_hours_and_cost_follow_from_the_published_speed_or_the_given_one(folder: Path) -> None:
    served = ("--engine", "vllm", "--model", "Qwen/Qwen2-VL-7B-Instruct", "--shards", "4")
    published = told(folder, *served, "--gpu-hour-price", "2")
    given = told(folder, *served, "--gpu-hour-price", "2", "--captions-per-second", "0.545")
    hours, twice = published["gpu_hours"], given["gpu_hours"]
    assert isinstance(hours, float) and isinstance(twice, float) and twice == pytest.approx(2 * hours)
    assert published["cost"] == pytest.approx(2 * hours)


def test_a_sampled_plan_scales_by_bytes_to_the_whole(folder: Path) -> None:
    whole, part = (told(folder, "--engine", "fake", "--shards", count) for count in ("4", "1"))
    assert part["bytes"] == whole["bytes"] and part["shards"] == whole["shards"] == 4
    assert isinstance(part["samples"], int) and 60 <= part["samples"] <= 100


def test_without_a_known_dataset_it_says_how_it_is_called() -> None:
    done = recap("plan", "imagenet", "--input", "x")
    assert done.returncode == 2 and "datacomp,laion,sa1b,folder" in done.stdout


def test_a_picture_of_a_megapixel_takes_the_tokens_that_qwen_counts() -> None:
    assert image_tokens(980, 980, preset("qwen2-vl").budget) == 1225


@pytest.mark.parametrize(
    ("width", "height", "tokens"), [(672, 672, 576 + 48 * 49), (336, 672, 576 + 48 * 25), (1008, 336, 576 + 24 * 73)]
)
def test_a_picture_that_fills_a_grid_of_tiles_takes_all_of_its_tokens(width: int, height: int, tokens: int) -> None:
    assert image_tokens(width, height, PixelBudget(max_pixels=672 * 672)) == tokens


def test_padding_costs_nothing() -> None:
    budget = PixelBudget(max_pixels=672 * 672)
    assert image_tokens(672, 400, budget) < image_tokens(672, 672, budget)


@pytest.mark.parametrize(("name", "tokens"), [("experts", 6 * (576 + 48 * 49)), ("qwen2-vl", 9 * 192)])
def test_a_clips_tokens_are_those_of_its_frames_as_pictures_are_counted(name: str, tokens: int) -> None:
    frames = PRESETS[name].asking.frames
    assert frames is not None
    assert clip_tokens(18.0, frames) == clip_tokens(None, frames) == tokens

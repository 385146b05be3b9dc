"""Stages are the papers' tables, and a stage decides for each tensor whether it trains."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from trainer import recipes
from trainer.recipes import STAGES
from trainer.stage import freeze, gpu_hours, group, learning_rate, trainable

TABLE = {  # samples, batch, learning rate, steps, warm-up steps
    "eve-v2-1": (10_000_000, 1024, 2e-4, 9_766, 293),
    "eve-v2-2.1a": (29_000_000, 1024, 1e-4, 28_321, 850),
    "eve-v2-2.1b": (48_000_000, 1024, 1e-4, 46_875, 1_407),
    "eve-v2-2.2": (15_000_000, 512, 2e-5, 29_297, 879),
    "eve-v2-3": (7_300_000, 512, 1e-5, 14_258, 428),
    "elva-1": (4_000_000, 256, 4e-5, 15_625, 469),
    "elva-2": (3_000_000, 256, 4e-5, 23_438, 235),
    "elva-3": (843_000, 128, 2e-5, 6_586, 66),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_stage_has_the_numbers_of_its_paper(name: str) -> None:
    stage = STAGES[name]
    assert (stage.samples, stage.batch, stage.peak_lr, stage.steps, stage.warmup_steps) == TABLE[name]


def test_every_recipe_file_is_in_the_table_and_says_what_to_expect() -> None:
    files = [path.stem for path in Path(recipes.__file__).parent.glob("*.py") if path.stem != "__init__"]
    assert len(files) == len(STAGES) == len(TABLE)
    for name in files:
        module = importlib.import_module(f"trainer.recipes.{name}")
        head = Path(module.__file__ or "").read_text().partition("from __future__")[0]
        steps, batch, warmup, hours = (
            int(number.replace(",", ""))
            for number in re.findall(
                r"Expected: ([\d,]+) .* of ([\d,]+) samples, ([\d,]+) .* about ([\d,]+) H100", head
            )[0]
        )
        stage = module.STAGE
        assert STAGES[stage.name] is stage
        assert (steps, batch, warmup) == (stage.steps, stage.batch, stage.warmup_steps)
        assert hours == round(gpu_hours(stage), -1)


def test_each_stage_follows_one_of_its_family_and_vision_copies_are_made_once() -> None:
    for stage in STAGES.values():
        assert stage.follows is None or STAGES[stage.follows].family == stage.family
    assert [stage.name for stage in STAGES.values() if stage.copies_vision] == ["eve-v2-2.1a"]


def test_the_29m_and_the_15m_are_the_44m_and_all_of_stage_2_1_is_the_77m() -> None:
    first, second = STAGES["eve-v2-2.1a"], STAGES["eve-v2-2.1b"]
    assert first.samples + second.corpora[0].samples == 44_000_000
    assert first.samples + second.samples == 77_000_000


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    stage = STAGES["eve-v2-1"]
    assert learning_rate(stage, 0) == 0
    assert learning_rate(stage, stage.warmup_steps) == stage.peak_lr
    assert learning_rate(stage, (stage.steps + stage.warmup_steps) // 2) == pytest.approx(stage.peak_lr / 2, rel=1e-3)
    assert learning_rate(stage, stage.steps) == pytest.approx(0, abs=1e-12)


def test_a_tensor_belongs_to_one_group_by_its_name() -> None:
    assert group("model.vision_tower.patch_embedding.0.weight") == "patch_embedding"
    assert group("model.vision_tower.class_embedding") == "patch_embedding"
    assert group("model.layers.3.self_attn.moe_q_proj.bias") == "vision"
    assert group("model.layers.3.moe_mlp.up_proj.weight") == "vision"
    assert group("model.layers.3.moe_input_layernorm.weight") == "vision"
    assert group("model.layers.3.mlp.up_proj.weight") == "text"
    assert group("lm_head.weight") == group("model.norm.weight") == group("model.embed_tokens.weight") == "text"
    assert group("guide.tube.weight") == "guidance"


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("eve")])
def test_one_step_changes_what_the_stage_trains_and_nothing_else(name: str) -> None:
    torch = pytest.importorskip("torch", reason="needs the `train` extra")
    from tests.trainer import tiny

    stage = STAGES[name]
    model = tiny.eve(add_moe=name != "eve-v2-1").train()
    freeze(model, stage)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=stage.peak_lr)
    ids = torch.tensor([tiny.sample(2, 2, [7, 8, 9, 10])])
    model(ids, pixel_values=[tiny.picture(2, 2)], labels=tiny.labels(ids)).loss.backward()
    optimizer.step()
    changed = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert changed == {key for key, trains in trainable(model, stage).items() if trains}
    assert {group(key) for key in changed} == set(stage.trains)


def test_a_stage_that_trains_what_is_not_there_is_refused() -> None:
    pytest.importorskip("torch", reason="needs the `train` extra")
    from tests.trainer import tiny

    with pytest.raises(ValueError, match="trains \\['vision'\\], of which this model has no tensor"):
        trainable(tiny.eve(add_moe=False), STAGES["eve-v2-2.1a"])

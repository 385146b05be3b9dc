"""What models are is told without their weights, in the papers' numbers."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the `train` extra")

from trainer.describe import describe


def test_evev2_is_as_large_as_the_paper_says() -> None:
    assert describe("eve-v2-7b") == {
        "parameters": {
            "total": 14_156_712_960,  # 14.157B
            "vision": 28 * 233_057_792,  # 6.526B
            "patch_embedding": 15_478_272,  # 15.5M
            "text": 7_615_616_512,  # Qwen2.5-7B
        }
    }


def test_the_ablations_have_the_copies_their_names_say() -> None:
    ffn, norms = 28 * 3 * 3584 * 18944, 28 * 2 * 3584
    gates = 28 * 2
    vision = {name: describe(f"eve-{name}-7b")["parameters"]["vision"] for name in ("v1.5", "norms", "v1.2", "v1.0")}  # type: ignore[index]
    assert vision == {"v1.5": ffn, "norms": norms, "v1.2": ffn * 2 // 3 + gates, "v1.0": 0}


@pytest.mark.parametrize(
    ("side", "mode", "told"),
    [
        (800, "train", {"cols": 33, "rows": 19, "patches": 627, "tokens": 647}),
        (1600, "infer", {"cols": 67, "rows": 38, "patches": 2546, "tokens": 2585}),
    ],
)
def test_a_picture_s_grid_comes_with_it(side: int, mode: str, told: dict[str, int]) -> None:
    answer = describe("eve-v2-7b", (1920, 1080), side, mode)
    assert {name: answer[name] for name in told} == told and set(answer) == {"parameters", *told}


def test_elva_has_no_copies_and_patches_of_14() -> None:
    answer = describe("elva-7b", (640, 480), 336, "longest_edge")
    assert (answer["cols"], answer["rows"], answer["tokens"]) == (24, 18, 451)
    assert answer["parameters"]["vision"] == 0  # type: ignore[index]


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no model 'eve'; there are eve-v2-7b"):
        describe("eve")

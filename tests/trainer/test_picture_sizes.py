"""Pictures come to the sizes of the released code, and are counted in tokens exactly."""

from __future__ import annotations

import pytest

from trainer.image_size import SETTINGS, grid

# (width, height): (cols, rows) of train at 800, infer at 800, train at 1600, infer at 1600
VECTORS = {
    (512, 512): [(16, 16), (25, 25), (16, 16), (50, 50)],
    (640, 480): [(20, 15), (29, 22), (20, 15), (58, 44)],
    (800, 800): [(25, 25), (25, 25), (25, 25), (50, 50)],
    (1920, 1080): [(33, 19), (34, 19), (60, 34), (67, 38)],
    (500, 2500): [(11, 56), (12, 56), (16, 78), (23, 112)],
    (48, 48): [(2, 2), (25, 25), (2, 2), (50, 50)],  # 1.5 patches: half to even
    (80, 80): [(2, 2), (25, 25), (2, 2), (50, 50)],  # 2.5 patches: half to even
}
TOKENS = {
    (512, 512): [273, 651, 273, 2551],
    (640, 480): [316, 661, 316, 2597],
    (1920, 1080): [647, 666, 2075, 2585],
    (500, 2500): [673, 729, 1327, 2689],
}
WAYS = [(800, "train"), (800, "infer"), (1600, "train"), (1600, "infer")]


@pytest.mark.parametrize("size", VECTORS)
def test_sizes_are_those_of_the_released_code(size: tuple[int, int]) -> None:
    cut = [grid(size, side, mode) for side, mode in WAYS]
    assert [(each.cols, each.rows) for each in cut] == VECTORS[size]


@pytest.mark.parametrize("size", TOKENS)
def test_tokens_count_the_start_and_each_row_s_end(size: tuple[int, int]) -> None:
    assert [grid(size, side, mode).tokens for side, mode in WAYS] == TOKENS[size]


def test_a_tall_picture_costs_more_than_the_same_one_lying() -> None:
    tall, wide = grid((500, 2500), 800), grid((2500, 500), 800)
    assert tall.patches == wide.patches and tall.tokens == wide.tokens + 45


def test_the_settings_of_figure_8_differ_where_they_should() -> None:
    cuts = {name: grid((4000, 1000), max_side, mode) for name, (mode, max_side) in SETTINGS.items()}
    assert {name: (cut.cols, cut.rows) for name, cut in cuts.items()} == {
        "fixed-area-800": (50, 12),
        "fixed-area-1600": (100, 25),
        "longest-edge-800": (25, 6),
        "longest-edge-1600": (50, 12),
        "any-resolution": (125, 31),
    }


def test_a_picture_is_never_less_than_one_patch_a_side() -> None:
    assert {grid((1, 1), 800, mode).patches for mode in ("train", "longest_edge", "any_resolution")} == {1}


def test_what_cannot_be_sized_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(ValueError, match="no mode 'crop'; there are train, infer"):
        grid((640, 480), 800, "crop")
    with pytest.raises(ValueError, match="at least 1 pixel"):
        grid((0, 480), 800)

"""ELVA: frame and line tokens, merging over time by hand-made cases, guidance, generation from a merged cache."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from tests.trainer import tiny  # noqa: E402
from trainer import merging  # noqa: E402
from trainer.elva import ELVAConfig  # noqa: E402
from trainer.guidance import Guide, Taught  # noqa: E402
from trainer.merging import NOWHERE, Tokens  # noqa: E402

EAST, NORTH, UP = torch.eye(3)


def video(frames: int, rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(frames, 3, 14 * rows, 14 * cols, generator=torch.Generator().manual_seed(seed))


def ids(frames: int, rows: int, cols: int, words: list[int]) -> list[int]:
    return [5, *[tiny.IMAGE_ID] * (frames * (1 + rows * (cols + 1))), *words]


def tokens(x_ND: list[Tensor], places: list[int], videos: list[int] | None = None) -> Tokens:
    count = torch.arange(len(places))
    return Tokens(
        x_ND=torch.stack(x_ND),
        sample_N=torch.zeros_like(count),
        position_N=count,
        place_N=torch.tensor(places),
        video_N=torch.tensor(videos or [0] * len(places)),
        weight_N=torch.ones(len(places)),
        index_N=count,
    )


def test_alike_patches_of_neighbouring_frames_become_their_mean_where_the_last_one_was() -> None:
    # Three frames of two places: place 0 stays alike, place 1 turns around in the last frame.
    x = [UP, EAST, NORTH, UP, 2 * EAST, NORTH, UP, 3 * EAST, -NORTH]
    out = merging.merge_above(tokens(x, [NOWHERE, 0, 1] * 3), 0.6)
    assert out.index_N.tolist() == out.position_N.tolist() == [0, 3, 5, 6, 7, 8]
    assert torch.equal(out.x_ND, torch.stack([UP, UP, NORTH, UP, 2 * EAST, -NORTH]))
    assert out.weight_N.tolist() == [1, 1, 2, 1, 3, 1]


def test_the_threshold_is_exclusive_and_places_do_not_mix() -> None:
    slanted = torch.tensor([0.6, 0.8, 0.0])
    same = tokens([EAST, slanted], [0, 0])
    cosine = float(merging.pairs(same)[1][0])
    assert cosine == pytest.approx(0.6)
    assert len(merging.merge_above(same, cosine).index_N) == 2
    assert len(merging.merge_above(same, 0.59).index_N) == 1
    assert len(merging.merge_above(tokens([EAST, EAST], [0, 1]), 0.6).index_N) == 2
    assert len(merging.merge_above(tokens([EAST, EAST], [NOWHERE, NOWHERE]), 0.6).index_N) == 2


def test_a_mean_of_means_is_the_mean_of_all() -> None:
    first = merging.merge_above(tokens([EAST, EAST, EAST + UP], [0, 0, 0]), 0.9)
    assert first.weight_N.tolist() == [2, 1]
    then = merging.merge_down_to(first, torch.tensor([1]))
    torch.testing.assert_close(then.x_ND[0], EAST + UP / 3)


def test_each_video_merges_its_own_most_alike_pairs_down_to_its_limit() -> None:
    def turned(degrees: float) -> Tensor:
        return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0])

    # One place each; video 0 turns by 30, 10, 20 degrees, video 1 by 1 and 2.
    x = [turned(0), turned(30), turned(40), turned(60), turned(0), turned(1), turned(3)]
    both = tokens(x, [0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1])
    assert merging.merge_down_to(both, torch.tensor([2, 3])).index_N.tolist() == [0, 3, 4, 5, 6]
    assert merging.merge_down_to(both, torch.tensor([3, 2])).index_N.tolist() == [0, 2, 3, 5, 6]
    assert merging.merge_down_to(both, torch.tensor([0, 0])).index_N.tolist() == [3, 6]  # a place keeps its last token


def test_a_video_is_frame_then_rows_each_ended_by_line_and_frames_are_alike_in_form() -> None:
    tower = tiny.elva().model.vision_tower
    two = video(2, 2, 3)
    out = tower([two])
    assert out.shape == (2 * (1 + 2 * 4), 32) and tower.tokens(two) == 18
    torch.testing.assert_close(out, torch.cat([tower([two[:1]]), tower([two[1:]])]), rtol=1e-4, atol=1e-4)
    places, videos = tower.places([two, video(1, 1, 1)])
    assert places.tolist() == [-1, 0, 1, 2, -1, 3, 4, 5, -1] * 2 + [-1, 6, -1]
    assert videos.tolist() == [0] * 18 + [1] * 3


def test_frame_looks_at_its_frame_and_line_at_its_row() -> None:
    tower = tiny.elva().model.vision_tower
    clip = video(1, 2, 3)
    other = clip.clone()
    other[:, :, 14:, :14] += 1  # the first patch of the second row
    changed = (tower([clip]) - tower([other])).abs().amax(1) > 1e-6
    assert changed.tolist() == [True, False, False, False, False, True, False, False, True]


def test_the_patch_embedding_has_the_paper_s_nine_million() -> None:
    from trainer.elva import VideoTokenizer

    with torch.device("meta"):
        tower = VideoTokenizer(ELVAConfig(hidden_size=3584, num_hidden_layers=28))
    own = sum(each.numel() for name, each in tower.named_parameters() if "projection" not in name)
    assert own == 9_003_008


def test_a_clip_of_equal_frames_merges_to_half_and_no_layout_token_goes() -> None:
    model = tiny.elva()
    still = video(1, 2, 3).repeat(4, 1, 1, 1)
    row = torch.tensor([ids(4, 2, 3, [7, 8, 9])])
    kept = model.model(row, pixel_values=[still]).kept
    places, _ = model.model.vision_tower.places([still])
    survivors = places[kept[(kept >= 1) & (kept <= len(places))] - 1]
    assert (survivors == NOWHERE).sum() == 4 * 3
    assert (survivors != NOWHERE).sum() <= 12
    assert {0, 37, 38, 39} <= set(kept.tolist())


def test_merging_in_a_packed_row_is_merging_alone() -> None:
    model = tiny.elva()
    clips = [video(4, 2, 3, 1), video(2, 1, 2, 2)]
    rows = [ids(4, 2, 3, [7, 8]), ids(2, 1, 2, [9, 10, 11])]
    packed = torch.tensor([rows[0] + rows[1]])
    positions = torch.cat([torch.arange(len(each)) for each in rows])[None]
    together = model.model(packed, position_ids=positions, pixel_values=clips)
    alone = [model.model(torch.tensor([row]), pixel_values=[clip]) for row, clip in zip(rows, clips, strict=True)]
    assert len(together.kept) < packed.shape[1]
    assert together.kept.tolist() == [*alone[0].kept.tolist(), *(alone[1].kept + len(rows[0])).tolist()]
    expected = torch.cat([each.last_hidden_state for each in alone], dim=1)
    torch.testing.assert_close(together.last_hidden_state, expected, rtol=1e-3, atol=1e-4)
    padded = torch.full((2, len(rows[0])), 0)
    padded[0], padded[1, : len(rows[1])] = torch.tensor(rows[0]), torch.tensor(rows[1])
    masked = model.model(padded, (padded != 0).long(), pixel_values=clips)
    torch.testing.assert_close(masked.last_hidden_state, expected, rtol=1e-3, atol=1e-4)


def test_the_loss_finds_its_labels_after_merging() -> None:
    model = tiny.elva()
    clip, row = video(4, 2, 3), torch.tensor([ids(4, 2, 3, [7, 8, 9])])
    logits = model(row, pixel_values=[clip]).logits[0]
    assert logits.shape[0] < row.shape[1]
    expected = F.cross_entropy(logits[-4:-1], torch.tensor([7, 8, 9]))  # the last LINE asks for the first word
    loss = model(row, pixel_values=[clip], labels=tiny.labels(row)).loss
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_generation_from_a_merged_cache_equals_generation_without(attention: str) -> None:
    model = tiny.elva()
    model.set_attn_implementation(attention)
    row = torch.tensor([ids(4, 2, 3, [7, 8])])
    options = {"pixel_values": [video(4, 2, 3)], "max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    assert torch.equal(model.generate(row, **options), model.generate(row, use_cache=False, **options))
    with pytest.raises(ValueError, match="generate one at a time"):
        model.generate(row.repeat(2, 1), **(options | {"pixel_values": [video(4, 2, 3)] * 2}))


def test_without_merging_it_is_a_plain_decoder_that_generates_in_batches() -> None:
    model = tiny.elva(merging=False)
    rows = torch.tensor([ids(2, 2, 3, [7, 8])] * 2)
    clips = [video(2, 2, 3, 1), video(2, 2, 3, 2)]
    assert model(rows, pixel_values=clips).logits.shape == (2, rows.shape[1], 64)
    options = {"pixel_values": clips, "max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    assert torch.equal(model.generate(rows, **options), model.generate(rows, use_cache=False, **options))


def test_guidance_vanishes_when_the_student_is_the_teacher_and_reaches_the_patches() -> None:
    guide = Guide(8, 8, temperature=0.07)
    with torch.no_grad():
        for linear in (guide.tube, guide.frame):
            linear.weight.copy_(torch.eye(8))
            linear.bias.zero_()
    patches, frames = torch.randn(3, 2, 4, 8), torch.eye(8)[:3]
    assert guide.tubes(patches, Taught(patches_FGGE=patches, frames_FE=frames)).item() == pytest.approx(0, abs=1e-6)
    assert guide.tubes(patches, Taught(patches_FGGE=-patches, frames_FE=frames)).item() == pytest.approx(4, abs=1e-5)
    assert guide.frames(frames, frames).item() < 1e-5 < 10 < guide.frames(frames, frames.roll(1, 0)).item()

    model = tiny.elva(merging=False, teacher_width=12).train()
    row, clip = torch.tensor([ids(2, 2, 3, [7, 8])]), video(2, 2, 3)
    taught = Taught(patches_FGGE=torch.randn(2, 5, 5, 12), frames_FE=torch.randn(2, 12))
    plain = model(row, pixel_values=[clip], labels=tiny.labels(row)).loss
    guided = model(row, pixel_values=[clip], labels=tiny.labels(row), taught=[taught]).loss
    assert guided > plain
    guided.backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.guide.parameters())
    with pytest.raises(ValueError, match="saw 1 videos of other lengths"):
        model(
            row,
            pixel_values=[clip],
            labels=row,
            taught=[Taught(patches_FGGE=torch.ones(3, 1, 1, 12), frames_FE=torch.ones(3, 12))],
        )


def test_layers_to_merge_before_must_rise_within_the_model() -> None:
    with pytest.raises(ValueError, match=r"rising layers within 1..4, not \[0, 2\]"):
        ELVAConfig(**(tiny.TINY | {"num_hidden_layers": 5, "threshold_layers": [0], "target_layers": [2]}))

"""EVEv2 as a model: its tokens, its packing, its generation, its place among Hugging Face's."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

from tests.trainer import tiny  # noqa: E402
from trainer.eve import EVEConfig, EVEForCausalLM  # noqa: E402

SAMPLES = [tiny.sample(2, 3, [7, 8, 9]), [5, 6, 7, 8, 9], tiny.sample(1, 2, [11, 12])]
PICTURES = [[tiny.picture(2, 3, 1)], [], [tiny.picture(1, 2, 2)]]
ALL_PICTURES = [*itertools.chain(*PICTURES)]
PACKED = torch.tensor([[*itertools.chain(*SAMPLES)]])
POSITIONS = torch.cat([torch.arange(len(each)) for each in SAMPLES])[None]


def test_a_picture_s_tokens_are_cls_then_rows_each_ended_by_spl() -> None:
    tower = tiny.eve().model.vision_tower
    picture = tiny.picture(2, 3)
    tokens = tower([picture])
    patches_2x3 = tower.patch_embedding(picture[None])[0].permute(1, 2, 0)
    assert tokens.shape == (1 + 2 * (3 + 1), 32) and tower.tokens(picture) == 9
    assert torch.equal(tokens[0], tower.class_embedding)
    assert torch.equal(tokens[4], tower.split_embedding) and torch.equal(tokens[8], tower.split_embedding)
    torch.testing.assert_close(tokens[1:4], patches_2x3[0], rtol=1e-4, atol=1e-4)  # a matmul equals the convolutions
    torch.testing.assert_close(tokens[5:8], patches_2x3[1], rtol=1e-4, atol=1e-4)


def test_pictures_of_different_shapes_do_not_touch_each_other() -> None:
    tower = tiny.eve().model.vision_tower
    shapes = [(2, 3), (1, 1), (3, 1)]
    pictures = [tiny.picture(*shape, seed) for seed, shape in enumerate(shapes)]
    torch.testing.assert_close(tower(pictures), torch.cat([tower([each]) for each in pictures]), rtol=1e-4, atol=1e-4)


def test_packed_samples_do_not_see_each_other() -> None:
    model = tiny.eve()
    together = model(PACKED, position_ids=POSITIONS, pixel_values=ALL_PICTURES).logits[0]
    for own, ids, pictures in zip(together.split([len(each) for each in SAMPLES]), SAMPLES, PICTURES, strict=True):
        alone = model(torch.tensor([ids]), pixel_values=pictures).logits[0]
        torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-5)
    joined = model(PACKED, pixel_values=ALL_PICTURES).logits[0]
    assert not torch.allclose(joined[-2:], together[-2:], atol=1e-2), "without the positions they do"


def test_a_packed_loss_is_that_of_its_samples() -> None:
    model = tiny.eve()
    apart = 0.0
    for ids, pictures in zip(SAMPLES, PICTURES, strict=True):
        row = torch.tensor([ids])
        apart += model(row, pixel_values=pictures, labels=tiny.labels(row), num_items_in_batch=10).loss.item()
    together = model(
        PACKED,
        position_ids=POSITIONS,
        pixel_values=ALL_PICTURES,
        labels=tiny.labels(PACKED),
        num_items_in_batch=10,
    )
    assert together.loss.item() == pytest.approx(apart, rel=1e-5)


def test_packing_with_a_mask_is_refused() -> None:
    model = tiny.eve()
    with pytest.raises(ValueError, match="go without attention_mask"):
        model(PACKED, torch.ones_like(PACKED), POSITIONS, pixel_values=ALL_PICTURES)


def test_padding_changes_nothing() -> None:
    model = tiny.eve()
    ids, pictures = SAMPLES[0], PICTURES[0]
    padded = torch.tensor([[0, 0, *ids]])
    mask = torch.tensor([[0, 0] + [1] * len(ids)])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    alone = model(torch.tensor([ids]), pixel_values=pictures).logits
    torch.testing.assert_close(model(padded, mask, positions, pictures).logits[:, 2:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_return_sequences": 2, "do_sample": True}])
def test_generation_with_a_cache_equals_generation_without(options: dict[str, object]) -> None:
    model = tiny.eve()
    rows = [[*[0] * (len(SAMPLES[0]) - len(each)), *each] for each in SAMPLES]  # padded on the left
    ids = torch.tensor(rows)
    answers = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        fixed = {"max_new_tokens": 8, "min_new_tokens": 8, "use_cache": use_cache, "do_sample": False}
        mask = (ids != 0).long()
        answers.append(model.generate(ids, attention_mask=mask, pixel_values=ALL_PICTURES, **(fixed | options)))
    assert answers[0].shape[1] == ids.shape[1] + 8
    assert torch.equal(*answers)
    assert len(set(answers[0][0, -8:].tolist())) > 1 or options, "a model that says one word proves little"


def test_the_door_says_how_many_tokens_the_pictures_make() -> None:
    model = tiny.eve()
    with pytest.raises(ValueError, match="9 image tokens in input_ids, but the pictures make 5"):
        model(torch.tensor([tiny.sample(2, 3, [7])]), pixel_values=[tiny.picture(1, 3)])
    with pytest.raises(ValueError, match=r"a picture is \(3, 32 h, 32 w\), not \(3, 40, 32\)"):
        model(torch.tensor([tiny.sample(1, 1, [7])]), pixel_values=[torch.zeros(3, 40, 32)])


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = tiny.eve()
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    again = EVEForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([SAMPLES[0]])
    assert torch.equal(again(ids, pixel_values=PICTURES[0]).logits, model(ids, pixel_values=PICTURES[0]).logits)


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny.eve().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        ids = torch.tensor([SAMPLES[0]])
        model(ids, pixel_values=PICTURES[0], labels=tiny.labels(ids)).loss.backward()
        gradients.append([value.grad for value in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_an_unknown_part_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"\['ffn'\]; there are layernorm, self_attn, mlp"):
        EVEConfig(moe_part="ffn")
    with pytest.raises(ValueError, match="leave mlp out"):
        EVEConfig(moe_part="mlp", ffn_increment=True)

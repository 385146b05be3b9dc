"""Sparse routing is the masked dense form at half its linear FLOPs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tests.trainer import tiny  # noqa: E402
from tests.trainer.dense import make_dense, route_of  # noqa: E402

BATCH = torch.tensor(
    [
        tiny.sample(2, 3, [7, 8, 9, 10, 11, 12, 13]),
        [5, 6, *tiny.sample(1, 2, [9]), *tiny.sample(1, 1, [10, 11, 12, 13, 14])],
    ]
)
PICTURES = [tiny.picture(2, 3, 1), tiny.picture(1, 2, 2), tiny.picture(1, 1, 3)]
PARTS = ["layernorm-self_attn-mlp", "mlp", "layernorm", "self_attn", "layernorm-mlp"]


def test_both_rows_of_the_batch_mix_text_and_pictures() -> None:
    assert BATCH.shape == (2, 17) and ((BATCH == tiny.IMAGE_ID).sum(1) > 0).all()


@pytest.mark.parametrize("moe_part", PARTS)
def test_routing_equals_the_masked_dense_form_in_values_and_gradients(moe_part: str) -> None:
    losses, gradients = [], []
    for model in (tiny.eve(moe_part=moe_part), make_dense(tiny.eve(moe_part=moe_part))):
        with torch.no_grad():
            torch.manual_seed(1)
            for name, value in model.named_parameters():
                if "moe_" in name:  # copies would agree whichever was taken
                    value.add_(torch.randn_like(value) * 0.3)
        loss = model(BATCH, pixel_values=PICTURES, labels=tiny.labels(BATCH)).loss
        loss.backward()
        losses.append(loss)
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    assert all(each is not None and each.abs().sum() > 0 for name, each in gradients[1].items() if "moe_" in name)
    for name, each in gradients[0].items():
        torch.testing.assert_close(each, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)


def linear_flops(layer: torch.nn.Module, x: tuple[torch.Tensor, torch.Tensor], route: object) -> int:
    """Of matmuls forward and backward; attention's own are counted apart and left out."""
    x = (x[0].requires_grad_(), x[1].requires_grad_())
    rope = (torch.ones(2, 17, 8), torch.zeros(2, 17, 8))
    with FlopCounterMode(display=False) as counter:
        text, vision = layer(*x, route, rope=rope, mask=None, cache=None)
        (text.sum() + vision.sum()).backward()
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if "mm" in str(op))


def test_routing_does_half_the_linear_flops() -> None:
    model = tiny.eve()
    sparse, dense = route_of(model, BATCH)
    x_BTD = torch.randn(2, 17, 32)
    routed = linear_flops(model.model.layers[0], sparse.split(x_BTD), sparse)
    masked = linear_flops(model.model.layers[0], dense.split(x_BTD), dense)
    weights = sum(each.numel() for name, each in model.model.layers[0].named_parameters() if "proj.weight" in name)
    assert routed == 6 * 34 * weights // 2  # forward, input's gradient, weight's: 2 each; half the weights are vision's
    assert 2 * routed == masked


def test_text_alone_never_touches_a_vision_weight() -> None:
    model = tiny.eve()
    text = torch.tensor([[5, 6, 7, 8]])
    expected = model(text).logits
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "moe_" in name or "vision_tower" in name:
                value.fill_(torch.nan)
        assert torch.equal(model(text).logits, expected)


def test_a_batch_without_pictures_still_gives_every_tensor_a_gradient() -> None:
    model = tiny.eve().train()
    text = torch.tensor([[5, 6, 7, 8]])
    model(text, labels=text).loss.backward()
    nothing = {name for name, value in model.named_parameters() if value.grad is None}
    assert not nothing, "other processes would wait for these"
    assert all(value.grad.abs().sum() == 0 for name, value in model.named_parameters() if "moe_" in name)

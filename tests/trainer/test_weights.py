"""Weights come from Qwen2 and from the released EVE, and go back to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

from accelerate import Accelerator  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from tests.trainer import tiny  # noqa: E402
from trainer.loop import clip  # noqa: E402
from trainer.stage import group  # noqa: E402
from trainer.weights import copy_for_vision, fold_increments, from_qwen2, load, save_released  # noqa: E402

TEXT = torch.tensor([[5, 6, 7, 8, 9, 10]])
MIXED = torch.tensor([tiny.sample(2, 2, [7, 8])])
EVE_ONLY = ("mm_hidden_size", "image_token_id")


def qwen2(folder: Path, **own: object) -> Qwen2ForCausalLM:
    torch.manual_seed(1)
    fields = {name: value for name, value in tiny.TINY.items() if name not in EVE_ONLY}
    model = Qwen2ForCausalLM(Qwen2Config(**(fields | own))).eval()
    model.save_pretrained(folder)
    return model


def released_names(layers: int) -> set[str]:
    """As the published checkpoint has them."""
    linear = [
        f"self_attn.{moe}{name}_proj.{kind}" for moe in ("", "moe_") for name in "qkv" for kind in ("weight", "bias")
    ]
    linear += [f"self_attn.{moe}o_proj.weight" for moe in ("", "moe_")]
    ffn = [f"{moe}mlp.{name}_proj.weight" for moe in ("", "moe_") for name in ("gate", "up", "down")]
    norms = [f"{moe}{name}_layernorm.weight" for moe in ("", "moe_") for name in ("input", "post_attention")]
    tower = [f"patch_embedding.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")]
    tower += ["class_embedding", "split_embedding"]
    return {
        *(f"model.layers.{index}.{name}" for index in range(layers) for name in (*linear, *ffn, *norms)),
        *(f"model.vision_tower.{name}" for name in tower),
        *("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"),
    }


@pytest.mark.parametrize("tied", [False, True])
def test_a_qwen2_checkpoint_says_the_same_words_as_in_transformers(tmp_path: Path, tied: bool) -> None:
    text = qwen2(tmp_path, tie_word_embeddings=tied)
    model = from_qwen2(tmp_path, torch.float32, image_token_id=tiny.IMAGE_ID, mm_hidden_size=16).eval()
    assert torch.equal(model(TEXT).logits, text(TEXT).logits)
    assert model.config.per_modality == () and (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_vision_layers_begin_as_copies_and_then_go_their_own_way(tmp_path: Path) -> None:
    text = qwen2(tmp_path)
    model = from_qwen2(tmp_path, torch.float32, image_token_id=tiny.IMAGE_ID, mm_hidden_size=16).eval()
    before = model(MIXED, pixel_values=[tiny.picture(2, 2)]).logits
    copy_for_vision(model)
    after = model(MIXED, pixel_values=[tiny.picture(2, 2)]).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    state = model.state_dict()
    assert set(state) == released_names(3)
    copies = [name for name in state if group(name) == "vision"]
    assert len(copies) == 3 * 12 and all(torch.equal(state[name], state[name.replace("moe_", "")]) for name in copies)
    with torch.no_grad():
        model.model.layers[0].moe_mlp.up_proj.weight.zero_()
    assert torch.equal(model(TEXT).logits, text(TEXT).logits), "text does not pass there"
    assert not torch.allclose(model(MIXED, pixel_values=[tiny.picture(2, 2)]).logits, before, atol=1e-3)
    with pytest.raises(ValueError, match="its own layernorm, self_attn, mlp already"):
        copy_for_vision(model)


def test_gradients_are_clipped_alike_in_whatever_order_a_model_has_its_parameters(tmp_path: Path) -> None:
    qwen2(tmp_path / "text")
    copied = from_qwen2(tmp_path / "text", torch.float32, image_token_id=tiny.IMAGE_ID, mm_hidden_size=16)
    copy_for_vision(copied)
    copied.save_pretrained(tmp_path / "eve")
    read = load(tmp_path / "eve", torch.float32)
    names = [[name for name, _ in model.named_parameters()] for model in (copied, read)]
    assert names[0] != names[1] and sorted(names[0]) == sorted(names[1])
    dice = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn = {name: torch.randn(each.shape, generator=dice) for name, each in copied.named_parameters()}
        for model in (copied, read):
            for name, parameter in model.named_parameters():
                parameter.grad = drawn[name].clone()
        assert clip(Accelerator(), copied, 1.0) == clip(Accelerator(), read, 1.0)
        theirs = dict(read.named_parameters())
        assert all(torch.equal(each.grad, theirs[name].grad) for name, each in copied.named_parameters())


def test_our_names_are_the_released_ones() -> None:
    assert set(tiny.eve().state_dict()) == released_names(3)


def test_weights_in_the_released_form_load(tmp_path: Path) -> None:
    """A folder written as the released code writes it: its names, its config with rope_theta and torch_dtype."""
    torch.manual_seed(2)
    model = tiny.eve()
    save_file({name: value.clone() for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    config = {name: value for name, value in tiny.TINY.items() if name not in ("rope_parameters", "image_token_id")}
    older = {"model_type": "eve-qwen2", "architectures": ["EVEQwen2ForCausalLM"], "rope_theta": 1e6, "add_moe": True}
    older |= {"moe_part": "layernorm-self_attn-mlp", "mm_vision_tower": "eve-anyratio-res1600-patch16"}
    older |= {"tune_MOE": True, "tune_VE": True, "tune_LLM": True, "torch_dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(config | older))
    again = load(tmp_path, torch.float32).eval()
    again.config.image_token_id = tiny.IMAGE_ID
    assert again.config.rope_parameters["rope_theta"] == 1e6
    picture = [tiny.picture(2, 2)]
    assert torch.equal(again(MIXED, pixel_values=picture).logits, model(MIXED, pixel_values=picture).logits)


def test_ours_are_written_for_the_released_code(tmp_path: Path) -> None:
    save_released(tiny.eve(), tmp_path, "eve-anyratio-res1600-patch16")
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(load_file(tmp_path / "model.safetensors")) == released_names(3)
    assert config["architectures"] == ["EVEQwen2ForCausalLM"] and config["model_type"] == "eve-qwen2"
    assert config["rope_theta"] == 1e6 and config["add_moe"] is True and config["mm_hidden_size"] == 16
    assert config["moe_part"] == "layernorm-self_attn-mlp" and config["mm_vision_tower"].startswith("eve-anyratio")
    assert load(tmp_path, torch.float32).config.per_modality == ("layernorm", "self_attn", "mlp")


def test_half_a_checkpoint_is_refused(tmp_path: Path) -> None:
    model = tiny.eve()
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["model.layers.1.moe_mlp.up_proj.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"does not fit the model.*layers.1.moe_mlp.up_proj"):
        load(tmp_path, torch.float32)


def test_a_pickled_checkpoint_is_not_opened(tmp_path: Path) -> None:
    tiny.eve().config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(OSError, match="safetensors"):
        load(tmp_path)


def test_increments_fold_into_the_weights(tmp_path: Path) -> None:
    qwen2(tmp_path)
    options = {"image_token_id": tiny.IMAGE_ID, "mm_hidden_size": 16}
    plain = from_qwen2(tmp_path, torch.float32, **options).eval()
    torch.manual_seed(4)
    model = tiny.eve(add_moe=False, ffn_increment=True)
    model.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(model(TEXT).logits, plain(TEXT).logits, rtol=1e-5, atol=1e-6)  # gates begin at 0
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.moe_up_gate.fill_(0.05)
            layer.mlp.moe_down_gate.fill_(-0.02)
    grown = model(TEXT).logits
    assert not torch.allclose(grown, plain(TEXT).logits, atol=1e-3)
    folded = fold_increments(model).eval()
    assert set(folded.state_dict()) == set(plain.state_dict())
    torch.testing.assert_close(folded(TEXT).logits, grown, rtol=1e-5, atol=1e-6)

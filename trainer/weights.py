"""Where weights come from and go to: Qwen2 checkpoints, copies for vision, the released EVE form; safetensors only."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import Qwen2Config

from captioner.errors import CorruptState
from trainer.elva import ELVAConfig, ELVAForCausalLM
from trainer.eve import EVEConfig, EVEForCausalLM
from trainer.increment import IncrementMLP

# The modules a part of `moe_part` consists of, by the module that owns them.
LAYER = {"layernorm": ("input_layernorm", "post_attention_layernorm"), "mlp": ("mlp",)}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


# What a model has that a text checkpoint has not.
FRESH = ("vision_tower.", "guide.", ".mlp.moe_")  # the last: EVEv1.2's increments


def from_qwen2(
    folder: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    config: type[EVEConfig] = EVEConfig,
    **own: object,
) -> EVEForCausalLM:
    """A local Qwen2 or Qwen2.5 checkpoint with a fresh patch embedding and no vision layers yet: stage 1.

    `config` is EVE's or ELVA's, `own` are fields of it. Raises ValueError if the checkpoint lacks a tensor or has one
    too many.
    """
    text = Qwen2Config.from_pretrained(folder, local_files_only=True).to_dict()
    for name in ("model_type", "architectures", "transformers_version", "dtype"):
        text.pop(name, None)
    return loaded(folder, config(**{**text, **own, "add_moe": False}), dtype, may_lack=FRESH)


def load(folder: str | Path, dtype: torch.dtype = torch.bfloat16, **own: object) -> EVEForCausalLM:
    """A checkpoint of EVE or ELVA, ours or released; `own` fields overrule its config's.

    Raises ValueError if a tensor is missing or unknown.
    """
    known = json.loads((Path(folder) / "config.json").read_text())
    config = ELVAConfig if known.get("model_type") == ELVAConfig.model_type else EVEConfig
    may_lack = ("guide.",) if own.get("teacher_width") else ()
    return loaded(folder, config.from_pretrained(folder, local_files_only=True, **own), dtype, may_lack)


def loaded(folder: str | Path, config: EVEConfig, dtype: torch.dtype, may_lack: tuple[str, ...] = ()) -> EVEForCausalLM:
    """Never a half-loaded model: what is fresh must be expected to be. Raises ValueError, OSError, CorruptState."""
    kind = ELVAForCausalLM if isinstance(config, ELVAConfig) else EVEForCausalLM
    how = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        # Tensors of another shape are told with the others, below.
        model, found = kind.from_pretrained(folder, config=config, dtype=dtype, ignore_mismatched_sizes=True, **how)
    except SafetensorError as error:
        raise CorruptState(f"corrupt_state: a file of {folder} is cut or damaged ({error})") from error
    missing = sorted(name for name in found["missing_keys"] if not any(part in name for part in may_lack))
    wrong = missing + sorted(found["unexpected_keys"]) + sorted(str(each) for each in found["mismatched_keys"])
    if wrong:
        raise ValueError(f"{folder} does not fit the model; missing, unknown or of another shape: {wrong[:8]}")
    return model  # type: ignore[no-any-return]


def routed(model: EVEForCausalLM, parts: tuple[str, ...]) -> Iterator[tuple[nn.Module, str]]:
    """Every (owner, name) of the decoder that `parts` give a copy."""
    for layer in model.model.layers:
        for part in parts:
            owner, names = (layer.self_attn, ATTENTION) if part == "self_attn" else (layer, LAYER[part])
            yield from ((owner, name) for name in names)


def copy_for_vision(model: EVEForCausalLM, moe_part: str = EVEConfig.moe_part) -> None:
    """Gives vision its layers, in place: each starts as the text layer is now, and trains.

    EVEv2 does it after stage 1, in which the text layers do not change. Without a part nothing is copied. Raises
    ValueError if there are copies already.
    """
    if model.config.per_modality:
        raise ValueError(f"vision has its own {', '.join(model.config.per_modality)} already")
    model.config.moe_part, model.config.add_moe = moe_part, bool(moe_part)
    for owner, name in routed(model, model.config.per_modality):
        own = copy.deepcopy(getattr(owner, name))
        setattr(owner, "moe_" + name, own.requires_grad_(True))


@torch.no_grad()
def fold_increments(model: EVEForCausalLM) -> EVEForCausalLM:
    """EVEv1.2 after training: the same function as a plain model, its increments within the weights."""
    config = copy.deepcopy(model.config)
    config.ffn_increment = False
    state = {name: value for name, value in model.state_dict().items() if ".mlp.moe_" not in name}
    for index, layer in enumerate(model.model.layers):
        if isinstance(layer.mlp, IncrementMLP):
            up, down = layer.mlp.weights()
            state |= {
                f"model.layers.{index}.mlp.{name}.weight": each for name, each in (("up_proj", up), ("down_proj", down))
            }
    plain = EVEForCausalLM(config).to(model.dtype)
    plain.load_state_dict(state)
    return plain


def save_released(model: EVEForCausalLM, folder: str | Path, vision_tower: str) -> None:
    """Saves for the released EVE code. Tensor names are the same; its config says a few things in older words.

    `vision_tower` is the folder of its preprocessor, such as openai/eve-anyratio-res1600-patch16.
    """
    model.save_pretrained(folder)
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text())
    older = {
        "architectures": ["EVEQwen2ForCausalLM"],
        "mm_vision_tower": vision_tower,
        "rope_theta": model.config.rope_parameters["rope_theta"],
        "torch_dtype": str(model.dtype).removeprefix("torch."),
    }
    path.write_text(json.dumps(config | older, indent=2, sort_keys=True) + "\n")

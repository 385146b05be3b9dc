"""What a model is, without its weights: parameters by whose they are, and the tokens of a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from trainer.elva import ELVAConfig, ELVAForCausalLM
from trainer.eve import EVEConfig, EVEForCausalLM
from trainer.image_size import Size, grid
from trainer.stage import group

# Qwen2.5-7B-Instruct and Qwen2-7B-Instruct: from their config.json, alike in all of these.
QWEN2_7B: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "pad_token_id": 151643,
}


def eve(**own: object) -> EVEForCausalLM:
    return EVEForCausalLM(EVEConfig(**(QWEN2_7B | own)))


def elva(**own: object) -> ELVAForCausalLM:
    return ELVAForCausalLM(ELVAConfig(**(QWEN2_7B | own)))


# The paper's ablation, each on the 7B decoder.
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "eve-v2-7b": lambda: eve(),
    "eve-v1.5-7b": lambda: eve(moe_part="mlp"),
    "eve-norms-7b": lambda: eve(moe_part="layernorm"),
    "eve-v1.2-7b": lambda: eve(add_moe=False, ffn_increment=True),
    "eve-v1.0-7b": lambda: eve(add_moe=False),
    "elva-7b": lambda: elva(),
}


def describe(
    name: str, size: Size | None = None, max_side: int = 1600, mode: str = "train"
) -> dict[str, dict[str, int] | int]:
    """Parameters in all and by owner, counted on the meta device; with `size` (width, height) also a picture's grid.

    Raises ValueError for an unknown model or mode.
    """
    if name not in MODELS:
        raise ValueError(f"no model {name!r}; there are {', '.join(MODELS)}")
    with torch.device("meta"):
        model = MODELS[name]()
    counts: Counter[str] = Counter()
    for parameter, value in model.named_parameters():
        counts[group(parameter)] += value.numel()
    owners = {owner: counts[owner] for owner in ("vision", "patch_embedding", "text")}
    told: dict[str, dict[str, int] | int] = {"parameters": {"total": sum(counts.values())} | owners}
    if size is None:
        return told
    cut = grid(size, max_side, mode, model.config.patch_side)
    return told | {"cols": cut.cols, "rows": cut.rows, "patches": cut.patches, "tokens": cut.tokens}

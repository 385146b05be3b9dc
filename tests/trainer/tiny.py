"""Models of a few thousand parameters, with the shape of the real ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.elva import ELVAConfig, ELVAForCausalLM
from trainer.eve import EVEConfig, EVEForCausalLM

IMAGE_ID = 63
TINY: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mm_hidden_size": 16,
    "image_token_id": IMAGE_ID,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # of 0.02 all logits would be alike, and wrong models too
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}


def eve(**own: object) -> EVEForCausalLM:
    torch.manual_seed(0)
    return EVEForCausalLM(EVEConfig(**(TINY | own))).eval()


def elva(**own: object) -> ELVAForCausalLM:
    torch.manual_seed(0)
    merges = {"num_hidden_layers": 5, "patch_heads": 2, "threshold_layers": [1], "target_layers": [2, 3]}
    return ELVAForCausalLM(ELVAConfig(**(TINY | merges | own))).eval()


def picture(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(3, 32 * rows, 32 * cols, generator=torch.Generator().manual_seed(seed))


def sample(rows: int, cols: int, words: list[int]) -> list[int]:
    """A word, the tokens of one picture, the words."""
    return [5, *[IMAGE_ID] * (1 + rows * (cols + 1)), *words]


def labels(ids: Tensor) -> Tensor:
    return ids.masked_fill(ids == IMAGE_ID, -100)

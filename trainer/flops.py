"""Floating-point operations of a training step, counted from shapes; what a model's use of its GPU (MFU) divides."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer.eve import EVEConfig
from trainer.stage import Stage

# Dense bf16 FLOP/s of NVIDIA's data sheets, by what torch calls the device.
PEAKS = {"A100": 312e12, "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "L40S": 362e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Weights that one token passes, and what attention costs: width x layers. head: of the vocabulary."""

    layers: int
    head: int
    patch: int
    attention: int
    trains_layers: tuple[bool, bool]  # of text, of vision
    trains_head: bool

    def step(self, text: int, vision: int, targets: int, squares: int) -> float:
        """FLOPs of one forward and backward. squares: the sum of the samples' squared lengths, each attention's own.

        2 a weight forward, 2 for the input's gradient, 2 for the weight's where it trains; causal attention 2 T^2 D a
        layer forward and twice that backward. What activation checkpointing does again is not counted.
        """
        linear = text * (4 + 2 * self.trains_layers[0]) + vision * (4 + 2 * self.trains_layers[1])
        head = targets * self.head * (4 + 2 * self.trains_head)
        return linear * self.layers + head + 6 * vision * self.patch + 6.0 * squares * self.attention


def cost_of(config: EVEConfig, stage: Stage) -> Cost:
    """From the config alone."""
    width, head_width = config.hidden_size, config.hidden_size // config.num_attention_heads
    kv = (config.num_key_value_heads or config.num_attention_heads) * head_width
    layer = 2 * width * width + 2 * width * kv + 3 * width * config.intermediate_size
    pixels = 3 * config.patch_stride**2 * config.dense_stride**2
    text, own = "text" in stage.trains, bool(config.per_modality)
    return Cost(
        layers=layer * config.num_hidden_layers,
        head=width * config.vocab_size,
        patch=(pixels + config.dense_stride**2 * width) * config.mm_hidden_size,
        attention=width * config.num_hidden_layers,
        trains_layers=(text, "vision" in stage.trains if own else text),
        trains_head=text,
    )


def peak(device: torch.device) -> float | None:
    """FLOP/s of the device's data sheet; None for one that has no line in the table, a CPU for example."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((PEAKS[known] for known in sorted(PEAKS, key=len, reverse=True) if known in name), None)

"""What a full-size layer of EVEv2 computes, counted operation by operation on tensors without data."""

from __future__ import annotations

import importlib.util
import sys

if importlib.util.find_spec("torch") is None:
    print("left out: needs the `train` extra")
    sys.exit(0)

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer.dense import MaskedDense
from trainer.describe import QWEN2_7B
from trainer.eve import EVEConfig, EVEDecoderLayer, Route

VISION, TEXT = 651, 250  # a square at 800 x 800 and a caption of 190 words; the ratio is the same for any mixture


def layer() -> EVEDecoderLayer:
    config = EVEConfig(**QWEN2_7B)
    config._attn_implementation = "eager"  # plain matmuls, which the counter knows
    with torch.device("meta"):
        return EVEDecoderLayer(config, 0)


def counted(own: EVEDecoderLayer, vision: int, text: int, dense: bool) -> int:
    """FLOPs of one forward."""
    count, width = vision + text, own.self_attn.config.hidden_size
    with torch.device("meta"):
        index = torch.zeros(count, dtype=torch.long)
        if dense:
            route = MaskedDense((1, count), torch.zeros(count, 1))
            x = torch.zeros(count, width), torch.zeros(0, width)
        else:
            route = Route((1, count), index[:text], index[:vision], index)
            x = torch.zeros(text, width), torch.zeros(vision, width)
        rope = torch.zeros(1, count, 128), torch.zeros(1, count, 128)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            own(*x, route, rope=rope, mask=None, cache=None)
    return counter.get_total_flops()


def main() -> None:
    """Prints GFLOPs of each form, and their ratio with and without attention, which both have."""
    own = layer()
    routed, dense = (counted(own, VISION, TEXT, form) for form in (False, True))
    attention = 4 * (VISION + TEXT) ** 2 * own.self_attn.config.hidden_size  # the whole square, as plain matmuls do
    linear = (routed - attention) / (dense - attention)
    print(f"one layer of the 7B model, forward, {VISION} picture and {TEXT} text tokens:")
    print(f"routed {routed / 1e9:.1f} GFLOP, masked dense {dense / 1e9:.1f}, ratio {routed / dense:.3f}", end="; ")
    print(f"of its linear layers alone {linear:.3f}")


if __name__ == "__main__":
    main()

"""How much of a GPU a training step of EVEv2 uses: a few full-size layers at 4,096 packed tokens in bf16."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time

if importlib.util.find_spec("torch") is None:
    print("left out: needs the `train` extra")
    sys.exit(0)

import torch
from torch import Tensor

from trainer.describe import QWEN2_7B, eve
from trainer.flops import cost_of, peak
from trainer.recipes import STAGES

LAYERS, STEPS = 4, 10
SAMPLES, ROWS, COLS, WORDS = 4, 25, 25, 373  # 4 pictures of 651 tokens and as many words as fill 4,096
IMAGE = 151655
ATTENTION = ("sdpa", "flex_attention", "flash_attention_2")


def batch(device: torch.device) -> tuple[Tensor, Tensor, list[Tensor]]:
    one = [IMAGE] * (1 + ROWS * (COLS + 1)) + [7] * WORDS
    ids = torch.tensor([one * SAMPLES], device=device)
    positions = torch.arange(len(one), device=device).repeat(SAMPLES)[None]
    pictures = [torch.randn(3, 32 * ROWS, 32 * COLS, device=device, dtype=torch.bfloat16) for _ in range(SAMPLES)]
    return ids, positions, pictures


def measured(attention: str, device: torch.device) -> float:
    """MFU of the median step."""
    torch.manual_seed(0)
    with device:
        model = eve(num_hidden_layers=LAYERS).to(torch.bfloat16).train()
    model.set_attn_implementation(attention)
    ids, positions, pictures = batch(device)
    labels = ids.masked_fill(ids == IMAGE, -100)
    vision, targets = int((ids == IMAGE).sum()), SAMPLES * (WORDS - 1)
    squares = SAMPLES * (ids.shape[1] // SAMPLES) ** 2
    flops = cost_of(model.config, STAGES["eve-v2-3"]).step(ids.shape[1] - vision, vision, targets, squares)
    seconds = []
    for _ in range(STEPS + 3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        model(ids, position_ids=positions, pixel_values=pictures, labels=labels).loss.backward()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        model.zero_grad(set_to_none=True)
    return flops / statistics.median(seconds[3:]) / (peak(device) or float("nan"))


def main() -> None:
    """Prints the MFU with each attention that is there; without a GPU only how to measure it."""
    if not torch.cuda.is_available():
        print("not measured: no GPU here; on one: python -m benchmarks.bench_mfu")
        return
    device = torch.device("cuda:0")
    print(
        f"{LAYERS} of {QWEN2_7B['num_hidden_layers']} layers on {torch.cuda.get_device_name(device)}, all weights train"
    )
    for attention in ATTENTION:
        try:
            print(f"{attention:18} MFU {measured(attention, device):.1%}")
        except (ImportError, ValueError, RuntimeError) as error:
            print(f"{attention:18} not there: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()

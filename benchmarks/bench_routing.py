"""How much a training step of EVEv2 costs with sparse routing, beside the masked dense form of the released code."""

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

from tests.trainer.dense import make_dense
from trainer.eve import EVEConfig, EVEForCausalLM

# A narrow EVE with a small vocabulary, whose loss is the same in both forms, and four layers: fewer are little beside
# the patch embedding, which the real model's 28 are not.
WIDTHS = {"hidden_size": 512, "intermediate_size": 2816, "num_attention_heads": 8, "num_key_value_heads": 2}
GRIDS = {"mostly picture": (25, 25, 250), "half and half": (20, 21, 460), "mostly text": (10, 10, 790)}
IMAGE, STEPS, LAYERS = 63, 5, 4


def built(dense: bool, device: str) -> EVEForCausalLM:
    torch.manual_seed(0)
    config = EVEConfig(vocab_size=64, num_hidden_layers=LAYERS, image_token_id=IMAGE, **WIDTHS)
    model = EVEForCausalLM(config).train().to(device, torch.bfloat16 if device == "cuda" else torch.float32)
    return make_dense(model) if dense else model


def batch(rows: int, cols: int, words: int, device: str) -> tuple[Tensor, list[Tensor]]:
    ids = torch.tensor([[IMAGE] * (1 + rows * (cols + 1)) + [7] * words], device=device)
    return ids, [torch.randn(3, 32 * rows, 32 * cols, device=device)]


def step(model: EVEForCausalLM, ids: Tensor, pictures: list[Tensor]) -> float:
    """Seconds of one forward and backward: on a CPU of its own time, as other processes may run beside."""
    clock = time.perf_counter if ids.is_cuda else time.process_time
    model.zero_grad()
    started = clock()
    model(ids, pixel_values=pictures, labels=ids.masked_fill(ids == IMAGE, -100)).loss.backward()
    if ids.is_cuda:
        torch.cuda.synchronize()
    return clock() - started


def main() -> None:
    """Prints, for three mixtures, the median step of each form and their ratio; the two take turns."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    routed, dense = built(False, device), built(True, device)
    torch.set_num_threads(1)
    print(f"{LAYERS} layers of 512 on {device}, median of {STEPS} steps")
    for name, (rows, cols, words) in GRIDS.items():
        ids, pictures = batch(rows, cols, words, device)
        seconds = [(step(routed, ids, pictures), step(dense, ids, pictures)) for _ in range(STEPS + 1)][1:]
        ours, theirs = (statistics.median(column) for column in zip(*seconds, strict=True))
        mixed = f"{int((ids == IMAGE).sum())} picture and {words} text tokens"
        print(f"{name:15} {mixed:36} routed {ours:.3f} s  masked dense {theirs:.3f} s  ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()

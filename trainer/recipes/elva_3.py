"""ELVA stage 3: instructions on videos of 32 frames, with temporal merging."""

# Expected: 6,586 steps of 128 samples, 66 of them warm-up; about 780 H100-hours
# (arithmetic of trainer.stage.gpu_hours, every picture at the cap; not measured).
# The appendix has a larger form, 3M samples in batches of 256: dataclasses.replace makes it. High definition (longest
# edge 1344) is for SFT pictures; the cost below is without it and before merging.

from __future__ import annotations

from trainer.stage import Corpus, Pictures, Stage

STAGE = Stage(
    name="elva-3",
    family="elva",
    follows="elva-2",
    corpora=(Corpus(name="ELVA-SFT-843K", samples=843_000),),
    trains=("patch_embedding", "text"),
    pictures=Pictures(mode="longest_edge", max_side=336, tokens=32 * 601, frames=32),
    batch=128,
    peak_lr=2e-5,
    warmup=0.01,
    template="qwen2",
    max_text_tokens=5000,
    merging=True,
)

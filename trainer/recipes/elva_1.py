"""ELVA stage 1: single pictures, generation and the teacher's guidance."""

# Expected: 15,625 steps of 256 samples, 469 of them warm-up; about 130 H100-hours
# (arithmetic of trainer.stage.gpu_hours, every picture at the cap; not measured).
# Open in the appendix and chosen here: everything trains (one learning rate of 4e-5 in stages 1 and 2 is too small for
# a patch embedding alone); longest edge 336 below the 1344 of SFT (601 tokens a frame, as other models' frames have);
# the template without a dialogue.

from __future__ import annotations

from trainer.stage import Corpus, Pictures, Stage

STAGE = Stage(
    name="elva-1",
    family="elva",
    follows=None,
    corpora=(
        Corpus(name="DenseFusion-1M", samples=1_000_000),
        Corpus(name="ELVA-Image-3M", samples=3_000_000),
    ),
    trains=("patch_embedding", "text", "guidance"),
    pictures=Pictures(mode="longest_edge", max_side=336, tokens=601),
    batch=256,
    peak_lr=4e-5,
    warmup=0.03,
    template="plain",
    max_text_tokens=2048,
    guided=True,
)

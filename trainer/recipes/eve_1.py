"""EVEv2 stage 1: the patch embedding learns to speak to a frozen Qwen2.5."""

# Expected: 9,766 steps of 1,024 samples, 293 of them warm-up; about 250 H100-hours
# (arithmetic of trainer.stage.gpu_hours, every picture at the cap; not measured).
# The 10M are part of the Datacomp 44M and come again in stage 2.1; vision layers do not exist yet.

from __future__ import annotations

from trainer.stage import Corpus, Pictures, Stage

STAGE = Stage(
    name="eve-v2-1",
    family="eve-v2",
    follows=None,
    corpora=(Corpus(name="EVE-recap-10M", samples=10_000_000),),
    trains=("patch_embedding",),
    pictures=Pictures(mode="train", max_side=800, tokens=651),
    batch=1024,
    peak_lr=2e-4,
    warmup=0.03,
    template="plain",
    max_text_tokens=2048,
)

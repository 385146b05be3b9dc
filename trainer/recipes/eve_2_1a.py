"""EVEv2 stage 2.1, first half: vision layers, fresh copies of the text's, learn at 800 x 800 pixels."""

# Expected: 28,321 steps of 1,024 samples, 850 of them warm-up; about 900 H100-hours
# (arithmetic of trainer.stage.gpu_hours, every picture at the cap; not measured).
# The released scripts index this corpus as 30m. It has a warm-up and a cosine to 0 of its own.

from __future__ import annotations

from trainer.stage import Corpus, Pictures, Stage

STAGE = Stage(
    name="eve-v2-2.1a",
    family="eve-v2",
    follows="eve-v2-1",
    copies_vision=True,
    corpora=(Corpus(name="EVE-recap-Datacomp-29M", samples=29_000_000),),
    trains=("patch_embedding", "vision"),
    pictures=Pictures(mode="train", max_side=800, tokens=651),
    batch=1024,
    peak_lr=1e-4,
    warmup=0.03,
    template="plain",
    max_text_tokens=2048,
)

"""EVEv2 stage 3: everything trains, on instructions."""

# Expected: 14,258 steps of 512 samples, 428 of them warm-up; about 780 H100-hours
# (arithmetic of trainer.stage.gpu_hours, every picture at the cap; not measured).
# The only stage that the released scripts batch by modality and length.

from __future__ import annotations

from trainer.stage import Corpus, Pictures, Stage

STAGE = Stage(
    name="eve-v2-3",
    family="eve-v2",
    follows="eve-v2-2.2",
    corpora=(
        Corpus(name="LLaVA-OneVision-3.5M", samples=3_500_000),
        Corpus(name="Infinity-MM-instruct-3.8M", samples=3_800_000),
    ),
    trains=("patch_embedding", "vision", "text"),
    pictures=Pictures(mode="train", max_side=1600, tokens=2551),
    batch=512,
    peak_lr=1e-5,
    warmup=0.03,
    template="qwen2",
    max_text_tokens=5000,
)

"""EVEv2 stage 2.1, second half: the vision layers at 1600 x 1600 pixels, on the other 48M."""

# Expected: 46,875 steps of 1,024 samples, 1,407 of them warm-up; about 5,030 H100-hours
# (arithmetic of trainer.stage.gpu_hours, every picture at the cap; not measured).
# The paper says 1e-4, the released script 5e-5: both are named, the paper's is the default.

from __future__ import annotations

from trainer.stage import Corpus, Pictures, Stage

STAGE = Stage(
    name="eve-v2-2.1b",
    family="eve-v2",
    follows="eve-v2-2.1a",
    corpora=(
        Corpus(name="EVE-recap-Datacomp-15M", samples=15_000_000),
        Corpus(name="EVE-recap-LAION-15M", samples=15_000_000),
        Corpus(name="EVE-recap-SA-1B-11M", samples=11_000_000),
        Corpus(name="EVE-recap-OpenImages-7M", samples=7_000_000),
    ),
    trains=("patch_embedding", "vision"),
    pictures=Pictures(mode="train", max_side=1600, tokens=2551),
    batch=1024,
    peak_lr=1e-4,
    released_lr=5e-5,
    warmup=0.03,
    template="plain",
    max_text_tokens=4096,
)

"""EVEv2 stage 2.2: everything trains, on general questions and answers."""

# Expected: 29,297 steps of 512 samples, 879 of them warm-up; about 1,610 H100-hours
# (arithmetic of trainer.stage.gpu_hours, every picture at the cap; not measured).
# The paper's table says patch embedding and LLM; its text and the released code train everything.

from __future__ import annotations

from trainer.stage import Corpus, Pictures, Stage

STAGE = Stage(
    name="eve-v2-2.2",
    family="eve-v2",
    follows="eve-v2-2.1b",
    corpora=(Corpus(name="Infinity-MM-GeneralQA-15M", samples=15_000_000),),
    trains=("patch_embedding", "vision", "text"),
    pictures=Pictures(mode="train", max_side=1600, tokens=2551),
    batch=512,
    peak_lr=2e-5,
    warmup=0.03,
    template="qwen2",
    max_text_tokens=4096,
)

"""Presets: how each engine is asked when nobody says otherwise."""

from __future__ import annotations

from captioner.errors import UnknownPart
from captioner.prompts import prompt
from captioner.recipe import Asking
from captioner.types import PixelBudget, Sampling

# 1280 * 28 * 28: the image budget that ELVA gives Qwen2-VL; the experts need no more (their inputs are 416 and 960 px).
ONE_MEGAPIXEL = 1280 * 28 * 28

# What a second ask can mend; a refusal or an echo comes back the same.
AGAIN_FOR = ("empty_caption", "repetitive_caption", "too_short", "truncated_caption")

PRESETS = {
    "experts": Asking(
        prompt_id="experts-grammar-1",
        prompt=prompt("experts-grammar-1"),
        budget=PixelBudget(max_pixels=ONE_MEGAPIXEL),
        # The experts are deterministic: a second ask words the same facts anew, a third would add nothing.
        ladder=(Sampling(max_tokens=512), Sampling(max_tokens=512, seed=1)),
        again_for=AGAIN_FOR,
    ),
    "fake": Asking(
        prompt_id="describe-image-1",
        prompt=prompt("describe-image-1"),
        budget=PixelBudget(max_pixels=ONE_MEGAPIXEL, multiple_of=28),
        ladder=(
            Sampling(max_tokens=512),
            Sampling(max_tokens=512, temperature=0.6, top_p=0.95, seed=1),
            Sampling(max_tokens=768, temperature=0.8, top_p=0.95, seed=2),
        ),
        again_for=AGAIN_FOR,
    ),
}


def asking_of(engine: type) -> Asking:
    """How an engine's class says it is asked. Raises UnknownPart for one that does not say."""
    asking = getattr(engine, "ASKING", None)
    if not isinstance(asking, Asking):
        raise UnknownPart(f"{engine.__name__} does not say how it is asked: it wants ASKING, such as preset('experts')")
    return asking


def preset(engine: str) -> Asking:
    """How an engine is asked by default. Raises UnknownPart."""
    if engine not in PRESETS:
        raise UnknownPart(f"no preset for {engine!r} here; there is {', '.join(PRESETS)}")
    return PRESETS[engine]

"""What a run would come to, before anything runs: some shards' headers are read, and the rest is arithmetic."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from captioner.captioning import Captioner
from captioner.errors import MediaError
from captioner.image_tokens import image_tokens
from captioner.media.clip_format import header_of
from captioner.media.decode import bounded_size
from captioner.media.picks import filled, steps
from captioner.recipe import Recipe
from captioner.request import prompt_for
from captioner.types import Broken, FrameBudget, Information, Sample, ShardInput
from pipelines.costs import Price

# Accepted captions a second and GPU as published: EVEv2's 700,000 a day on eight A100-40G, ELVA's Qwen2-VL-7B on A100.
PUBLISHED = {"densefusion": 1.01, "qwen2-vl": 1.09}
USUAL_SECONDS, MOST_SECONDS = 18.0, 86_400.0  # WebVid's average clip (arXiv 2104.00650); a day
CHARACTERS_A_TOKEN = 4  # of English prompts, roughly


@dataclass(slots=True)
class Seen:
    """What the sampled shards hold. passed: pictures that every screen lets through, as their headers tell."""

    shards: int = 0
    bytes: int = 0
    samples: int = 0
    passed: int = 0
    image_tokens: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A run as it is expected. gpu_hours and cost are None where nobody said how fast, or how dear, a GPU is.

    pass_rate: share of samples that the screens let through. prompt_tokens, completion_tokens: in all, first asks only.
    """

    shards: int
    bytes: int
    samples: int
    pass_rate: float
    dropped: dict[str, float]
    prompt_tokens: int
    completion_tokens: int
    gpu_hours: float | None
    cost: float | None


def drawn(inputs: Iterable[ShardInput], count: int) -> list[ShardInput]:
    """So many shards, spread by the hash of their names: the first ones of a dataset are seldom like the rest."""
    return sorted(inputs, key=lambda shard: hashlib.sha256(shard.shard.encode()).digest())[:count]


def look(recipe: Recipe, source: Any, shards: list[ShardInput], captioner: Captioner, open_blob: Any) -> Seen:
    """Read these shards' headers. Raises SourceError for one that cannot be read."""
    seen = Seen()
    for shard in shards:
        seen.shards, seen.bytes = seen.shards + 1, seen.bytes + shard.size
        for item in source.read(shard, open_blob):
            seen.samples += 1
            reason = item.reason if isinstance(item, Broken) else _dropped(item, captioner, recipe, seen)
            if reason is None:
                seen.passed += 1
            else:
                seen.dropped[reason] += 1
    return seen


def _dropped(sample: Sample, captioner: Captioner, recipe: Recipe, seen: Seen) -> str | None:
    try:
        header = header_of(sample)
    except MediaError as error:
        return error.reason
    if (reason := captioner.screen(sample, header)) is not None:
        return reason
    if recipe.asking.frames is not None:
        seen.image_tokens += clip_tokens(sample.meta.get("source_seconds"), recipe.asking.frames)
        return None
    size = bounded_size(header.width, header.height, recipe.asking.budget)
    seen.image_tokens += image_tokens(*size, recipe.asking.budget)
    return None


def clip_tokens(seconds: object, frames: FrameBudget) -> int:
    """Tokens of a clip of so many seconds, as its source tells them, else of a usual one; frames at their largest."""
    known = float(seconds) if isinstance(seconds, int | float) and 0 < seconds < MOST_SECONDS else USUAL_SECONDS
    count = len(filled(steps(max(1, int(known * frames.per_second)), frames.max_frames), frames.multiple_of))
    side = math.isqrt(frames.pixels.max_pixels)
    return count // frames.multiple_of * image_tokens(side, side, frames.pixels)


def estimate(
    recipe: Recipe, inputs: tuple[ShardInput, ...], seen: Seen, answer_tokens: int, per_second: float, price: Price
) -> Estimate:
    """The whole run from its sampled part, by bytes.

    answer_tokens: of one caption. per_second: captions a second and GPU, 0 for unknown.
    """
    size = sum(shard.size for shard in inputs)
    scale = size / seen.bytes if seen.bytes else 0.0
    passed = round(seen.passed * scale)
    prompt = len(prompt_for(recipe.asking, Information())) // CHARACTERS_A_TOKEN
    hours = passed / per_second / 3600 if per_second else None
    return Estimate(
        shards=len(inputs),
        bytes=size,
        samples=round(seen.samples * scale),
        pass_rate=seen.passed / seen.samples if seen.samples else 0.0,
        dropped={reason: count / seen.samples for reason, count in seen.dropped.most_common()},
        prompt_tokens=round(seen.image_tokens * scale) + prompt * passed,
        completion_tokens=answer_tokens * passed,
        gpu_hours=hours,
        cost=hours * price.gpu_hour if hours is not None and price.gpu_hour else None,
    )

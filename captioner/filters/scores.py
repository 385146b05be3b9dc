"""Keeps samples whose source scored them well; inert unless a limit is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captioner.types import Header, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Limits on the source's own scores `similarity`, `punsafe`, `pwatermark`; None asks nothing.

    A sample without a score, or with one that is no finite number, is kept: absence says nothing against it.
    min_similarity: cosine of picture and text, -1 to 1. max_punsafe, max_pwatermark: probabilities, 0 to 1.
    """

    version: ClassVar[int] = 1
    min_similarity: float | None = None
    max_punsafe: float | None = None
    max_pwatermark: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("min_similarity", -1), ("max_punsafe", 0), ("max_pwatermark", 0)):
            limit = getattr(self, name)
            if limit is not None and not least <= limit <= 1:
                raise ValueError(f"{name} is {limit}; None or a number from {least} to 1 would be right")

    def __call__(self, sample: Sample, header: Header) -> str | None:
        similarity, punsafe, pwatermark = (_score(sample, name) for name in ("similarity", "punsafe", "pwatermark"))
        if self.min_similarity is not None and similarity is not None and similarity < self.min_similarity:
            return "low_similarity"
        if self.max_punsafe is not None and punsafe is not None and punsafe > self.max_punsafe:
            return "unsafe_score"
        if self.max_pwatermark is not None and pwatermark is not None and pwatermark > self.max_pwatermark:
            return "watermark_score"
        return None


def _score(sample: Sample, name: str) -> float | None:
    value = sample.meta.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e6 <= value <= 1e6 else None  # NaN, infinities and a sidecar's 400-digit integers

"""Drops captions with fewer words than a recipe asks of its engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from captioner.filters.text import count_words, judged
from captioner.types import Caption, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """min_words: the fewest words to keep; each recipe sets it for its engine.

    A word stands between spaces or marks. Scripts without spaces count by characters: two Han or kana, or four Thai,
    Lao, Burmese or Khmer characters, are one word; Korean has spaces. 8 words are the shortest whole sentence that
    says more than a tag; about 5 % of LLaVA-1.6's answers have been seen to be one or two tokens.
    """

    version: ClassVar[int] = 1
    min_words: int = 8

    def __post_init__(self) -> None:
        if self.min_words < 1:
            raise ValueError(f"min_words is {self.min_words}; a number of words from 1 up would be right")

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        return "too_short" if count_words(judged(caption.text)) < self.min_words else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        return {"length.words": float(count_words(judged(caption.text)))}

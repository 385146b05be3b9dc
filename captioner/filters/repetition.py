"""Drops captions that repeat themselves: loops, counters, sentences said again; lists and signs stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from captioner.filters.repeats import FEWEST_COPIES, Loop, Repeats, repeats
from captioner.types import Caption, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """No paper states thresholds for "repetitive"; these are ours.

    loop_tokens: a loop of three copies is dropped from this length on, wherever it stands. 48 tokens are three
        lines of a sign; no caption needs them.
    short_loop_tokens: a loop this short counts too when it is half of what stands outside quotes, in five copies,
        or four if something in it counts up.
    many_copies: outside quotes, and from least_tokens on, so many copies of words are a loop whatever else is said.
    counting_tokens: numbers and commas may go on for so long: a ruler or calendar, read out, has under 128 numbers.
    max_sentences: share of sentences said before. 0.3 is Gopher's for repeated lines; a poem's refrain has less.
    max_ngrams: share of 6-grams seen before, judged from least_tokens on. Captions of 200 words reach 0.1, a menu
        or a chart told in one pattern 0.35.
    max_compression: bytes over zlib's bytes, judged from 1,000 characters on. Prose has 2, tables 4.
    """

    version: ClassVar[int] = 2
    loop_tokens: int = 48
    short_loop_tokens: int = 16
    many_copies: int = 8
    counting_tokens: int = 256
    max_sentences: float = 0.3
    max_ngrams: float = 0.4
    least_tokens: int = 24
    max_compression: float = 7.0

    def __post_init__(self) -> None:
        for name in ("loop_tokens", "short_loop_tokens", "counting_tokens", "least_tokens"):
            if getattr(self, name) < 6:
                raise ValueError(f"{name} is {getattr(self, name)}; a number of tokens from 6 up would be right")
        for name in ("max_sentences", "max_ngrams"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share over 0 and up to 1 would be right")
        if not self.max_compression > 1:
            raise ValueError(f"max_compression is {self.max_compression}; a ratio over 1 would be right")

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        seen = repeats(caption.text)
        loops = self._is_loop(seen.loop) or self._is_mostly_loop(seen)
        says_again = seen.sentences > self.max_sentences or (
            seen.own_tokens >= self.least_tokens and seen.ngrams > self.max_ngrams
        )
        squeezed = seen.compression > self.max_compression
        return "repetitive_caption" if loops or says_again or squeezed or seen.blank else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        seen = repeats(caption.text)
        return {
            "repetition.loop_tokens": float(seen.loop.tokens),
            "repetition.loop_period": float(seen.loop.period),
            "repetition.sentences": seen.sentences,
            "repetition.ngrams": seen.ngrams,
            "repetition.top_ngram": seen.top_ngram,
            "repetition.compression": seen.compression,
        }

    def _is_loop(self, loop: Loop) -> bool:
        least = self.counting_tokens if loop.counting else self.loop_tokens
        return loop.copies >= FEWEST_COPIES and loop.tokens >= least

    def _is_mostly_loop(self, seen: Repeats) -> bool:
        loop = seen.own_loop
        if loop.words and loop.copies >= self.many_copies and loop.tokens >= self.least_tokens:
            return True
        long_enough = loop.tokens >= max(self.short_loop_tokens, seen.own_tokens / 2)
        return long_enough and loop.copies > FEWEST_COPIES + (not loop.counted) and not loop.counting

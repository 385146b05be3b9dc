"""How often a text says the same again: pure statistics, linear in its length."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from captioner.filters.text import has_letter, judged, outside_quotes, sentences, tokens

LONGEST_PERIOD = 128
FEWEST_COPIES = 3
# Six tokens in a row are seldom said twice in prose, while "on the left side of" (five) is in every long caption.
NGRAM = 6
# "No parking" may be said twice; a sentence of ten characters or more (four in Chinese) is said on purpose once.
LEAST_SENTENCE_BYTES = 10

_Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A stretch that repeats itself exactly, numbers aside. counting: nothing but numbers and marks goes round."""

    tokens: int = 0
    period: int = 0
    counting: bool = False

    @property
    def copies(self) -> int:
        """How many whole times the pattern stands there."""
        return self.tokens // self.period if self.period else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What a text repeats. Shares are 0 to 1 and leave short quotes out: a sign may repeat itself.

    loop: the longest one anywhere. own_loop: the longest one outside quotes, own_tokens: tokens there.
    sentences: share of bytes in sentences said before. ngrams: share of 6-grams seen before.
    top_ngram: share of tokens in the most frequent 6-gram. compression: bytes over zlib's bytes.
    """

    loop: Loop
    own_loop: Loop
    own_tokens: int
    sentences: float
    ngrams: float
    top_ngram: float
    compression: float


@lru_cache(maxsize=8)
def repeats(text: str) -> Repeats:
    """Everything that the repetition filter knows of a caption's text."""
    whole = judged(text)
    own = outside_quotes(whole)
    own_ids = _numbers_alike(tokens(own))
    counts = _ngram_counts(own_ids)
    own_loop = longest_loop(tokens(own), own_ids)
    positions = max(1, int(counts.sum()))
    return Repeats(
        loop=own_loop if own is whole else longest_loop(tokens(whole), _numbers_alike(tokens(whole))),
        own_loop=own_loop,
        own_tokens=len(own_ids),
        sentences=_repeated_sentences(own),
        ngrams=1 - len(counts) / positions if len(counts) else 0.0,
        top_ngram=_top_share(counts, len(own_ids)),
        compression=_compression(whole),
    )


def longest_loop(words: tuple[str, ...], ids: _Ids) -> Loop:
    """The longest stretch of three or more copies of up to 128 tokens; Loop() where there is none."""
    best = Loop()
    # The shortest loop of interest repeats twelve tokens, so seven 6-grams at least were seen before.
    if len(ids) - NGRAM + 1 - len(_ngram_counts(ids)) < 7:
        return best
    for period in range(1, min(LONGEST_PERIOD, len(ids) // FEWEST_COPIES) + 1):
        start, length = _longest_run(ids[period:] == ids[:-period])
        if length + period > best.tokens and length >= period * (FEWEST_COPIES - 1):
            pattern = words[start : start + 2 * period]
            same = pattern[:period] == pattern[period:]
            counting = not same and not any(map(has_letter, pattern))
            best = Loop(tokens=length + period, period=period, counting=counting)
    return best


def _numbers_alike(words: tuple[str, ...]) -> _Ids:
    """One integer a distinct token, 0 for every number: a counter does not hide a loop."""
    known: dict[str, int] = {}
    ids = np.fromiter((known.setdefault(word, len(known) + 1) for word in words), np.int64, len(words))
    zero_for = np.array([0, *(0 if word[0].isdigit() else n for word, n in known.items())], np.int64)
    return zero_for[ids]


def _ngram_counts(ids: _Ids) -> _Ids:
    """How often each distinct 6-gram stands there, by a 64-bit polynomial hash."""
    if len(ids) < NGRAM:
        return np.zeros(0, np.int64)
    hashes = np.zeros(len(ids) - NGRAM + 1, np.uint64)
    for offset in range(NGRAM):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + ids[offset : offset + len(hashes)].astype(np.uint64)
    return np.unique(hashes, return_counts=True)[1]


def _longest_run(equal: NDArray[np.bool_]) -> tuple[int, int]:
    """(start, length) of the longest run of True; (0, 0) where none is certain to be longer than six."""
    # A run of seven covers an aligned block of four: blocks are four times fewer, and mostly there is none.
    blocks = equal[: len(equal) // 4 * 4].view(np.uint32)
    if not (blocks == 0x01010101).any():
        return 0, 0
    breaks = np.flatnonzero(~equal)
    edges = np.concatenate(([-1], breaks, [len(equal)]))
    lengths = np.diff(edges) - 1
    longest = int(lengths.argmax())
    return int(edges[longest]) + 1, int(lengths[longest])


def _top_share(counts: _Ids, length: int) -> float:
    """A 6-gram that stands there once repeats nothing; overlapping copies cover no more than everything."""
    top = int(counts.max(initial=0))
    return min(1.0, top * NGRAM / length) if top > 1 else 0.0


def _repeated_sentences(text: str) -> float:
    sizes = Counter(sentences(text))
    total = repeated = 0
    for sentence, count in sizes.items():
        size = len(sentence.encode("utf-8", "surrogatepass"))
        total += size * count
        if size >= LEAST_SENTENCE_BYTES:
            repeated += size * (count - 1)
    return repeated / total if total else 0.0


def _compression(text: str) -> float:
    stored = text.encode("utf-8", "surrogatepass")
    return len(stored) / len(zlib.compress(stored, 1)) if stored else 1.0

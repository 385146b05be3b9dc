"""How often a text says the same again: pure statistics, linear in its length."""

from __future__ import annotations

import re
import zlib
from collections import Counter, deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from captioner.filters.text import judged, outside_quotes, sentences, tokens

LONGEST_PERIOD = 128
FEWEST_COPIES = 3
# Six tokens in a row are seldom said twice in prose, while "on the left side of" (five) is in every long caption.
NGRAM = 6
# "No parking" may be said twice; a sentence of ten characters or more (four in Chinese) is said on purpose once.
LEAST_SENTENCE_BYTES = 10

LEAST_COMPRESSED = 1000  # characters; compression says nothing of shorter texts
LONGEST_PLAIN = 2000  # tokens; of more, numpy makes shorter work

# No layout that a caption copies indents or spaces out more: an engine that goes on in white space is in a loop too.
LONGEST_BLANK = 48
_BLANK = re.compile(rf"\s{{{LONGEST_BLANK}}}")

_Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A text's tokens as integers: exact, then ids with all counters alike; letters: which are words."""

    exact: _Ids
    ids: _Ids
    letters: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A stretch that repeats itself exactly, counters aside. counting: nothing but numbers and marks goes round.

    words: a word goes round with them. counted: something in it counts up, as items of a list do.
    """

    tokens: int = 0
    period: int = 0
    counting: bool = False
    words: bool = False
    counted: bool = False

    @property
    def copies(self) -> int:
        """How many whole times the pattern stands there."""
        return self.tokens // self.period if self.period else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What a text repeats. Shares are 0 to 1 and leave short quotes out: a sign may repeat itself.

    loop: the longest one anywhere. own_loop: the longest one outside quotes, own_tokens: tokens there.
    sentences: share of bytes in sentences said before. ngrams: share of 6-grams with a word in them seen before.
    top_ngram: share of tokens in the most frequent 6-gram. compression: bytes over zlib's bytes, 1
    for texts under LEAST_COMPRESSED characters.
    blank: whether LONGEST_BLANK characters of white space stand in a row.
    """

    loop: Loop
    own_loop: Loop
    own_tokens: int
    sentences: float
    ngrams: float
    top_ngram: float
    compression: float
    blank: bool


@lru_cache(maxsize=8)
def repeats(text: str) -> Repeats:
    """Everything that the repetition filter knows of a caption's text."""
    whole = judged(text)
    own = outside_quotes(whole)
    own_loop, ngrams, top_ngram = _said_again(tokens(own))
    return Repeats(
        loop=own_loop if own is whole else _said_again(tokens(whole))[0],
        own_loop=own_loop,
        own_tokens=len(tokens(own)),
        sentences=_repeated_sentences(own),
        ngrams=ngrams,
        top_ngram=top_ngram,
        compression=_compression(whole),
        blank=_BLANK.search(whole) is not None,
    )


def _said_again(words: tuple[str, ...]) -> tuple[Loop, float, float]:
    """The longest loop, the share of 6-grams seen before, and that of the most frequent one."""
    if _says_nothing_twice(words):
        return Loop(), 0.0, 0.0
    numbered = number_tokens(words)
    counts = _lettered_counts(numbered)
    ngrams = 1 - len(counts) / int(counts.sum()) if len(counts) else 0.0
    return longest_loop(numbered), ngrams, _top_share(counts, len(words))


def _says_nothing_twice(words: tuple[str, ...]) -> bool:
    """Whether nothing counts up and every 6-gram stands there once: then there is nothing to measure.

    So it is with most captions, and this takes a fifth of the time.
    """
    if len(words) > LONGEST_PLAIN:
        return False
    counting = {word for word in set(words) if _is_letter(word) or _is_number(word)}
    if counting and _counters(words, [place for place, word in enumerate(words) if word in counting]):
        return False
    grams = max(0, len(words) - NGRAM + 1)
    return len(set(zip(*(words[first:] for first in range(NGRAM)), strict=False))) == grams


def number_tokens(words: tuple[str, ...]) -> Numbered:
    """One integer a distinct token; in ids every counter is 0, so that "1. a dog 2. a dog" is a loop."""
    known: dict[str, int] = {}
    exact = np.array([known.setdefault(word, len(known) + 1) for word in words], np.int64)
    letters = np.array([False, *(word[0].isalpha() for word in known)], np.bool_)
    ids = exact.copy()
    for counts in (_is_number, _is_letter):
        counting = np.array([False, *map(counts, known)], np.bool_)
        ids[_counters(words, np.flatnonzero(counting[exact]).tolist())] = 0
    return Numbered(exact=exact, ids=ids, letters=letters[exact] & (ids > 0))


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) < 10


def _is_letter(word: str) -> bool:
    return len(word) == 1 and "a" <= word <= "z"


def _counters(words: tuple[str, ...], places: list[int]) -> list[int]:
    """The places of numbers that are one more than one of the four before, as years and items are and prices are not.

    Letters count as numbers do: "step b" follows "step a", and "a dog with a bone" may stand between them.
    """
    found: list[int] = []
    recent: deque[int] = deque(maxlen=4)
    for place in places:
        word = words[place]
        value = int(word) if word.isdecimal() else ord(word)
        if value - 1 in recent:
            found.append(place)
        recent.append(value)
    return found


def longest_loop(numbered: Numbered) -> Loop:
    """The longest stretch of three or more copies of up to 128 tokens; Loop() where there is none."""
    best, ids = Loop(), numbered.ids
    # The shortest loop of interest repeats twelve tokens, so seven 6-grams at least were seen before.
    if len(ids) - NGRAM + 1 - len(set(_ngrams(ids).tolist())) < 7:
        return best
    for period in range(1, min(LONGEST_PERIOD, len(ids) // FEWEST_COPIES) + 1):
        start, length = _longest_run(ids[period:] == ids[:-period])
        if length + period > best.tokens and length >= period * (FEWEST_COPIES - 1):
            first = numbered.exact[start : start + length]
            # Of "1, 2, 3" every other token comes again; of "2, 2, 2" all do.
            again = np.mean(first == numbered.exact[start + period : start + period + length])
            words = bool(numbered.letters[start : start + period].any())
            counting = bool(again < 0.8) and not words
            best = Loop(tokens=length + period, period=period, counting=counting, words=words, counted=bool(again < 1))
    return best


def _ngrams(ids: _Ids) -> NDArray[np.uint64]:
    """A 64-bit polynomial hash of each 6-gram, in order."""
    places = max(0, len(ids) - NGRAM + 1)
    hashes = np.zeros(places, np.uint64)
    for offset in range(NGRAM if places else 0):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + ids[offset : offset + places].astype(np.uint64)
    return hashes


def _lettered_counts(numbered: Numbered) -> _Ids:
    """How often each distinct 6-gram that has a letter in it stands there."""
    hashes = _ngrams(numbered.ids)
    if not len(hashes):
        return np.zeros(0, np.int64)
    sums = np.concatenate(([0], np.cumsum(numbered.letters)))
    return np.unique(hashes[sums[NGRAM:] > sums[:-NGRAM]], return_counts=True)[1]


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
    # zlib sets up 256 KiB for a text however short, a tenth of a millisecond for what nobody judges.
    if len(text) < LEAST_COMPRESSED:
        return 1.0
    stored = text.encode("utf-8", "surrogatepass")
    return len(stored) / len(zlib.compress(stored, 1))

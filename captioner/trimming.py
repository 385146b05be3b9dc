"""The last whole sentence: where a caption that was cut off may end."""

from __future__ import annotations

import re

from captioner.filters.truncated import ends_whole

# A full stop with the marks that close behind it: of spaced scripts before a space, of Chinese and Japanese anywhere.
_ENDS = re.compile("(?:[.!?…‽؟۔।॥]+[\"'”’»›)\\]*_]*(?=\\s|$)|[。！？｡][”’」』）》]*)")
# Stops that belong to a word; a single letter with one is a name's initial.
_ABBREVIATED = re.compile(
    r"(?:^|[\s(\"“])(?:[A-Za-z]|Mrs?|Ms|Drs?|Prof|St|Ste|Mt|Jr|Sr|No|vs|etc|e\.g|i\.e|ca|approx|fig|Inc|Ltd|Co)\.$"
)
_PAIRS = (("“", "”"), ("«", "»"), ("「", "」"), ("『", "』"), ("(", ")"), ("[", "]"), ("（", "）"))
_TRIED = 32  # ends looked at, from the last: a caption has some eleven sentences


def whole_sentences(text: str) -> str:
    """The text up to its last whole sentence, "" where it has none. A sentence inside an open quote ends nothing."""
    for end in [found.end() for found in _ENDS.finditer(text)][: -_TRIED - 1 : -1]:
        kept = text[:end]
        if not _goes_on(text, end) and _is_closed(kept) and ends_whole(kept):
            return kept
    return ""


def _goes_on(text: str, end: int) -> bool:
    """Whether the stop is no full one: of an abbreviation, or before a small letter."""
    following = text[end : end + 8].lstrip()
    return following[:1].islower() or _ABBREVIATED.search(text[max(0, end - 12) : end]) is not None


def _is_closed(text: str) -> bool:
    return text.count('"') % 2 == 0 and all(text.count(first) <= text.count(last) for first, last in _PAIRS)

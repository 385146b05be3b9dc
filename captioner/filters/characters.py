"""Drops captions with characters that no reader should meet: controls, bidi marks, hidden or broken ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from captioner.types import Caption, Sample

# C0 and C1 but \n and \t; soft hyphen and invisible spaces; bidi marks; line separators that cut JSON lines;
# surrogates; BOM; noncharacters; tags that hide ASCII. First and last of each range.
_BAD = (
    *((0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200B)),
    *((0x200E, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0xD800, 0xDFFF), (0xFDD0, 0xFDEF), (0xFEFF, 0xFEFF)),
    *((0xFFF0, 0xFFFB), (0xFFFE, 0xFFFF), (0xE0000, 0xE007F)),
)
# The joiners U+200C and U+200D are spelling in Arabic, Indic and Khmer letters, and glue in emoji; elsewhere hidden.
_JOINED = (
    *((0x590, 0x109F), (0x1780, 0x18AF), (0x2190, 0x2BFF), (0xFE0F, 0xFE0F), (0xFB1D, 0xFDCF), (0xFE70, 0xFEFC)),
    (0x1F000, 0x1FAFF),
)
_JOINERS = "\u200c\u200d"
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Characters:
    """max_replacement: share of U+FFFD to bear. 1 %: one lost accent in a caption is legible, a lost script is not.

    Text that is not NFC is no reason to drop it.
    """

    version: ClassVar[int] = 1
    max_replacement: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.max_replacement <= 1:
            raise ValueError(f"max_replacement is {self.max_replacement}; a share from 0 to 1 would be right")

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        bad, replaced = _counts(caption.text)
        return "bad_characters" if bad or replaced > self.max_replacement * len(caption.text) else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        bad, replaced = _counts(caption.text)
        return {"characters.bad": float(bad), "characters.replaced": replaced / max(1, len(caption.text))}


@lru_cache(maxsize=8)
def _counts(text: str) -> tuple[int, int]:
    """(characters that should not be there, replacement characters)."""
    if text.isascii() and text.isprintable():  # most captions: a tenth of the table's time
        return 0, 0
    # A table costs the same for any text; a search takes 0.1 s for a megabyte of bad ones.
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    bad = int(np.count_nonzero(_table(_BAD)[codes]))
    if _JOINERS[0] in text or _JOINERS[1] in text:
        places = np.flatnonzero((codes == ord(_JOINERS[0])) | (codes == ord(_JOINERS[1])))
        before = places[places > 0] - 1
        bad += len(places) - int(np.count_nonzero(_table(_JOINED)[codes[before]]))
    return bad, text.count(_REPLACEMENT)


@lru_cache(maxsize=2)
def _table(ranges: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    """Whether each code point lies in one of the ranges."""
    table = np.zeros(0x110000, np.bool_)
    for first, last in ranges:
        table[first : last + 1] = True
    return table

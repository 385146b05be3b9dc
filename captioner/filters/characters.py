"""Drops captions with characters that no reader should meet: controls, bidi marks, hidden or broken ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from captioner.types import Caption, Sample

# C0 and C1 but \n and \t; soft hyphen and invisible spaces; bidi marks; line separators that cut JSON lines;
# surrogates; BOM; noncharacters; tags that hide ASCII.
_BAD = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e007f"
)
# The joiners U+200C and U+200D are spelling in Arabic, Indic and Khmer letters, and glue in emoji; elsewhere hidden.
_JOINED = "\u0590-\u109f\u1780-\u18af\u2190-\u2bff\ufe0f\ufb1d-\ufdcf\ufe70-\ufefc\U0001f000-\U0001faff"
_BAD_CHARACTER = re.compile(f"[{_BAD}]")
_BAD_JOINER = re.compile(f"[\u200c\u200d](?<![{_JOINED}].)")
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
    bad = len(_BAD_CHARACTER.findall(text)) + len(_BAD_JOINER.findall(text))
    return bad, text.count(_REPLACEMENT)

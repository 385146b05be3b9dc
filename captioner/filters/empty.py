"""Drops captions without any text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from captioner.types import Caption, Sample

_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty:
    """A caption has text when a letter or a digit stands outside the engine's thinking part."""

    version: ClassVar[int] = 1

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        return None if _LETTER_OR_DIGIT.search(_answer(caption.text)) else "empty_caption"

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        return {"empty.characters": float(len(caption.text.strip()))}


def _answer(text: str) -> str:
    """What follows the thinking part that opens a text; nothing where that part never closes."""
    text = text.lstrip()
    thought = _THOUGHT.match(text)
    return text.partition(f"</{thought[1]}>")[2] if thought else text

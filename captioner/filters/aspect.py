"""Keeps pictures that are not many times longer than wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captioner.types import Header, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """at_most: longer side over shorter side. No paper states a rule.

    5 is where EVEv2's any-resolution grid still keeps near its token cap (about 701 of 625 + rows at 800 px);
    beyond it the trainer's sequences grow and the picture is a banner or a scroll.
    """

    version: ClassVar[int] = 1
    at_most: float = 5.0

    def __post_init__(self) -> None:
        if not self.at_most >= 1:
            raise ValueError(f"at_most is {self.at_most}; a ratio from 1 (a square) up would be right")

    def __call__(self, sample: Sample, header: Header) -> str | None:
        shorter, longer = sorted((header.width, header.height))
        return "extreme_aspect" if longer > self.at_most * shorter else None

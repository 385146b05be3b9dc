"""Keeps pictures whose header claims no more pixels than a decoder may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captioner.types import Header, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """at_most: width times height. 100 million decode to 400 MB as RGBA: they fit a decoder's 1 GiB twice."""

    version: ClassVar[int] = 1
    at_most: int = 100_000_000

    def __post_init__(self) -> None:
        if self.at_most < 1:
            raise ValueError(f"at_most is {self.at_most}; a number of pixels from 1 up would be right")

    def __call__(self, sample: Sample, header: Header) -> str | None:
        return "too_many_pixels" if header.width * header.height > self.at_most else None

"""Keeps pictures whose stored bytes are within a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captioner.types import Header, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """at_most: stored bytes. 32 MiB hold 10 million RGB pixels uncompressed, and any photograph compressed."""

    version: ClassVar[int] = 1
    at_most: int = 32 * 2**20

    def __post_init__(self) -> None:
        if self.at_most < 1:
            raise ValueError(f"at_most is {self.at_most}; a number of bytes from 1 up would be right")

    def __call__(self, sample: Sample, header: Header) -> str | None:
        return "too_many_bytes" if sample.size > self.at_most else None

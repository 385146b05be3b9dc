"""Keeps formats that decoders may be asked for, decided by magic bytes; runs before every other screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captioner.media.header import READABLE
from captioner.types import Header, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """allow: formats to keep, out of those whose headers are read.

    The others are known by name only (SVG, EPS and PDF are programs, the rest drag in decoders that few need).
    """

    version: ClassVar[int] = 1
    allow: tuple[str, ...] = READABLE

    def __post_init__(self) -> None:
        unknown = sorted(set(self.allow) - set(READABLE))
        if unknown:
            raise ValueError(f"allow has {', '.join(map(repr, unknown))}; there is {', '.join(READABLE)}")
        if not self.allow:
            raise ValueError(f"allow is empty; at least one of {', '.join(READABLE)} would be right")

    def __call__(self, sample: Sample, header: Header) -> str | None:
        return None if header.format in self.allow else "unsupported_format"

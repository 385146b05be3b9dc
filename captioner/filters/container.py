"""Keeps clips in containers that decoders may be asked for, decided by magic bytes; runs before every other screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captioner.media.clip_format import CONTAINERS
from captioner.types import Header, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """allow: containers to keep. Playlists and whatever else may name another file are never among them.

    Pictures pass: they are judged by `format`.
    """

    version: ClassVar[int] = 1
    allow: tuple[str, ...] = CONTAINERS

    def __post_init__(self) -> None:
        unknown = sorted(set(self.allow) - set(CONTAINERS))
        if unknown:
            raise ValueError(f"allow has {', '.join(map(repr, unknown))}; there is {', '.join(CONTAINERS)}")
        if not self.allow:
            raise ValueError(f"allow is empty; at least one of {', '.join(CONTAINERS)} would be right")

    def __call__(self, sample: Sample, header: Header) -> str | None:
        return "unsupported_format" if sample.kind == "video" and header.format not in self.allow else None

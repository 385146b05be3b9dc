"""Keeps pictures and clips that are large enough, measured upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from captioner.types import Header, Sample

Mode = Literal["both", "short", "area"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """more_than: px. What must hold for width x height, by mode:

    both   width > more_than and height > more_than: EVEv2's "greater than 512x512", so 512x512 itself goes
    short  the shorter side >= more_than: DenseFusion drops a short edge < 448, so 448 itself stays
    area   width * height > more_than squared: the same number of pixels in any shape
    """

    version: ClassVar[int] = 1
    more_than: int = 512
    mode: Mode = "both"

    def __post_init__(self) -> None:
        if self.more_than < 0:
            raise ValueError(f"more_than is {self.more_than}; a number of px from 0 up would be right")
        if self.mode not in get_args(Mode):
            raise ValueError(f"no mode {self.mode!r}; there is {', '.join(get_args(Mode))}")

    def __call__(self, sample: Sample, header: Header) -> str | None:
        if not header.width and sample.kind == "video":
            return None  # not known before a clip is opened; it is screened again then
        shorter = min(header.width, header.height)
        enough = {
            "both": shorter > self.more_than,
            "short": shorter >= self.more_than,
            "area": header.width * header.height > self.more_than**2,
        }
        return None if enough[self.mode] and shorter > 0 else "below_min_resolution"

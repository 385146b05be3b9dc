"""Frames of clips for a model in training, by the reader that captioning uses: whole seconds, spread evenly."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import MediaError
from captioner.media.watch import watch
from captioner.types import Decoded, FrameBudget, PixelBudget

MOST_PIXELS = 2**25  # of a frame as stored: 8K


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How feeds open videos and pictures. images: where the paths in LLaVA's JSON begin, "" for the JSON's folder.

    frames: of a video at most. side: px of the square whose area a frame has at most before it is brought to its grid.
    """

    images: str = ""
    frames: int = 1
    side: int = 672


def frames_of(media: bytes, count: int, side: int) -> list[bytes]:
    """So many frames as JPEGs, upright; a clip with fewer whole seconds stands still at its end. Raises MediaError."""
    found = [picture.jpeg for picture in _watched(media, count, side).frames]
    return found + found[-1:] * (count - len(found))


def clip_of(path: Path, most: int) -> tuple[tuple[int, int], int]:
    """A clip's upright px, and how many frames of it are taken. One frame is decoded. Raises OSError, MediaError."""
    seen = _watched(path.read_bytes(), 1, 64)
    return (seen.width, seen.height), min(most, max(1, int(seen.duration or 0)))


def _watched(media: bytes, count: int, side: int) -> Decoded:
    budget = FrameBudget(pixels=PixelBudget(max_pixels=side * side), max_frames=count)
    seen = watch(io.BytesIO(media), budget, MOST_PIXELS)
    if not seen.frames:
        raise MediaError("no_frames", "nothing to be seen")
    return seen

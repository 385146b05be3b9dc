"""What a decoder process says of a clip, believed only where it fits together: it may have been taken over."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from captioner.media.wire import Header
from captioner.types import Decoded, FrameBudget, Picture


def question(budget: FrameBudget, pixels: Header, most_pixels: int) -> Header:
    """What a decoder process is asked of a clip."""
    rule = {name: getattr(budget, name) for name in ("max_frames", "per_second", "multiple_of", "reader")}
    return {"frames": {"pixels": pixels, **rule}, "most_pixels": most_pixels}


def side(told: Any) -> int:
    """A side in px. Raises TypeError, ValueError for what is none, or what no ledger could hold."""
    if not 0 < (pixels := int(told)) < 2**31:
        raise ValueError("a side of no picture")
    return pixels


def watched(answer: Header, body: bytes) -> Decoded:
    """The frames of an answer. Raises KeyError, TypeError, ValueError for one that no sound decoder process gives."""
    sizes = [(side(width), side(height), int(size)) for width, height, size in answer["pictures"]]
    ends = list(accumulate(size for *_, size in sizes))
    order, times, duration = list(map(int, answer["order"])), tuple(map(float, answer["times"])), answer["duration"]
    if not sizes or min(size for *_, size in sizes) < 1 or ends[-1] != len(body):
        raise ValueError("frames that do not fill their bytes")
    if not order or min(order) < 0 or max(order) >= len(sizes) or len(order) != len(times):
        raise ValueError("frames that are not there")
    if not all(map(math.isfinite, (*times, float(duration)))):
        raise ValueError("times that are none")
    pictures = [
        Picture(jpeg=body[end - size : end], width=width, height=height)
        for (width, height, size), end in zip(sizes, ends, strict=True)
    ]
    width, height = answer["original"]
    return Decoded(
        picture=pictures[order[len(order) // 2]],
        width=side(width),
        height=side(height),
        flags=frozenset(map(str, answer["flags"])),
        frames=tuple(pictures[place] for place in order),
        times=times,
        duration=float(duration),
        signals={str(name): float(value) for name, value in answer["signals"].items()},
    )

"""Stored bytes of a clip to its bounded frames: the pure function that runs inside a decoder process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO

import av

from captioner.errors import MediaError
from captioner.media.clip import Clip, Table, opened, table_of
from captioner.media.clip_frames import Shot, Shots, shots
from captioner.media.frame_pixels import Shrinker
from captioner.media.picks import filled, ticks
from captioner.types import Decoded, FrameBudget

# The container's word and the frames' own differ by more than this share of the longer, and by a second: it is told.
MISMATCH = 0.1
LEAST_SOUND = 0.5  # of the times looked at, the share that needs a sound frame from its own group of pictures
_BROKEN = (av.FFmpegError, ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def watch(media: BinaryIO, budget: FrameBudget, most_pixels: int) -> Decoded:
    """The frames at whole seconds (see captioner.media.picks), upright, square-pixelled, sRGB, each within the budget.

    most_pixels: of one frame. Flags: rotated, pixels_not_square, duration_mismatch, capped, cut_short, decode_errors
    (their number is the signal of that name). Raises MediaError: unsupported_format, bad_container, no_video_stream,
    no_frames, unsupported_codec, undecodable_video, too_many_pixels, resource_exceeded.
    """
    with _in_our_words(), opened(media, most_pixels) as clip:
        table = table_of(clip)
        at = ticks(table.shown[0], table.shown[-1], clip.time_base, budget)
        aspect = clip.stream.sample_aspect_ratio
        shrinker = Shrinker(budget=budget.pixels, aspect=float(aspect) if aspect else 1.0)
        seen = reader_of(budget.reader)(clip, table, at, shrinker, media)
        return _decoded(clip, table, budget, shrinker, (at, seen))


@lru_cache
def reader_of(name: str) -> Callable[[Clip, Table, Sequence[int], Shrinker, BinaryIO], Shots]:
    """A reader by its name, one of clip_format.READERS; only that one is imported."""
    if name == "decord":
        from captioner.media.decord_frames import decord_shots

        return decord_shots
    return shots


def _decoded(
    clip: Clip, table: Table, budget: FrameBudget, shrinker: Shrinker, looked: tuple[Sequence[int], Shots]
) -> Decoded:
    at, seen = looked
    if len(seen.at) < max(1, len(at) * LEAST_SOUND):
        raise MediaError("undecodable_video", f"{len(seen.at)} of {len(at)} frames decode; {seen.errors} are broken")
    found = filled(_everywhere(at, seen), budget.multiple_of)
    base, first, last = clip.time_base, table.shown[0], table.shown[-1]
    duration = float((last - first + table.last_ticks) * base)
    flags = {
        "rotated": shrinker.turned,
        "pixels_not_square": shrinker.aspect != 1,
        "duration_mismatch": _lies(clip.header_seconds, duration, float(last * base)),
        "capped": (last - first) * base * budget.per_second // 1 + 1 > len(at),
        "cut_short": table.cut,
        "decode_errors": seen.errors > 0,
    }
    return Decoded(
        picture=found[len(found) // 2][1],
        width=shrinker.upright[0],
        height=shrinker.upright[1],
        flags=frozenset(flag for flag, is_so in flags.items() if is_so),
        frames=tuple(picture for _, picture in found),
        times=tuple(float((pts - first) * base) for pts, _ in found),
        duration=duration,
        signals={"decode_errors": float(seen.errors)} if seen.errors else {},
    )


def _everywhere(at: Sequence[int], seen: Shots) -> list[Shot]:
    """A frame for every tick: where none was sound, the one before it stands, at the beginning the one after it."""
    found: list[Shot] = []
    last = next(seen.at[tick] for tick in at if tick in seen.at)
    for tick in at:
        last = seen.at.get(tick, last)
        found.append(last)
    return found


def _lies(header_seconds: float | None, duration: float, end: float) -> bool:
    """Whether a container's word is neither the frames' duration nor, as Matroska's may be, the time of their end."""
    if header_seconds is None:
        return False
    apart = min(abs(header_seconds - duration), abs(header_seconds - end))
    return apart > 1 and apart > MISMATCH * max(header_seconds, duration)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except MemoryError:
        raise MediaError("resource_exceeded", "decoding this clip needs more memory than a decoder has") from None
    except _BROKEN:
        raise MediaError("undecodable_video", "its decoder refuses it") from None

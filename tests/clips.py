"""Made clips for the tests: every frame carries its number in white and black squares, so a picture says what it is."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray
from PIL import Image

from captioner.types import Picture

BITS = 16  # in two rows of eight squares at the upper left
TICKS = 1000  # of a second, in the times given here


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How a clip is coded. rate: frames a second announced. square: px of a number's squares. ticks: a second.

    beside: codecs of other tracks, which stay empty.
    """

    codec: str = "libx264"
    container: str = "mp4"
    width: int = 320
    height: int = 192
    pixels: str = "yuv420p"
    rate: int = 25
    square: int = 24
    options: Mapping[str, str] = frozenset()  # type: ignore[assignment]
    muxing: Mapping[str, str] = frozenset()  # type: ignore[assignment]
    aspect: Fraction | None = None
    rotation: int = 0
    ticks: int = TICKS
    beside: tuple[str, ...] = ()


H264 = {"preset": "ultrafast", "tune": "fastdecode"}


def numbered(number: int, coding: Coding) -> NDArray[np.uint8]:
    """A frame of a flat colour with its number on it."""
    colour = (40 + number * 7 % 150, 40 + number * 13 % 150, 40 + number * 29 % 150)
    frame = np.full((coding.height, coding.width, 3), colour, np.uint8)
    size = coding.square
    for bit in range(BITS):
        row, column = divmod(bit, 8)
        frame[row * size : (row + 1) * size, column * size : (column + 1) * size] = 255 * (number >> bit & 1)
    return frame


def number_of(picture: Picture, coding: Coding, turn: int = 0) -> int:
    """The number on a picture that was made of a clip so coded; turn: degrees clockwise to bring it back."""
    with Image.open(io.BytesIO(picture.jpeg)) as opened:
        grey = opened.convert("L").rotate(-turn, expand=True)
    across, down = grey.width / coding.width, grey.height / coding.height
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, 8)
        at = ((column + 0.5) * coding.square * across, (row + 0.5) * coding.square * down)
        value = grey.getpixel((int(at[0]), int(at[1])))
        assert isinstance(value, int)
        number |= (value > 127) << bit
    return number


def packets(coding: Coding, times: Sequence[int], first: int = 0) -> tuple[Any, list[Packet]]:
    """An encoder's stream and its packets for frames shown at times, in milliseconds, numbered from first."""
    container = av.open(io.BytesIO(), "w", format="matroska")
    stream = _stream(container, coding)
    container.start_encoding()  # from here on the stream has what a template needs
    made: list[Packet] = []
    for number, time in enumerate(times, first):
        frame = av.VideoFrame.from_ndarray(numbered(number, coding), format="rgb24")
        frame.pts, frame.time_base = int(time * coding.ticks / TICKS), Fraction(1, coding.ticks)
        made += stream.encode(frame)
    return stream, [*made, *stream.encode(None)]


@contextmanager
def as_before() -> Iterator[None]:
    """This thread is scheduled as it was. SVT-AV1, used by root, makes it a real-time one: all that a test starts after
    it is one too, and leaves nobody else a CPU."""
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def clip(coding: Coding, times: Iterable[int]) -> bytes:
    """A clip whose frames, numbered from 0, are shown at these times in milliseconds, in any order of coding."""
    out = io.BytesIO()
    with as_before(), av.open(out, "w", format=coding.container, options=dict(coding.muxing)) as container:
        stream = _stream(container, coding)
        for codec in coding.beside:
            container.add_stream(codec)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number, coding), format="rgb24")
            frame.pts, frame.time_base = int(time * coding.ticks / TICKS), Fraction(1, coding.ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def _stream(container: Any, coding: Coding) -> Any:
    stream = container.add_stream(coding.codec, rate=coding.rate, options=dict(coding.options))
    stream.width, stream.height, stream.pix_fmt = coding.width, coding.height, coding.pixels
    stream.codec_context.time_base = Fraction(1, coding.ticks)
    stream.codec_context.thread_count = 1
    if coding.aspect:
        stream.codec_context.sample_aspect_ratio = coding.aspect
    if coding.rotation:
        stream.set_display_rotation(coding.rotation)
    return stream


def remuxed(coding: Coding, groups: Sequence[tuple[int, Sequence[Packet]]], template: Any) -> bytes:
    """Packets written again, each group moved by so many milliseconds."""
    out = io.BytesIO()
    with av.open(out, "w", format=coding.container, options=dict(coding.muxing)) as container:
        stream = container.add_stream_from_template(template)
        for shift, group in groups:
            for packet in group:
                again = Packet(bytes(packet))
                again.stream, again.time_base = stream, packet.time_base
                move = int(Fraction(shift, TICKS) / packet.time_base)
                again.pts, again.dts = packet.pts + move, packet.dts + move
                again.is_keyframe = packet.is_keyframe
                container.mux(again)
    return out.getvalue()


def at_rate(rate: int, frames: int, start: int = 0) -> list[int]:
    """The times of so many frames at a constant rate, in milliseconds."""
    return [start + number * TICKS // rate for number in range(frames)]


# MP4 boxes, for what no muxer would write


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterable[tuple[bytes, int, int]]:
    """(type, where the box begins, where it ends) of the boxes side by side."""
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        size = size or end - at
        yield kind, at, at + size
        at += max(size, 8)


def box(data: bytes, *path: bytes) -> tuple[int, int]:
    """Where the content of the first box at a path begins and ends."""
    start, end = 0, len(data)
    for kind in path:
        start, end = next((at + 8, stop) for name, at, stop in boxes(data, start, end) if name == kind)
    return start, end


def without(data: bytes, kind: bytes) -> bytes:
    """The file without its top-level boxes of a kind."""
    return b"".join(data[at:end] for name, at, end in boxes(data) if name != kind)


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def replaced(data: bytes, path: Sequence[bytes], content: bytes) -> bytes:
    """The file with another content in the box at a path, behind which no frames may lie: the boxes around it grow."""
    start, end = box(data, *path)
    grown = data[:start] + content + data[end:]
    for depth in range(1, len(path) + 1):
        at = box(data, *path[:depth])[0] - 8
        (size,) = struct.unpack_from(">I", data, at)
        grown = patched(grown, at, struct.pack(">I", size + len(content) - (end - start)))
    return grown


def index_first(data: bytes) -> bytes:
    """The file with its moov in front of its mdat, as for streaming."""
    moov = next(data[at:end] for name, at, end in boxes(data) if name == b"moov")
    start, _ = box(moov, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco")
    (count,) = struct.unpack_from(">I", moov, start + 4)
    offsets = struct.unpack_from(f">{count}I", moov, start + 8)
    moov = patched(moov, start + 8, struct.pack(f">{count}I", *(offset + len(moov) for offset in offsets)))
    ftyp = next(data[at:end] for name, at, end in boxes(data) if name == b"ftyp")
    return ftyp + moov + without(without(data, b"moov"), b"ftyp")


@cache
def plain(seconds: int = 3, **coding: Any) -> bytes:
    """An ordinary clip of 25 frames a second."""
    return clip(Coding(options=H264, **coding), at_rate(25, 25 * seconds))

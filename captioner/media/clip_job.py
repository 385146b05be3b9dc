"""Clips in a decoder process: what it imports before its doors close, and how it answers."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.subtitles.codeccontext  # PyAV imports it when it meets subtitles, and then there are no files any more
import numpy as np

from captioner.errors import MediaError
from captioner.media.watch import watch
from captioner.media.wire import MAX_BODY_BYTES, Header
from captioner.types import FrameBudget, PixelBudget


def warm_up(reader: str) -> None:
    """Look at one small clip: what is imported or opened late is imported and opened now, while it still can be."""
    os.environ.setdefault("PATH", "")  # decord adds to it
    av.logging.set_level(None)
    watch(io.BytesIO(_small_clip()), FrameBudget(pixels=PixelBudget(max_pixels=64), max_frames=4, reader=reader), 2**20)


class Borrowed(io.RawIOBase):
    """A file that was lent, by its descriptor: read and sought, and closed after its clip."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.lseek(descriptor, 0, os.SEEK_SET)  # its place is shared with whoever wrote it

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = os.read(self._descriptor, len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def answer(asked: Header, media: BinaryIO) -> tuple[Header, bytes]:
    """The frames of a clip, each distinct one once, and what is known of it; or the reason why there are none."""
    pixels = PixelBudget(**asked["frames"].pop("pixels"))
    try:
        decoded = watch(media, FrameBudget(pixels=pixels, **asked["frames"]), asked["most_pixels"])
    except MediaError as error:
        return {"reason": error.reason, "detail": error.detail}, b""
    distinct = list(dict.fromkeys(decoded.frames))
    size = sum(len(picture.jpeg) for picture in distinct)
    if size > MAX_BODY_BYTES:
        detail = f"its {len(distinct)} frames come to {size >> 20} MiB, and {MAX_BODY_BYTES >> 20} are held"
        return {"reason": "resource_exceeded", "detail": detail}, b""
    place = {picture: n for n, picture in enumerate(distinct)}
    header = {
        "original": [decoded.width, decoded.height],
        "pictures": [[picture.width, picture.height, len(picture.jpeg)] for picture in distinct],
        "order": [place[picture] for picture in decoded.frames],
        "times": decoded.times,
        "duration": decoded.duration,
        "flags": sorted(decoded.flags),
        "signals": dict(decoded.signals),
    }
    return header, b"".join(picture.jpeg for picture in distinct)


def _small_clip() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 60 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()

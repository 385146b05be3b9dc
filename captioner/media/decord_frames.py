"""Picked frames decoded by decord: the second reader, for whoever trusts or measures it."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

import av
import decord
import numpy as np
from PIL import Image

from captioner.media.clip import Clip, Table
from captioner.media.clip_frames import Shots, shots
from captioner.media.decode import encoded
from captioner.media.frame_pixels import Shrinker
from captioner.media.picks import picked
from captioner.types import Picture

# Codecs whose frames it numbers as they are shown.
NUMBERED = ("h264", "hevc", "vp8", "vp9", "libdav1d")


# Containers in which it finds the frame that it was asked for.
INDEXED = ("mp4", "mov", "webm", "mkv")


def decord_shots(clip: Clip, table: Table, at: Sequence[int], shrinker: Shrinker, media: BinaryIO) -> Shots:
    """The frame of each tick, by decord. It numbers frames in the order of their times and tells no broken ones.

    It seeks by a container's own index: in MPEG-TS and AVI it gave frames of seconds before and after. There PyAV
    reads, and where packets have not each a time of their own or are not all shown, or groups of pictures are open:
    decord's numbers and its frames part, as they do in MPEG-4 with B frames. So it does where decord refuses.
    """
    order, codec = sorted(table.pts), clip.stream.codec_context.codec.name
    whole = table.exact and not table.cut and len(table.shown) == len(order)
    # decord makes a copy of whatever it reads: what is too large to hold is not for it.
    if (
        isinstance(media, io.BytesIO)
        and clip.format in INDEXED
        and codec in NUMBERED
        and whole
        and not table.open_groups
    ):
        picks = picked(table.shown, at)
        with suppress(decord.DECORDError, RuntimeError):
            pictures = _pictures(clip, [bisect_left(order, pts) for pts in picks], len(order), shrinker, media)
            return Shots(at={tick: (pts, each) for tick, pts, each in zip(at, picks, pictures, strict=True)})
    clip.to_the_start()
    return shots(clip, table, at, shrinker, media)


def _pictures(clip: Clip, places: Sequence[int], frames: int, shrinker: Shrinker, media: io.BytesIO) -> list[Picture]:
    shrinker.measure(_first_frame(clip))
    width, height = shrinker.target
    # The same bytes with a place of its own: PyAV still reads the other one, and may go on where it was.
    own = io.BytesIO(media.getvalue())
    reader = decord.VideoReader(own, ctx=decord.cpu(0), width=width, height=height, num_threads=1)
    if len(reader) != frames:
        raise RuntimeError("decord counts other frames")
    seen = reader.get_batch(list(places)).asnumpy()
    return [encoded(Image.fromarray(np.ascontiguousarray(each))) for each in seen]


def _first_frame(clip: Clip) -> av.VideoFrame:
    clip.to_the_start()
    for packet in clip.packets():
        for frame in clip.stream.codec_context.decode(packet):
            return frame
    raise RuntimeError("no frame decodes")

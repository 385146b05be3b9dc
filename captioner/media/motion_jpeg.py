"""Frames of ours as one clip whose pictures are the very same JPEGs, for servers that take videos only as files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
from av.packet import Packet

from captioner.types import Picture

# SGLang looks at two frames a second of any clip: of one that has two a second it looks at all.
FRAMES_PER_SECOND = 2


def motion_jpeg(frames: Sequence[Picture]) -> bytes:
    """An MP4 of Motion JPEG, in which each frame lasts half a second; nothing is coded again."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_mux_stream(
            "mjpeg", rate=FRAMES_PER_SECOND, width=frames[0].width, height=frames[0].height
        )
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        for number, frame in enumerate(frames):
            packet = Packet(frame.jpeg)
            packet.stream, packet.time_base = stream, Fraction(1, FRAMES_PER_SECOND)
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
    return out.getvalue()

"""How a decoder process and its parent talk: frames of a JSON header and a body, over two pipes."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import orjson

Header = dict[str, Any]

LENGTHS = struct.Struct(">II")  # of the header and of the body, in bytes
# Of an answer: a child taken over may claim anything. A header says 40 bytes of each frame of a clip.
MAX_HEADER_BYTES, MAX_BODY_BYTES = 2**20, 2**26
OUT_OF_MEMORY = 71  # exit code of a decoder that could not even hold the answer


def frame_head(header: Header, body_bytes: int) -> bytes:
    """All of a frame but its body."""
    text = orjson.dumps(header)
    return LENGTHS.pack(len(text), body_bytes) + text


def send(stream: BinaryIO, header: Header, body: bytes = b"") -> None:
    stream.write(frame_head(header, len(body)))
    stream.write(body)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[Header, bytes] | None:
    """The next frame, None at the stream's end."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    header_bytes, body_bytes = LENGTHS.unpack(lengths)
    return orjson.loads(stream.read(header_bytes)), stream.read(body_bytes)

"""What surrounds a picture's pixels: metadata, trailing bytes and further frames, walked without decoding anything."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from captioner.errors import MediaError

# Photographs carry at most some 2 MiB (a CMYK profile, an XMP history); a bomb carries 10 MiB and more.
MAX_METADATA_BYTES = 4 * 2**20
MAX_BLOCKS = 65_536  # of chunks, segments or tags: a 64 MiB PNG of 8 KiB IDATs has 8,192


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """format: as Pillow spells it. metadata_bytes: unpacked. trailing_bytes: behind the first picture's end.

    scans: of a JPEG. animated: more than one frame. several_pictures: others stand beside the first (MPO, TIFF pages).
    """

    format: str
    metadata_bytes: int = 0
    trailing_bytes: int = 0
    animated: bool = False
    several_pictures: bool = False
    scans: int = 0


def envelope_of(media: bytes) -> Envelope:
    """Raises MediaError: undecodable (no known magic), truncated_image, metadata_too_large."""
    for magic, walk in WALKS:
        if magic.match(media):
            envelope = walk(media)
            _bound(envelope.metadata_bytes)
            return envelope
    raise MediaError("undecodable", "does not begin like a JPEG, PNG, WebP, GIF, BMP or TIFF")


def _bound(metadata_bytes: int, blocks: int = 0) -> None:
    if metadata_bytes > MAX_METADATA_BYTES:
        raise MediaError("metadata_too_large", f"more than {MAX_METADATA_BYTES} bytes of metadata")
    if blocks > MAX_BLOCKS:
        raise MediaError("metadata_too_large", f"more than {MAX_BLOCKS} blocks")


def _cut(what: str) -> NoReturn:
    raise MediaError("truncated_image", f"the bytes end inside {what}")


# The next marker in entropy-coded data: not a stuffed zero, a restart or a fill byte.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def _jpeg(media: bytes) -> Envelope:
    at, metadata, blocks, scans, several = 2, 0, 0, 0, False
    trailing = 0  # without an end marker: the decoder will say that the data is cut
    while found := _NEXT_MARKER.search(media, at):
        at, marker, blocks = found.end(), media[found.end() - 1], blocks + 1
        if marker == 0xD9:
            trailing = len(media) - at
            break
        if marker in (0x01, 0xD8):
            continue
        length = int.from_bytes(media[at : at + 2])
        several = several or (marker == 0xE2 and media[at + 2 : at + 6] == b"MPF\0")
        scans += marker == 0xDA
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            metadata += length
            _bound(metadata, blocks)
        at += max(2, length)
        if at > len(media):
            _cut("a JPEG segment")
    return Envelope(
        format="JPEG", metadata_bytes=metadata, trailing_bytes=trailing, several_pictures=several, scans=scans
    )


_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"))


def _png(media: bytes) -> Envelope:
    at, metadata, blocks, frames = 8, 0, 0, 1
    while at + 8 <= len(media):
        length, kind = struct.unpack_from(">I4s", media, at)
        body, at, blocks = at + 8, at + 12 + length, blocks + 1
        if at > len(media):
            _cut("a PNG chunk")
        if kind == b"acTL" and length >= 4:
            frames = int.from_bytes(media[body : body + 4])
        if kind not in _PIXEL_CHUNKS:
            metadata += _unpacked(kind, media[body : body + min(length, MAX_METADATA_BYTES + 1)])
        _bound(metadata, blocks)
        if kind == b"IEND":
            break
    else:
        at = len(media)
    return Envelope(format="PNG", metadata_bytes=metadata, trailing_bytes=len(media) - at, animated=frames > 1)


_COMPRESSED_CHUNKS = frozenset((b"zTXt", b"iTXt", b"iCCP"))


def _unpacked(kind: bytes, body: bytes) -> int:
    """Bytes this chunk becomes; of a zlib bomb no more is unpacked than shows it to be one."""
    start = body.find(b"\x78") if kind in _COMPRESSED_CHUNKS else -1
    unpacked = 0
    while start >= 0 and unpacked == 0:  # an iTXt's language may hold an `x` before the stream begins
        try:
            unpacked = len(zlib.decompressobj().decompress(body[start:], MAX_METADATA_BYTES + 1))
        except zlib.error:
            unpacked = 0
        start = body.find(b"\x78", start + 1, 256)
    return max(len(body), unpacked)


def _webp(media: bytes) -> Envelope:
    end = 8 + int.from_bytes(media[4:8], "little")
    if end > len(media):
        _cut("its RIFF container")
    at, metadata, frames, blocks = 12, 0, 0, 0
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", media, at)
        at, blocks = at + 8 + length + length % 2, blocks + 1
        frames += kind == b"ANMF"
        if kind not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"):
            metadata += length
        _bound(metadata, blocks)
    return Envelope(format="WEBP", metadata_bytes=metadata, trailing_bytes=len(media) - end, animated=frames > 1)


def _gif(media: bytes) -> Envelope:
    at, metadata, images = 13 + _colour_table(media, 10), 0, 0
    while at < len(media):
        kind = media[at]
        if kind == 0x2C:  # an image: its descriptor, colour table and least code size, then data
            images += 1
            if images > 1:  # nobody needs to know how many more
                return Envelope(format="GIF", metadata_bytes=metadata, animated=True)
            at = _sub_blocks(media, at + 11 + _colour_table(media, at + 9))
            if at > len(media):
                _cut("the first GIF frame")
        elif kind == 0x21:
            after = _sub_blocks(media, at + 2)
            metadata, at = metadata + after - at, after
            _bound(metadata)
        else:
            break
    at += at < len(media) and media[at] == 0x3B
    return Envelope(format="GIF", metadata_bytes=metadata, trailing_bytes=max(0, len(media) - at))


def _colour_table(media: bytes, packed_at: int) -> int:
    if packed_at >= len(media):
        _cut("a GIF header")
    packed = media[packed_at]
    return 3 << (packed % 8 + 1) if packed & 0x80 else 0


def _sub_blocks(media: bytes, at: int) -> int:
    """Where the blocks end; behind the end of media if their closing zero is missing."""
    while at < len(media) and media[at]:
        at += 1 + media[at]
    return at + 1


_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_LAYOUT_TAGS = frozenset((273, 279, 320, 324, 325))  # where strips and tiles lie, and the colour map


def _tiff(media: bytes) -> Envelope:
    order = "<" if media[:2] == b"II" else ">"
    big = media[2:4] in (b"+\0", b"\0+")
    count_as, entry_as, offset_as = (
        (order + "Q", order + "HHQ8x", order + "Q") if big else (order + "H", order + "HHI4x", order + "I")
    )
    try:
        (at,) = struct.unpack_from(offset_as, media, 8 if big else 4)
        (entries,) = struct.unpack_from(count_as, media, at)
        at, metadata = at + struct.calcsize(count_as), 0
        _bound(0, entries)
        for _ in range(entries):
            tag, kind, count = struct.unpack_from(entry_as, media, at)
            at += struct.calcsize(entry_as)
            metadata += 0 if tag in _TIFF_LAYOUT_TAGS else count * _TIFF_BYTES.get(kind, 1)
        (following,) = struct.unpack_from(offset_as, media, at)
    except (struct.error, OverflowError):  # a BigTIFF may point 2^63 bytes away
        _cut("the TIFF directory")
    return Envelope(format="TIFF", metadata_bytes=metadata, several_pictures=following != 0)


def _bmp(media: bytes) -> Envelope:
    return Envelope(format="BMP")  # its header says nothing of its end that writers agree on


# First match wins; WebP's magic stands around its length.
WALKS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Envelope]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
)

"""What a picture's first bytes say: format by magic, upright size, EXIF orientation; nothing is decoded."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Literal

from captioner.errors import MediaError
from captioner.media.named import known_format
from captioner.types import Header

READABLE = ("jpeg", "png", "webp", "gif", "bmp", "tiff")

MAX_METADATA_BYTES = 4 * 2**20
# Parts are segments, chunks, sub-blocks: 4 MiB of metadata in GIF's sub-blocks of 255 bytes are 16,448 of them.
MAX_PARTS = 16_448

_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
_TIFF_METADATA = frozenset({270, 700, 33723, 34377, 34675})  # description, XMP, IPTC, Photoshop, ICC
_TIFF_WANTED = frozenset({_ORIENTATION, _WIDTH, _HEIGHT}) | _TIFF_METADATA

_U16_PAIR_LE = Struct("<HH")
_U32_PAIR_BE = Struct(">II")
_U32_LE = Struct("<I")
_CHUNK_BE = Struct(">I4s")
_CHUNK_LE = Struct("<4sI")
_GIF_SCREEN = Struct("<HHB")
_BMP_SIZES = Struct("<Iii")
_GIF_FRAME = Struct("<HHHH")


def read_header(media: bytes) -> Header:
    """The header of a stored picture; width and height are 0 for a format that is only known by its magic.

    Raises MediaError: `undecodable` for an unknown magic or a header that is cut or contradicts itself,
    `metadata_too_large` for more than 4 MiB of EXIF, ICC, XMP or text before the pixels.
    """
    for magic, name, read in _READERS.get(media[:2], ()):
        if media.startswith(magic):
            try:
                return read(media)
            except (IndexError, StructError):
                raise _undecodable(f"the {name} header is cut after {len(media)} bytes") from None
    known = known_format(media)
    if known is None:
        raise _undecodable(f"no known picture begins with the bytes {media[:8].hex() or '(none)'}")
    return Header(format=known, width=0, height=0)


def exif_orientation(media: bytes, start: int, stop: int) -> int:
    """The orientation, 1 to 8, in the EXIF block media[start:stop]; 1 where it says none or is broken."""
    if media.startswith(b"Exif\0\0", start):
        start += 6
    layout = _LAYOUTS.get(media[start : start + 4])
    if layout is None:
        return 1
    try:
        entries = _entries(layout, media, start, stop)
    except StructError:
        return 1
    size, mark = layout.entry.size, layout.orientation
    place = entries.rfind(mark)  # of several entries the last counts
    while place % size and place > 0:
        place = entries.rfind(mark, 0, place + 1)
    if place < 0 or place % size:
        return 1
    _, kind, length, raw = layout.entry.unpack_from(entries, place)
    value = _integer(layout, kind, length, raw)
    return value if 1 <= value <= 8 else 1


def _undecodable(detail: str) -> MediaError:
    return MediaError("undecodable", detail)


def _metadata_too_large(size: int) -> MediaError:
    return MediaError("metadata_too_large", f"{size} bytes of metadata; at most {MAX_METADATA_BYTES} would be right")


def _too_many_parts(what: str) -> MediaError:
    return MediaError("metadata_too_large", f"more than {MAX_PARTS} {what} before the pixels")


def _header(name: str, width: int, height: int, orientation: int = 1) -> Header:
    """Header(...) in a third of the time, which is most of a BMP's: frozen dataclasses look up each setter."""
    header = _blank(Header)
    _set_format(header, name)
    _set_width(header, width)
    _set_height(header, height)
    _set_orientation(header, orientation)
    return header


_blank = object.__new__
_set_format, _set_width, _set_height, _set_orientation = (
    vars(Header)[each].__set__ for each in ("format", "width", "height", "orientation")
)


def _upright(name: str, width: int, height: int, orientation: int) -> Header:
    if orientation >= 5:
        width, height = height, width
    return _header(name, width, height, orientation)


# JPEG (ITU T.81 annex B)

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LONE = frozenset({0x00, 0x01, 0xFF, *range(0xD0, 0xD9)})
_JPEG_METADATA = frozenset({0xFE, *range(0xE0, 0xF0)})
_JPEG_SEGMENT = Struct(">BBHxHH")  # 0xFF, marker, length; height and width where the marker is a frame's


def _jpeg(media: bytes) -> Header:
    at, metadata, orientation = 2, 0, 0
    for _ in range(MAX_PARTS):
        lead, marker, length, height, width = _JPEG_SEGMENT.unpack_from(media, at)
        if lead != 0xFF or marker in _JPEG_LONE:
            at = _jpeg_next_marker(media, at)
            continue
        if marker in _JPEG_FRAMES:
            return _upright("jpeg", width, height, orientation or 1)
        if marker == 0xDA or marker == 0xD9 or length < 2:
            raise _undecodable("a jpeg without a frame header before its first scan")
        if marker in _JPEG_METADATA:
            metadata += length
            if metadata > MAX_METADATA_BYTES:
                raise _metadata_too_large(metadata)
            if marker == 0xE1 and not orientation and media.startswith(b"Exif\0\0", at + 4):
                orientation = exif_orientation(media, at + 4, at + 2 + length)
        at += 2 + length
    raise _too_many_parts("jpeg markers")


def _jpeg_next_marker(media: bytes, at: int) -> int:
    """Where decoders go on after junk or a marker without a length: at the next 0xFF that can begin a segment."""
    if media[at] == 0xFF:
        at += 1 if media[at + 1] == 0xFF else 2
    found = media.find(b"\xff", at)
    return found if found >= 0 else len(media)


# PNG (ISO 15948)

_PNG_METADATA = frozenset({b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt"})


def _png(media: bytes) -> Header:
    if media[12:16] != b"IHDR":
        raise _undecodable("a png that does not begin with IHDR")
    width, height = _U32_PAIR_BE.unpack_from(media, 16)
    at, end, metadata, orientation = 33, len(media) - 8, 0, 1
    for _ in range(MAX_PARTS):
        if at > end:
            break
        size, kind = _CHUNK_BE.unpack_from(media, at)
        if kind == b"IDAT":
            break
        if kind in _PNG_METADATA:
            metadata += size
            if metadata > MAX_METADATA_BYTES:
                raise _metadata_too_large(metadata)
            if kind == b"eXIf":
                orientation = exif_orientation(media, at + 8, at + 8 + size)
        at += 12 + size
    else:
        raise _too_many_parts("png chunks")
    return _upright("png", width, height, orientation)


# GIF (GIF89a specification)

_GIF_EXTENSION, _GIF_IMAGE = b"!,"
_GIF_BLOCK = re.compile(rb"[!,;]")


def _gif(media: bytes) -> Header:
    """The logical screen, enlarged by a first frame that leaves it, as decoders enlarge it."""
    width, height, packed = _GIF_SCREEN.unpack_from(media, 6)
    at = 13 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    parts = 0
    while (mark := media[at]) != _GIF_IMAGE:
        if mark != _GIF_EXTENSION:
            at = _gif_next_block(media, at)
            continue
        at += 2
        parts += 1
        while length := media[at]:
            at += length + 1
            parts += 1
            if parts > MAX_PARTS:
                raise _too_many_parts("gif blocks")
        at += 1
    left, top, frame_width, frame_height = _GIF_FRAME.unpack_from(media, at + 1)
    right, bottom = left + frame_width, top + frame_height
    return _header("gif", right if right > width else width, bottom if bottom > height else height)


def _gif_next_block(media: bytes, at: int) -> int:
    """Where decoders go on after junk: at the next byte that begins an image or an extension before the trailer."""
    block = _GIF_BLOCK.search(media, at)
    if block is None or block[0] == b";":
        raise _undecodable("a gif without a frame")
    return block.start()


# WebP (RFC 9649)

_WEBP_METADATA = frozenset({b"ICCP", b"EXIF", b"XMP "})
_WEBP_HAS_EXIF = 0x08


def _webp(media: bytes) -> Header:
    if media[8:12] != b"WEBP":
        raise _undecodable("a RIFF file that holds no WebP")
    kind = media[12:16]
    if kind == b"VP8X":
        return _webp_extended(media)
    if kind == b"VP8 ":
        if media[23:26] != b"\x9d\x01\x2a":
            raise _undecodable("a webp whose first frame is no key frame")
        width, height = _U16_PAIR_LE.unpack_from(media, 26)
        return _header("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and media[20] == 0x2F:
        (bits,) = _U32_LE.unpack_from(media, 21)
        return _header("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    raise _undecodable("a webp without VP8, VP8L or VP8X")


def _webp_extended(media: bytes) -> Header:
    flags = media[20]
    width, height = int.from_bytes(media[24:27], "little") + 1, int.from_bytes(media[27:30], "little") + 1
    at, end, metadata, orientation = 30, len(media) - 8, 0, 1
    for _ in range(MAX_PARTS):
        if at > end:
            break
        kind, size = _CHUNK_LE.unpack_from(media, at)
        if kind in _WEBP_METADATA:
            metadata += size
            if metadata > MAX_METADATA_BYTES:
                raise _metadata_too_large(metadata)
            if kind == b"EXIF" and flags & _WEBP_HAS_EXIF:
                orientation = exif_orientation(media, at + 8, at + 8 + size)
        at += 8 + size + (size & 1)
    else:
        raise _too_many_parts("webp chunks")
    return _upright("webp", width, height, orientation)


# BMP

_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})


def _bmp(media: bytes) -> Header:
    header_size, width, height = _BMP_SIZES.unpack_from(media, 14)
    if header_size == 12:
        width, height = _U16_PAIR_LE.unpack_from(media, 18)
    elif header_size not in _BMP_HEADERS:
        raise _undecodable(f"a bmp whose header is {header_size} bytes; 12, 40, 52, 56, 64, 108 or 124 would be right")
    if width < 0:
        raise _undecodable("a bmp with a negative width")
    return _header("bmp", width, abs(height))


# TIFF 6.0, BigTIFF, and the EXIF block, which is a TIFF


@dataclass(frozen=True, slots=True, kw_only=True)
class _TiffLayout:
    """How one kind of TIFF lays out its first directory; first: where the directory's offset stands."""

    order: Literal["little", "big"]
    orientation: bytes
    first: int
    offset: Struct
    count: Struct
    entry: Struct


def _layouts() -> dict[bytes, _TiffLayout]:
    layouts = {}
    orders: tuple[tuple[str, Literal["little", "big"], bytes, bytes], ...] = (
        ("<", "little", b"II*\0", b"II+\0"),
        (">", "big", b"MM\0*", b"MM\0+"),
    )
    for code, order, magic, big_magic in orders:
        classic, big = ("I", "H", "HHI4s"), ("Q", "Q", "HHQ8s")
        for mark, first, codes in ((magic, 4, classic), (big_magic, 8, big)):
            offset, count, entry = (Struct(code + each) for each in codes)
            tag = _ORIENTATION.to_bytes(2, order)
            layouts[mark] = _TiffLayout(
                order=order, orientation=tag, first=first, offset=offset, count=count, entry=entry
            )
    return layouts


_LAYOUTS = _layouts()
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 16: 8}
_INTEGERS = frozenset({3, 4, 16})  # SHORT, LONG, LONG8


def _entries(layout: _TiffLayout, media: bytes, start: int, stop: int) -> bytes:
    """The entries of the first directory of the TIFF in media[start:stop]; raises struct.error where it is cut."""
    stop = min(stop, len(media))
    (offset,) = layout.offset.unpack_from(media, start + layout.first)
    at = start + offset + layout.count.size
    if at > stop:
        raise StructError("the directory lies behind the end")
    (count,) = layout.count.unpack_from(media, start + offset)
    # 65,535 entries are all that a classic TIFF can count: hostile BigTIFF counts stop there too
    return media[at : at + min(count, (stop - at) // layout.entry.size, 0xFFFF) * layout.entry.size]


def _integer(layout: _TiffLayout, kind: int, length: int, raw: bytes) -> int:
    """An entry's value, -1 where it is not one plain integer."""
    if kind not in _INTEGERS or length != 1:
        return -1
    return int.from_bytes(raw[: _TYPE_BYTES[kind]], layout.order)


def _directory(media: bytes, wanted: frozenset[int]) -> dict[int, tuple[int, int]]:
    """(bytes, value) of the wanted tags in a TIFF's first directory. Raises struct.error where the directory is cut."""
    layout = _LAYOUTS[media[:4]]
    return {
        tag: (length * _TYPE_BYTES.get(kind, 8), _integer(layout, kind, length, raw))
        for tag, kind, length, raw in layout.entry.iter_unpack(_entries(layout, media, 0, len(media)))
        if tag in wanted
    }


def _tiff(media: bytes) -> Header:
    tags = _directory(media, _TIFF_WANTED)
    if tags.get(_WIDTH, (0, -1))[1] < 0 or tags.get(_HEIGHT, (0, -1))[1] < 0:
        raise _undecodable("a tiff whose first directory has no width and height")
    metadata = sum(size for tag, (size, _) in tags.items() if tag in _TIFF_METADATA)
    if metadata > MAX_METADATA_BYTES:
        raise _metadata_too_large(metadata)
    orientation = tags.get(_ORIENTATION, (0, 1))[1]
    return _upright("tiff", tags[_WIDTH][1], tags[_HEIGHT][1], orientation if 1 <= orientation <= 8 else 1)


_MAGICS: tuple[tuple[bytes, str, Callable[[bytes], Header]], ...] = (
    (b"\xff\xd8\xff", "jpeg", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "png", _png),
    (b"RIFF", "webp", _webp),
    (b"GIF89a", "gif", _gif),
    (b"GIF87a", "gif", _gif),
    (b"BM", "bmp", _bmp),
    *((magic, "tiff", _tiff) for magic in _LAYOUTS),
)
_READERS = {magic[:2]: tuple(row for row in _MAGICS if row[0][:2] == magic[:2]) for magic, _, _ in _MAGICS}

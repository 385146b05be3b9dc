"""Bad pictures made on the spot, each with the reason it goes for; cases by their number in the list of faults."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO

import numpy as np
from PIL import Image

SIDE = 540  # px: over the screens' 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One bad picture. case: its number in the list of faults."""

    case: int
    name: str
    reason: str
    make: Callable[[], bytes]


@lru_cache
def made(bad: Bad) -> bytes:
    """Its bytes: three test files want all of them, and to make them takes 6 s."""
    return bad.make()


@lru_cache
def photo(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Coloured waves with a little noise: its data is long enough to be cut."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(1).normal(0, 4, (height, width))
    red, green, blue = x * 200 / width, y * 200 / height, 128 + 90 * np.sin(x / 31) * np.cos(y / 23)
    return Image.fromarray(np.clip(np.dstack((red, green, blue)) + noise[..., None], 0, 255).astype(np.uint8))


def stored(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def of(kind: str, **options: object) -> bytes:
    """The photo in a format."""
    return stored(photo(), kind, **options)


def sized(width: int, height: int, kind: str = "PNG") -> bytes:
    return stored(Image.new("RGB", (width, height), (90, 120, 60)), kind)


def cut(kind: str, kept: float, **options: object) -> bytes:
    media = of(kind, **options)
    return media[: int(len(media) * kept)]


def closed_jpeg() -> bytes:
    """Half a JPEG with an end marker: a fetcher's repair that fills the rest with grey."""
    return cut("JPEG", 0.5) + b"\xff\xd9"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, side: int = SIDE, bits: int = 8, colour: int = 2, data: bytes | None = None) -> bytes:
    """A PNG by hand. data: of the IDAT, zlib and all; by default black rows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
    rows = zlib.compress(bytes((3 * side + 1) * side)) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def patched(media: bytes, at: int, new: bytes) -> bytes:
    return media[:at] + new + media[at + len(new) :]


def scrambled(kind: str, start: float, **options: object) -> bytes:
    """Sound to `start` of its length, then 400 bytes of noise, then sound again."""
    media = of(kind, **options)
    noise = np.random.default_rng(7).integers(0, 256, 400, np.uint8).tobytes()
    return patched(media, int(len(media) * start), noise)


def claims(width: int, height: int) -> dict[str, Callable[[], bytes]]:
    """Small files of each format whose header claims so many px."""
    return {
        "png": lambda: patched(of("PNG"), 16, struct.pack(">II", width, height)),
        "jpeg": lambda: _jpeg_claims(width, height),
        "gif": lambda: patched(of("GIF"), 6, struct.pack("<HH", width, height)),
        "bmp": lambda: patched(sized(8, 8, "BMP"), 18, struct.pack("<ii", width, height)),
        "webp": lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + _three(width) + _three(height) + bytes(8),
        "tiff": lambda: _tiff((256, 4, 1, width), (257, 4, 1, height)),
    }


def _three(side: int) -> bytes:
    return (side - 1).to_bytes(3, "little")


def _jpeg_claims(width: int, height: int) -> bytes:
    media = of("JPEG")
    return patched(media, media.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def _tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF of a directory and nothing else. entries: tag, type, count, value."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def exif_segments(count: int) -> bytes:
    return b"\xff\xd8" + (b"\xff\xe1\xff\xff" + bytes(65_533)) * count + of("JPEG")[2:]


def random_bytes(size: int, head: bytes = b"") -> bytes:
    return head + np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()


def _text_bomb(kind: bytes, head: bytes, size: int) -> Callable[[], bytes]:
    return lambda: png(chunk(kind, head + zlib.compress(bytes(size), 1)))


def heif(brand: bytes) -> bytes:
    return b"\0\0\0\x1cftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(400)


# name, reason, how to make it
NO_PICTURE: list[tuple[str, Callable[[], bytes]]] = [
    ("no bytes", lambda: b""),
    ("one byte", lambda: b"\xff"),
    ("zeros", lambda: bytes(5000)),
    ("noise", partial(random_bytes, 5000)),
    ("an HTML error page", lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    ("JSON", lambda: b'{"error": "forbidden"}'),
    ("plain text", lambda: b"The picture you asked for has moved.\n" * 20),
    ("a zip", lambda: b"PK\x03\x04" + bytes(200)),
    ("gzip", lambda: b"\x1f\x8b\x08\0" + bytes(200)),
    ("an ELF program", lambda: b"\x7fELF\x02\x01\x01" + bytes(200)),
    ("a JPEG's magic and noise", partial(random_bytes, 3000, b"\xff\xd8\xff\xe0\0\x10JFIF\0")),
    ("a PNG's magic and noise", partial(random_bytes, 3000, b"\x89PNG\r\n\x1a\n")),
    ("a GIF's magic alone", lambda: b"GIF89a"),
    ("a GIF without a frame", lambda: b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0, 0, 0) + b";"),
    ("a RIFF that is a sound", lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)),
    ("a WebP of an unknown kind", lambda: b"RIFF\x24\0\0\0WEBPVP9 " + bytes(40)),
    ("a BMP of an unknown header", lambda: patched(of("BMP"), 14, struct.pack("<I", 99))),
    ("a BMP of negative width", lambda: patched(of("BMP"), 18, struct.pack("<i", -SIDE))),
    ("a TIFF without sides", lambda: _tiff((259, 3, 1, 1))),
    ("a TIFF whose directory is far away", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100)),
    ("a JPEG with its scan before its frame", lambda: b"\xff\xd8\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(500)),
    ("a PNG that does not begin with IHDR", lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a\0b") * 9),
    ("a PNG of 3 bits", lambda: png(bits=3)),
    ("a PNG of an unknown colour type", lambda: png(colour=5)),
    ("a PNG whose data is not zlib", lambda: png(data=b"no zlib stream at all, but text" * 50)),
    ("a PNG with a damaged checksum", lambda: _damaged_crc()),
    ("a WebP with noise in its frame", partial(scrambled, "WEBP", 0.02, quality=80)),
]
TRUNCATED: list[tuple[str, Callable[[], bytes]]] = [
    *((f"a JPEG at {kept}", partial(cut, "JPEG", kept)) for kept in (0.3, 0.6, 0.99)),
    *((f"a progressive JPEG at {kept}", partial(cut, "JPEG", kept, progressive=True)) for kept in (0.5, 0.95)),
    *((f"a PNG at {kept}", partial(cut, "PNG", kept)) for kept in (0.3, 0.6, 0.99)),
    *((f"a WebP at {kept}", partial(cut, "WEBP", kept)) for kept in (0.5, 0.99)),
    ("a lossless WebP at 0.7", partial(cut, "WEBP", 0.7, lossless=True)),
    ("a GIF at 0.5", partial(cut, "GIF", 0.5)),
    ("a BMP at 0.5", partial(cut, "BMP", 0.5)),
    ("a half JPEG that was closed", closed_jpeg),
    ("a PNG with few rows", lambda: png(data=zlib.compress(bytes(2000)))),
]
BOMBS = claims(60_000, 60_000)
LARGE_METADATA: list[tuple[str, Callable[[], bytes]]] = [
    ("zTXt of 200 MB", _text_bomb(b"zTXt", b"a\0\0", 200_000_000)),
    ("iTXt of 50 MB", _text_bomb(b"iTXt", b"x\0\1\0xx\0\0", 50_000_000)),
    ("iCCP of 50 MB", _text_bomb(b"iCCP", b"icc\0\0", 50_000_000)),
    ("EXIF of 10 MB in a PNG", lambda: png(chunk(b"eXIf", bytes(10_000_000)))),
    ("a hundred thousand texts", lambda: png(chunk(b"tEXt", b"a\0b") * 100_000)),
    ("EXIF segments of 10 MB", partial(exif_segments, 160)),
    ("a TIFF's profile of 10 MB", lambda: _tiff((256, 4, 1, SIDE), (257, 4, 1, SIDE), (34675, 7, 10_000_000, 8))),
]
TOO_SMALL = [(1, 1), (513, 1), (1, 10_000), (10_000, 1), (512, 512), (2000, 512), (64, 64)]
TOO_LONG = [(513, 3000), (6000, 600), (10_000, 520)]
NO_SIDES = ("png", "jpeg", "bmp", "tiff")
UNSUPPORTED: list[tuple[str, bytes]] = [
    ("AVIF", heif(b"avif")),
    ("HEIC", heif(b"heic")),
    ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100)),
    ("a bare JPEG XL stream", b"\xff\x0a" + bytes(100)),
    ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100)),
    ("PSD", b"8BPS\0\1" + bytes(100)),
    ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 600 600\n"),
    ("PDF", b"%PDF-1.7\n" + bytes(100)),
    ("FITS", b"SIMPLE  =                    T" + b" " * 2000),
    ("ICNS", b"icns\0\0\0\x64" + bytes(100)),
    ("ICO", b"\0\0\1\0\1\0" + bytes(100)),
    ("WMF", b"\xd7\xcd\xc6\x9a" + bytes(100)),
    ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="600" height="600"/>'),
    ("SVG behind an XML head", b'<?xml version="1.0"?><!DOCTYPE svg><svg width="600"/>'),
    ("an MP4", b"\0\0\0\x18ftypisom" + bytes(100)),
    ("PNM", b"P6\n600 600\n255\n" + bytes(100)),
]
STRANGE_PIXELS: list[tuple[str, Callable[[], bytes]]] = [
    ("32-bit integers", lambda: stored(Image.new("I", (SIDE, SIDE), 70_000), "TIFF")),
    ("floats over 255", lambda: stored(Image.new("F", (SIDE, SIDE), 1e4), "TIFF")),
    ("floats below 0", lambda: stored(Image.new("F", (SIDE, SIDE), -0.5), "TIFF")),
    ("floats that are none", lambda: stored(Image.new("F", (SIDE, SIDE), float("nan")), "TIFF")),
]


def _damaged_crc() -> bytes:
    media = of("PNG")
    return patched(media, 29, bytes(4))


def bad_pictures() -> Iterator[Bad]:
    """All of them, by case."""
    yield from (Bad(case=21, name=n, reason="undecodable", make=make) for n, make in NO_PICTURE)
    yield from (Bad(case=22, name=n, reason="truncated_image", make=make) for n, make in TRUNCATED)
    yield from (Bad(case=23, name=f"a {n} bomb", reason="too_many_pixels", make=make) for n, make in BOMBS.items())
    yield from (Bad(case=24, name=n, reason="metadata_too_large", make=make) for n, make in LARGE_METADATA)
    for width, height in TOO_SMALL:
        make = partial(sized, width, height)
        yield Bad(case=25, name=f"{width} x {height}", reason="below_min_resolution", make=make)
    for width, height in TOO_LONG:
        yield Bad(case=25, name=f"{width} x {height}", reason="extreme_aspect", make=partial(sized, width, height))
    none = claims(0, 0)
    yield from (Bad(case=25, name=f"a {n} of 0 x 0", reason="below_min_resolution", make=none[n]) for n in NO_SIDES)
    yield from (Bad(case=27, name=n, reason="unsupported_mode", make=make) for n, make in STRANGE_PIXELS)
    for name, media in UNSUPPORTED:
        yield Bad(case=30, name=name, reason="unsupported_format", make=partial(bytes, media))
    yield Bad(case=31, name="over the limit of bytes", reason="too_many_bytes", make=lambda: of("JPEG") + bytes(2**25))


BAD_PICTURES = tuple(bad_pictures())

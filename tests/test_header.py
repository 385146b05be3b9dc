"""Headers: the right size and orientation of every format, and a reason for every other byte string."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from captioner.errors import MediaError
from captioner.media.header import MAX_METADATA_BYTES, MAX_PARTS, READABLE, read_header
from captioner.types import Header

WITH_EXIF = ("jpeg", "png", "webp", "tiff")
MAGICS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBPVP8X",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"RIFF\0\0\0\0WEBPVP8L",
    b"BM",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0",
    b"\0\0\0\x18ftyp",
    b"<svg",
)


def picture(name: str, size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(out, name, **options)
    return out.getvalue()


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block of one directory with two entries."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(f"{order}IHHHI4s", 8, 2, 0x010F, 2, 4, b"Me!\0")
    body += struct.pack(f"{order}HHIHHI", 0x0112, 3, 1, orientation, 0, 0)
    return b"Exif\0\0" + mark + body


def turned(name: str) -> dict[str, Any]:
    """Options that lay a picture on its side, where the format can say so."""
    return {"exif": exif(6)} if name in WITH_EXIF else {}


def reason(media: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        read_header(media)
    assert "0x" not in caught.value.detail and "Error" not in caught.value.detail
    return caught.value.reason


def png(*chunks: tuple[bytes, bytes], width: int = 3, height: int = 2) -> bytes:
    whole = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks)
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in whole)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


FRAME = segment(0xC0, struct.pack(">BHHB", 8, 40, 60, 0) + b"\0\0\0")


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("size", [(1, 1), (60, 40), (40, 60), (1, 3000), (4097, 7)])
def test_every_readable_format_says_its_size(name: str, size: tuple[int, int]) -> None:
    assert read_header(picture(name, size)) == Header(format=name, width=size[0], height=size[1])


@pytest.mark.parametrize("name", WITH_EXIF)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_one_of_the_upright_picture(name: str, orientation: int) -> None:
    media = picture(name, exif=exif(orientation))
    with Image.open(io.BytesIO(media)) as image:
        upright = ImageOps.exif_transpose(image).size
    header = read_header(media)
    assert ((header.width, header.height), header.orientation) == (upright, orientation)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_exif_is_read_in_both_byte_orders(name: str, order: str) -> None:
    assert read_header(picture(name, exif=exif(6, order))).orientation == 6


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int) -> None:
    assert read_header(picture("jpeg", exif=exif(value))) == Header(format="jpeg", width=60, height=40)


@pytest.mark.parametrize("cut", range(6, 40))
def test_cut_exif_turns_nothing_and_hides_no_size(cut: int) -> None:
    # the entry of the orientation, the second of two, ends at byte 40 of the block
    media = b"\xff\xd8" + segment(0xE1, exif(6)[:cut]) + FRAME
    assert read_header(media) == Header(format="jpeg", width=60, height=40)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"progressive": True}, "jpeg"),
        ({"lossless": True}, "webp"),
        ({"lossless": False, "icc_profile": b"x" * 500}, "webp"),
        ({"save_all": True, "append_images": [Image.new("RGB", (60, 40), "red")]}, "gif"),
        ({"save_all": True, "append_images": [Image.new("RGB", (60, 40), "red")]}, "webp"),
        ({"save_all": True, "append_images": [Image.new("RGB", (60, 40), "red")]}, "png"),
        ({"compression": "tiff_lzw"}, "tiff"),
        ({"big_tiff": True}, "tiff"),
        ({"icc_profile": b"x" * 100_000}, "jpeg"),
        ({"comment": b"c" * 60_000}, "jpeg"),
        ({"comment": b"c" * 60_000}, "gif"),
    ],
)
def test_variants_of_a_format_are_read_too(options: dict[str, Any], name: str) -> None:
    assert read_header(picture(name, **options)) == Header(format=name, width=60, height=40)


def test_a_big_endian_tiff_is_read() -> None:
    entries = struct.pack(">HHIHH", 256, 3, 1, 60, 0) + struct.pack(">HHII", 257, 4, 1, 40)
    entries += struct.pack(">HHIHH", 274, 3, 1, 8, 0)
    media = b"MM\0*" + struct.pack(">IH", 8, 3) + entries + bytes(4)
    assert read_header(media) == Header(format="tiff", width=40, height=60, orientation=8)


def test_old_and_top_down_bitmaps_are_read() -> None:
    os2 = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 60, 40, 1, 24)
    top_down = b"BM" + bytes(12) + struct.pack("<Iii", 40, 60, -40)
    assert read_header(os2) == read_header(top_down) == Header(format="bmp", width=60, height=40)


def test_a_gif_is_as_large_as_its_first_frame_needs() -> None:
    media = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"," + struct.pack("<HHHHB", 5, 6, 60_000, 60_000, 0)
    assert read_header(media) == Header(format="gif", width=60_005, height=60_006)


def test_a_jpeg_in_a_jpeg_and_fill_bytes_and_junk_do_not_mislead() -> None:
    thumbnail = segment(0xE1, b"Exif\0\0" + picture("jpeg", (8, 8)))
    media = b"\xff\xd8" + thumbnail + b"\xff\xff\xff" + segment(0xFE, b"text") + b"junk" + FRAME
    assert read_header(media) == Header(format="jpeg", width=60, height=40)


def test_a_bomb_is_told_by_its_header_alone() -> None:
    assert read_header(png((b"IDAT", b"x"), width=60_000, height=60_000)).width == 60_000


def test_the_extension_never_counts_and_bytes_behind_the_picture_neither() -> None:
    assert read_header(picture("png") + b"PK\x03\x04<html>").format == "png"


@pytest.mark.parametrize(
    ("media", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1", "avif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "mp4"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
        (b"\xff\x4f\xff\x51\0", "jpeg2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"\xff\x0a\xfa", "jxl"),
        (b"8BPS\0\1", "psd"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "eps"),
        (b"%PDF-1.7", "pdf"),
        (b"SIMPLE  =                    T", "fits"),
        (b"icns\0\0\1\0", "icns"),
        (b"\0\0\1\0\1\0", "ico"),
        (b"\xd7\xcd\xc6\x9a\0\0", "wmf"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", "svg"),
        (b"P6\n3 2\n255\n", "pnm"),
        (b"v/1\1\2\0\0\0", "exr"),
        (b"DDS |\0\0\0", "dds"),
        (b"qoif\0\0\0\x3c", "qoi"),
    ],
)
def test_formats_known_by_name_only_have_no_size(media: bytes, name: str) -> None:
    assert read_header(media) == Header(format=name, width=0, height=0)


@pytest.mark.parametrize(
    "media",
    [
        b"",
        b"\xff",
        b"\xff\xd8\xff",
        b"hello, I am no picture at all",
        b"<html><body>404 Not Found</body></html>",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIDAT" + bytes(20),
        b"GIF89a\1\0\1\0",
        b"GIF89a" + bytes(7) + b";",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"RIFF\x24\0\0\0WEBPVP9 " + bytes(20),
        b"RIFF\x24\0\0\0WEBPVP8 " + bytes(20),
        b"BMW is a maker of cars and motorcycles",
        b"BM" + bytes(12) + struct.pack("<Iii", 40, -60, 40),
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\0\0" + bytes(9),
        b"II+\0\x08\0\0\0" + b"\xff" * 8,
        b"\xff\xd8\xff\xda" + bytes(200),
        b"\xff\xd8\xff\xe0\0\1" + bytes(200),
        b"\xff\xd8\xff\xe0\xff\xff" + bytes(200),
    ],
)
def test_what_is_no_picture_is_undecodable(media: bytes) -> None:
    assert reason(media) == "undecodable"


@pytest.mark.parametrize("name", READABLE)
def test_every_cut_of_a_picture_is_a_header_or_a_reason(name: str) -> None:
    media = picture(name, **turned(name))
    for length in range(min(len(media), 700)):
        try:
            read_header(media[:length])
        except MediaError as error:
            assert error.reason == "undecodable"


@pytest.mark.parametrize(
    "media",
    [
        png((b"zTXt", bytes(MAX_METADATA_BYTES + 1)), (b"IDAT", b"")),
        b"\x89PNG\r\n\x1a\n" + png()[8:33] + struct.pack(">I4s", 2**30, b"iCCP") + bytes(40),
        png(*[(b"tEXt", b"")] * (MAX_PARTS + 1)),
        b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 70 + FRAME,
        b"\xff\xd8" + segment(0xDB, b"") * (MAX_PARTS + 1) + FRAME,
        b"\xff\xd8" + b"\xff" * (MAX_PARTS + 9) + FRAME[1:],
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"EXIF" + struct.pack("<I", 10_000_000) + bytes(9),
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * (MAX_PARTS + 1) + b"\0,",
        b"II*\0\x08\0\0\0\3\0"
        + struct.pack("<HHII", 256, 4, 1, 9)
        + struct.pack("<HHII", 257, 4, 1, 9)
        + struct.pack("<HHII", 700, 1, 5_000_000, 0),
    ],
)
def test_metadata_over_four_mebibytes_is_too_large(media: bytes) -> None:
    assert reason(media) == "metadata_too_large"


@given(st.sampled_from(MAGICS), st.binary(max_size=300))
@settings(max_examples=600, deadline=None, derandomize=True)
def test_any_bytes_behind_any_magic_are_a_header_or_a_reason(magic: bytes, rest: bytes) -> None:
    try:
        header = read_header(magic + rest)
    except MediaError as error:
        assert error.reason in ("undecodable", "metadata_too_large")
    else:
        assert header.width >= 0 and header.height >= 0 and 1 <= header.orientation <= 8


@given(st.sampled_from(READABLE), st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_picture_with_flipped_bytes_is_a_header_or_a_reason(name: str, data: st.DataObject) -> None:
    media = bytearray(picture(name, **turned(name)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(media), 400) - 1))
        media[at] = data.draw(st.integers(0, 255))
    try:
        read_header(bytes(media))
    except MediaError as error:
        assert error.reason in ("undecodable", "metadata_too_large")


@pytest.mark.parametrize("fill", [b"\xff", b"\xff\xe0\0\x02", b"!", b"\0", b"!\xfe\1a", b"\xff\xd0", b",", b"\xff\0"])
@pytest.mark.parametrize("magic", MAGICS)
def test_hostile_megabytes_end_at_once(magic: bytes, fill: bytes) -> None:
    media = magic + fill * (8 * 2**20 // len(fill))
    before = time.process_time()
    try:
        read_header(media)
    except MediaError as error:
        assert error.reason in ("undecodable", "metadata_too_large")
    # the bound is far over what is needed (about 20 ms): it tells a bounded walk from an endless one
    assert time.process_time() - before < 2

"""Formats that are named by their first bytes, so that a screen can say so, and never read."""

from __future__ import annotations

import re

_NAMED = (
    (0, b"\0\0\0\x0cjP  ", "jpeg2000"),
    (0, b"\xff\x4f\xff\x51", "jpeg2000"),
    (0, b"\0\0\0\x0cJXL ", "jxl"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"8BPS", "psd"),
    (0, b"%!PS", "eps"),
    (0, b"\xc5\xd0\xd3\xc6", "eps"),
    (0, b"%PDF-", "pdf"),
    (0, b"SIMPLE  =", "fits"),
    (0, b"icns", "icns"),
    (0, b"\0\0\1\0", "ico"),
    (0, b"\0\0\2\0", "cur"),
    (0, b"\xd7\xcd\xc6\x9a", "wmf"),
    (0, b"\1\0\x09\0\0\3", "wmf"),
    (40, b" EMF", "emf"),
    (0, b"v/1\1", "exr"),
    (0, b"#?RADIANCE", "hdr"),
    (0, b"DDS ", "dds"),
    (0, b"qoif", "qoi"),
    (0, b"gimp xcf", "xcf"),
    (0, b"AT&TFORM", "djvu"),
    (0, b"FLIF", "flif"),
    (0, b"BPG\xfb", "bpg"),
    (0, b"II\xbc\1", "jpegxr"),
    (0, b"\x8aMNG\r\n\x1a\n", "mng"),
    (0, b"\x1aE\xdf\xa3", "webm"),
    (128, b"DICM", "dicom"),
)
_PNM = re.compile(rb"P[1-7]\s")
_SVG = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:svg\b|\?xml\b|!DOCTYPE\s+svg\b|!--)", re.IGNORECASE)
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "heic"),
    b"crx ": "cr3",
    b"qt  ": "mov",
}


def known_format(media: bytes) -> str | None:
    """The name of the format that begins like media, None where none is known."""
    for at, magic, name in _NAMED:
        if media.startswith(magic, at):
            return name
    if media[4:8] == b"ftyp":
        # mif1 is any HEIF: the compatible brands behind it say whether it is an AVIF
        return "avif" if b"avif" in media[8:64] else _BRANDS.get(media[8:12], "mp4")
    if _PNM.match(media):
        return "pnm"
    head = media[:1024]
    return "svg" if _SVG.match(head) and b"<svg" in head.lower() else None

"""Which container a clip's first bytes announce; nothing else is ever tried, so no playlist can be taken for a clip."""

from __future__ import annotations

import re

from captioner.errors import MediaError
from captioner.media.header import read_header
from captioner.media.named import known_format
from captioner.types import Header, Kind, Sample

# Our name -> the only FFmpeg demuxer that such a clip is given to.
DEMUXERS = {
    "mp4": "mov",
    "mov": "mov",
    "webm": "matroska",
    "mkv": "matroska",
    "avi": "avi",
    "ts": "mpegts",
    "flv": "flv",
}
CONTAINERS = tuple(DEMUXERS)
# Who decodes clips -> the package it comes from.
READER_PACKAGES = {"pyav": "av", "decord": "decord2"}
READERS = tuple(READER_PACKAGES)
HEAD_BYTES = 4096  # so many tell

# An ISO file begins with a box: its length, then one of these.
_BOX = re.compile(rb".{4}(?:ftyp|moov|mdat|free|skip|wide|pnot|styp|moof|sidx|uuid)", re.DOTALL)
_TS = re.compile(rb"\x47.{187}\x47.{187}\x47", re.DOTALL)
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"<?xml", b"[playlist]", b"v=0", b"<smil")


def clip_header(head: bytes) -> Header:
    """The header of a clip as far as its first HEAD_BYTES tell: its container; the sides are 0, known once it is open.

    Raises MediaError undecodable_video for bytes that begin like nothing known.
    """
    name = _container(head) or _other(head)
    if name is None:
        raise MediaError("undecodable_video", f"no known video begins with the bytes {head[:8].hex() or '(none)'}")
    return Header(format=name, width=0, height=0)


def header_of(sample: Sample) -> Header:
    """What a sample's first bytes say of it, picture or clip. Raises MediaError."""
    return clip_header(sample.media[:HEAD_BYTES]) if sample.kind == "video" else read_header(sample.media)


def kind_of(media: bytes) -> Kind:
    """What bytes are taken for whose kind nobody has said: a clip where they begin as a container does, else a picture.

    A GIF stays one: every 188th byte of a transport stream is the G that a GIF begins with.
    """
    is_clip = not media.startswith(b"GIF8") and _container(media[:HEAD_BYTES]) is not None
    return "video" if is_clip else "image"


def _container(head: bytes) -> str | None:
    known = known_format(head)
    if known in ("mp4", "mov"):
        return known
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "webm" if b"webm" in head[:64] else "mkv"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"FLV\1"):
        return "flv"
    if _TS.match(head):
        return "ts"
    return "mp4" if known is None and _BOX.match(head) else None


def _other(head: bytes) -> str | None:
    """What is named so that a screen can say so: pictures, playlists."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "playlist" if text.startswith(_PLAYLISTS) else known_format(head)

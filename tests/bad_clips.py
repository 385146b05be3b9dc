"""Clips that no camera makes: hostile, broken and odd ones, each with the picks or the reason that it must give."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from tests.clips import (
    H264,
    Coding,
    at_rate,
    box,
    clip,
    index_first,
    packets,
    patched,
    plain,
    remuxed,
    replaced,
    without,
)

PLAIN = Coding(options=H264)
HOURS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a clip must give: the numbers of the picked frames, or one of reasons. flags: those that must be there."""

    picks: tuple[int, ...] = ()
    reasons: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    coding: Coding = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class BadClip:
    """A clip by its maker, so that only those asked for are made. broken: some of its frames' own bytes are wrong."""

    make: Callable[[], bytes]
    expected: Expected
    broken: bool = False


def picks(*numbers: int, flags: str = "", coding: Coding = PLAIN) -> Expected:
    return Expected(picks=numbers, flags=frozenset(flags.split()), coding=coding)


def refused(*reasons: str) -> Expected:
    return Expected(reasons=frozenset(reasons))


def ten_hours() -> bytes:
    """36,000 frames at one a second, a key frame every 10: ten coded frames, written 3,600 times."""
    times = [1000 * number for number in range(10)]
    groups = []
    coding = Coding(options={**H264, "g": "10", "bf": "0"}, container="matroska", rate=1)
    template = None
    for group in range(4):
        template, made = packets(coding, times, first=10 * group)
        groups.append(made)
    return remuxed(coding, [(10_000 * n, groups[n % 4]) for n in range(360 * HOURS)], template)


def size_changes() -> bytes:
    """320x192, then 480x288 from second 2 on, in one stream."""
    coding = Coding(options={**H264, "bf": "0", "x264-params": "repeat-headers=1"}, container="mpegts")
    template, small = packets(coding, at_rate(25, 50))
    _, large = packets(
        Coding(options=dict(coding.options), width=480, height=288, square=36), at_rate(25, 50), first=50
    )
    return remuxed(coding, [(0, small), (2000, large)], template)


def edited() -> bytes:
    """Frames 0 to 74 of which an edit list shows those from second 1 on."""
    coding = Coding(options={**H264, "bf": "0"}, muxing={"avoid_negative_ts": "disabled"})
    template, made = packets(coding, at_rate(25, 75))
    return remuxed(coding, [(-1000, made)], template)


def flipped(flips: int, seed: int, keep: int = 0) -> bytes:
    """Bits flipped in the frames' bytes, behind the first `keep` of them."""
    data = bytearray(clip(Coding(options={**H264, "g": "25"}), at_rate(25, 100)))
    start, end = box(bytes(data), b"mdat")
    dice = random.Random(seed)
    for _ in range(flips):
        at = dice.randrange(start + keep, end)
        data[at] ^= 1 << dice.randrange(8)
    return bytes(data)


def claiming(seconds: int) -> bytes:
    """Three seconds whose header says another duration, in all three places."""
    data = plain()
    for path in ((b"moov", b"mvhd"), (b"moov", b"trak", b"mdia", b"mdhd")):
        start, _ = box(data, *path)
        (scale,) = struct.unpack_from(">I", data, start + 12)
        data = patched(data, start + 16, struct.pack(">I", min(2**32 - 1, seconds * scale)))
    start, _ = box(data, b"moov", b"trak", b"tkhd")
    return patched(data, start + 20, struct.pack(">I", min(2**32 - 1, seconds * 1000)))


def elsewhere() -> bytes:
    """A QuickTime file whose data reference says that its frames are in /etc/passwd."""
    path = b"/etc/passwd\0"
    alias = bytes(150) + struct.pack(">HH", 2, len(path)) + path + b"\xff\xff\0\0"
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    dref = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")
    return replaced(plain(), dref, struct.pack(">II", 0, 1) + entry)


def long_matroska() -> bytes:
    """Three seconds in a Matroska whose header says ten hours."""
    data = clip(Coding(options=H264, container="matroska"), at_rate(25, 75))
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes, in milliseconds
    return patched(data, at, struct.pack(">d", 36e6))


def counting(kind: bytes, count: int) -> bytes:
    """A sample table that claims other counts than it has room for."""
    data = plain()
    start, _ = box(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", kind)
    return patched(data, start + (8 if kind == b"stsz" else 4), struct.pack(">I", count))


def headless() -> bytes:
    """A transport stream that begins in the middle of a group of pictures."""
    coding = Coding(options={**H264, "g": "30", "bf": "0"}, container="mpegts")
    template, made = packets(coding, at_rate(25, 100))
    return remuxed(coding, [(0, made[10:])], template)


def timeless() -> bytes:
    """Every frame is shown at the same time."""
    coding = Coding(options={**H264, "bf": "0"}, container="matroska")
    template, made = packets(coding, at_rate(25, 20))
    for packet in made:
        packet.pts = packet.dts = 0
    return remuxed(coding, [(0, made)], template)


def sound_only(cover: bool = False) -> bytes:
    """A tone, and where asked a cover picture beside it."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16_000)
        picture = container.add_stream("mjpeg", rate=1) if cover else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(frame.reformat(format="yuvj420p")))
            container.mux(picture.encode(None))
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 16_000
        container.mux(sound.encode(tone))
        container.mux(sound.encode(None))
    return out.getvalue()


def frameless() -> bytes:
    """A whole MP4 with a video stream of no frames."""
    out = io.BytesIO()
    template, _ = packets(PLAIN, at_rate(25, 2))
    with av.open(out, "w", format="mp4", options={"movflags": "empty_moov"}) as container:
        container.add_stream_from_template(template)
        container.start_encoding()
    return out.getvalue()


def elsewhere_coded(codec: str, container: str, pixels: str) -> bytes:
    return clip(Coding(codec=codec, container=container, pixels=pixels, width=64, height=64, square=4), at_rate(25, 3))


def cut(share: float, index: str) -> bytes:
    data = clip(PLAIN, at_rate(25, 100))
    data = index_first(data) if index == "first" else data
    return data[: int(len(data) * share)]


def moved(first: int, container: str) -> bytes:
    """The same clip beginning at another time."""
    return clip(Coding(options=H264, container=container), at_rate(25, 75, first))


VFR_TIMES = [0, 300, 950, 1000, 1001, 4500, 4600, 6999, 7000]
EIGHT_K = Coding(options={**H264, "bf": "0"}, width=7680, height=4320, square=576)
TINY = Coding(codec="libvpx-vp9", container="webm", width=2, height=2, square=0, options={"cpu-used": "8"})
LEVEL_0 = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"

BAD_CLIPS: dict[str, BadClip] = {
    name: BadClip(make=make, expected=expected, broken=name.startswith("bits flipped"))
    for name, make, expected in (
        ("variable rate", lambda: clip(Coding(options=H264, container="matroska"), VFR_TIMES),
         picks(0, 3, 4, 4, 4, 6, 6, 8)),
        ("begins at 100 s", lambda: moved(100_000, "matroska"), picks(0, 25, 50)),
        ("begins at 100 s, transport stream", lambda: moved(100_000, "mpegts"), picks(0, 25, 50)),
        ("begins before 0", lambda: moved(-1500, "matroska"), picks(0, 25, 50)),
        ("edit list", edited, picks(25, 50)),
        ("ten hours", ten_hours, picks(*((35_999 * step + 31) // 63 % 40 for step in range(64)), flags="capped")),
        ("8K", lambda: clip(EIGHT_K, [0, 400, 1000]), picks(0, 2, coding=EIGHT_K)),
        ("two by two", lambda: clip(TINY, at_rate(25, 30)), picks(0, 0, coding=TINY)),
        ("size changes", size_changes, picks(0, 25, 50, 75)),
        ("cut in its frames", lambda: cut(0.6, index="first"), picks(0, 25, 50, flags="duration_mismatch")),
        ("cut before its index", lambda: cut(0.8, index="last"), refused("bad_container")),
        ("cut in its index", lambda: cut(0.01, index="first"), refused("bad_container")),
        ("no moov", lambda: without(plain(), b"moov"), refused("bad_container")),
        ("no mdat", lambda: without(index_first(plain()), b"mdat"), refused("bad_container")),
        ("bits flipped, few", lambda: flipped(160, seed=2, keep=3000), picks(0, 0, 50, 75, flags="decode_errors")),
        ("bits flipped, many", lambda: flipped(4000, seed=2), refused("undecodable_video")),
        ("zero frames", frameless, refused("no_frames", "bad_container")),
        ("sound only", sound_only, refused("no_video_stream")),
        ("sound with a cover", lambda: sound_only(cover=True), refused("no_video_stream")),
        ("says ten hours", lambda: claiming(36_000), picks(0, 25, 50)),  # FFmpeg believes the frames' own table
        ("says ten hours, Matroska", long_matroska, picks(0, 25, 50, flags="duration_mismatch")),
        ("says 2^32 ticks", lambda: claiming(2**31), picks(0, 25, 50)),
        ("says zero seconds", lambda: claiming(0), picks(0, 25, 50)),
        ("says 2^31 frames", lambda: counting(b"stsz", 2**31 - 1), refused("bad_container", "no_frames")),
        ("says 2^31 times", lambda: counting(b"stts", 2**31 - 1), refused("bad_container")),
        ("frames in another file", elsewhere, refused("bad_container", "no_frames", "undecodable_video")),
        ("begins in the middle", headless, picks(30, 55, 80)),
        ("all at one time", timeless, picks(19)),
        ("ProRes", lambda: elsewhere_coded("prores_ks", "mov", "yuv422p10le"), refused("unsupported_codec")),
        ("JPEG 2000 in MP4", lambda: elsewhere_coded("jpeg2000", "mp4", "rgb24"), refused("unsupported_codec")),
        ("FFV1", lambda: elsewhere_coded("ffv1", "matroska", "yuv420p"), refused("unsupported_codec")),
        ("HLS playlist", lambda: LEVEL_0, refused("unsupported_format")),
        ("concat playlist", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", refused("unsupported_format")),
        ("DASH manifest", lambda: b"<?xml version='1.0'?><MPD/>", refused("unsupported_format")),
        ("a page", lambda: b"<!DOCTYPE html><html>403</html>", refused("undecodable_video")),
        ("nothing", lambda: b"", refused("undecodable_video")),
        ("a box and no more", lambda: struct.pack(">I4s", 2**31, b"ftyp") + b"isom", refused("bad_container")),
    )
}  # fmt: skip

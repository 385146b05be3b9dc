"""An opened clip: its container, its one video stream and the table of its packets; nothing is decoded yet."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from captioner.errors import MediaError
from captioner.media.clip_format import DEMUXERS, HEAD_BYTES, clip_header

# Decoders by FFmpeg's names. Each of them reads hostile bytes: what WebVid, VALOR and their kin need, and no more.
DECODERS = ("h264", "hevc", "vp8", "vp9", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "h263")
VideoPacket: TypeAlias = "Packet[VideoStream]"
MAX_PACKETS = 2**20  # 9.7 hours at 30 a second; the table then takes 18 MB
NO_TIME = -(2**63)  # AV_NOPTS_VALUE
_OPTIONS = {
    "codec_whitelist": ",".join(DECODERS),  # while it is opened, too
    "protocol_whitelist": "none",
    "max_streams": "64",
    "enable_drefs": "0",  # of an MP4 that says its frames are in another file
}


@dataclass(slots=True, kw_only=True)
class Table:
    """The stream's packets in decoding order. pts, dts: in ticks. keys: where those stand that begin anew.

    shown: the presentation times of those that are shown and that a key packet leads to, sorted. exact: every packet
    has a time of its own, and a key packet leads to it. open_groups: some are shown before the key packet in front of
    them. cut: the container broke off, or has more than MAX_PACKETS.
    last_ticks: how long the last frame is shown, 0 where nobody says.
    """

    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    keys: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    exact: bool = True
    open_groups: bool = False
    cut: bool = False
    last_ticks: int = 0


@dataclass(slots=True, kw_only=True)
class Clip:
    """One video stream, to be demuxed again and again. header_seconds: the container's own word, None for none."""

    container: InputContainer
    stream: VideoStream
    format: str
    header_seconds: float | None

    @property
    def time_base(self) -> Fraction:
        base = self.stream.time_base
        if not base or base <= 0:
            raise MediaError("bad_container", "the stream's times have no unit")
        return base

    def packets(self) -> Iterator[VideoPacket]:
        """From where the container stands to its end, or to where it breaks: then CutShort is raised."""
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except av.FFmpegError as error:
            raise CutShort from error

    def to(self, tick: int) -> None:
        """Go to the last key packet at or before a tick, as the container's index tells; the caller looks where."""
        self.container.seek(tick, stream=self.stream, backward=True, any_frame=False)

    def to_the_start(self) -> None:
        with suppress(av.FFmpegError):
            self.container.seek(0, stream=self.stream, backward=True)
            return
        self.container.seek(-(2**62), stream=self.stream, backward=True)


class CutShort(Exception):
    """The container ends in the middle, or breaks."""


@contextmanager
def opened(media: BinaryIO, most_pixels: int) -> Iterator[Clip]:
    """A clip for the time of a block. Raises MediaError: unsupported_format, bad_container, no_video_stream,
    unsupported_codec, too_many_pixels."""
    name = clip_header(media.read(HEAD_BYTES)).format
    media.seek(0)
    if name not in DEMUXERS:
        raise MediaError("unsupported_format", f"a {name}, which is never opened as a video")
    try:
        container = av.open(media, format=DEMUXERS[name], container_options=_OPTIONS, io_open=_refuse)
    except (av.FFmpegError, ValueError, OSError, UnicodeError):
        raise MediaError("bad_container", f"this {name} cannot be opened: it is cut, or its index is broken") from None
    assert isinstance(container, InputContainer), "opened to be read"
    with container:
        stream = _stream(container)
        seconds = container.duration / av.time_base if container.duration and container.duration > 0 else None
        clip = Clip(container=container, stream=stream, format=name, header_seconds=seconds)
        _prepare(clip, most_pixels)
        yield clip


def _refuse(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise PermissionError("a clip refers to nothing outside itself")


def _stream(container: InputContainer) -> VideoStream:
    found = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not found:
        raise MediaError("no_video_stream", f"{len(container.streams)} streams, none of them video")
    best = container.streams.best("video")
    chosen = best if isinstance(best, VideoStream) and best in found else found[0]
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all
    return chosen


def _prepare(clip: Clip, most_pixels: int) -> None:
    """Check what is to be decoded, and set the decoder up: one thread, as every process is one core's."""
    context = clip.stream.codec_context
    if context is None or context.codec is None or context.codec.name not in DECODERS:
        known = "unknown" if context is None or context.codec is None else context.codec.name
        raise MediaError("unsupported_codec", f"the codec {known[:20]}; read are {', '.join(DECODERS)}")
    if context.width < 1 or context.height < 1:
        raise MediaError("bad_container", "the stream has no size")
    if context.width * context.height > most_pixels:
        raise MediaError(
            "too_many_pixels", f"{context.width} x {context.height} px a frame, more than {most_pixels} in all"
        )
    context.thread_count = 1
    context.options = {"max_pixels": str(most_pixels), "threads": "1"}


def table_of(clip: Clip) -> Table:
    """Every packet's place and time, without its content. Raises MediaError no_frames, bad_container."""
    table = Table()
    times: dict[int, int] = {}  # of what is shown -> for how many ticks
    try:
        for packet in clip.packets():
            _enter(table, times, packet)
            if len(table.pts) >= MAX_PACKETS:
                table.cut = True
                break
    except CutShort:
        table.cut = True
    if not table.pts:
        raise _nothing(clip)
    table.shown = sorted(times) if table.keys else sorted({pts for pts in table.pts if pts != NO_TIME})
    if not table.shown:
        raise MediaError("bad_container", "no frame of the video stream has a time")
    table.last_ticks = times.get(table.shown[-1], 0)
    return table


def _enter(table: Table, times: dict[int, int], packet: VideoPacket) -> None:
    pts = packet.pts if packet.pts is not None else packet.dts
    if packet.is_keyframe:
        table.keys.append(len(table.pts))
    if packet.pts is None or not table.keys or pts in times:
        table.exact = False
    if pts is not None and table.keys and table.keys[-1] < len(table.pts):
        table.open_groups = table.open_groups or pts < table.pts[table.keys[-1]]
    table.pts.append(NO_TIME if pts is None else pts)
    table.dts.append(table.pts[-1] if packet.dts is None else packet.dts)
    if pts is not None and table.keys and not packet.is_discard:
        times[pts] = packet.duration or 0


def _nothing(clip: Clip) -> MediaError:
    promised = clip.stream.frames or len(clip.stream.index_entries or ())
    if promised:
        return MediaError("bad_container", f"{promised} frames announced, none of them is there")
    return MediaError("no_frames", "the video stream is empty")

"""Picked frames of an opened clip, decoded with as little work as it takes: PyAV's reader."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

import av
from av.video.frame import VideoFrame

from captioner.media.clip import NO_TIME, Clip, CutShort, Table, VideoPacket
from captioner.media.frame_pixels import Shrinker
from captioner.media.picks import Run, picked, runs
from captioner.types import Picture

# A jump costs a search in the index; up to so many packets reading on is cheaper.
JUMP_PACKETS = 512
# Decoders that leave out, when told so, what no other frame is predicted from, and nothing else: H.264 says it of each
# frame. MPEG-4's then gives frames other times, HEVC's layers make it a matter of trust.
SKIPPING = ("h264",)

Shot = tuple[int, Picture]  # a frame's presentation time in ticks, and the frame


@dataclass(slots=True, kw_only=True)
class Shots:
    """What was seen: for each tick that was asked the frame that stands for it. errors: frames that did not decode."""

    at: dict[int, Shot] = field(default_factory=dict)
    errors: int = 0


def shots(clip: Clip, table: Table, at: Sequence[int], shrinker: Shrinker, media: BinaryIO) -> Shots:
    """The frame of each tick, by PyAV, which has media open.

    A tick whose own frame is broken gets the newest sound one before it in its run.
    """
    reading = _Reading(clip=clip, table=table, shrinker=shrinker)
    if not table.exact:
        reading.every_frame(0, len(table.pts), at)
        return reading.seen
    picks = picked(table.shown, at)
    ticks_of: dict[int, list[int]] = {}
    for tick, pts in zip(at, picks, strict=True):
        ticks_of.setdefault(pts, []).append(tick)
    place_of = {pts: place for place, pts in enumerate(table.pts) if pts in ticks_of}
    for run in runs(table.pts, table.keys, place_of.values()):
        wanted = {table.pts[place]: ticks_of[table.pts[place]] for place in run.wanted}
        if not reading.wanted_frames(run, wanted):
            last = bisect_right(table.keys, run.last)
            after = table.keys[last] if last < len(table.keys) else len(table.pts)
            reading.every_frame(run.first, after, sorted(tick for ticks in wanted.values() for tick in ticks))
    return reading.seen


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One clip's decoder, and where in the table its container stands."""

    clip: Clip
    table: Table
    shrinker: Shrinker
    seen: Shots = field(default_factory=Shots)
    _packets: Iterator[VideoPacket] = field(default_factory=lambda: iter(()))
    _next: int = -1

    def wanted_frames(self, run: Run, wanted: dict[int, list[int]]) -> bool:
        """Decode a run and keep its wanted frames, given with their ticks; whether all came out sound."""
        context, missing, errors = self.clip.stream.codec_context, set(wanted), self.seen.errors
        context.flush_buffers()
        skips = context.codec.name in SKIPPING
        for place, packet in self._from(run.first, run.last + 1):
            context.skip_frame = "NONREF" if skips and place not in run.wanted else "DEFAULT"
            for frame in self._decoded(packet):
                if frame.pts in missing and not frame.is_corrupt:
                    missing.discard(frame.pts)
                    self._keep(frame.pts, frame, wanted[frame.pts])
        for frame in self._decoded(None):
            if frame.pts in missing and not frame.is_corrupt:
                missing.discard(frame.pts)
                self._keep(frame.pts, frame, wanted[frame.pts])
        if missing:
            self.seen.errors = errors  # they come again, and are counted then
        return not missing

    def every_frame(self, first: int, after: int, at: Sequence[int]) -> None:
        """Decode packets first to before after, all of them, and keep for each tick the newest sound frame by then."""
        context = self.clip.stream.codec_context
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        waiting = list(reversed(at))
        newest, shown = None, NO_TIME
        packets = chain((packet for _, packet in self._from(first, after)), (None,))
        for frame in (frame for packet in packets for frame in self._decoded(packet)):
            if frame.is_corrupt or frame.pts is None:
                self.seen.errors += 1
                continue
            if frame.pts < self.table.shown[0]:
                continue  # before time 0: no key packet leads to it, or an edit list leaves it out
            while waiting and waiting[-1] < frame.pts:
                tick = waiting.pop()
                if newest is not None:
                    self._keep(shown, newest, [tick])
            if frame.pts >= shown:
                newest, shown = frame, frame.pts
        if newest is not None:
            self._keep(shown, newest, waiting)

    def _keep(self, pts: int, frame: VideoFrame, at: Sequence[int]) -> None:
        if at:
            shot = pts, self.shrinker.picture(frame)
            self.seen.at.update(dict.fromkeys(at, shot))

    def _decoded(self, packet: VideoPacket | None) -> list[VideoFrame]:
        try:
            return self.clip.stream.codec_context.decode(packet)
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise MemoryError from error
            self.seen.errors += packet is not None
            return []

    def _from(self, first: int, after: int) -> Iterator[tuple[int, VideoPacket]]:
        """Packets first to before after, with their places."""
        if not self._next <= first < self._next + JUMP_PACKETS or self._next < 0:
            self._go(first)
        try:
            for packet in self._packets:
                place, self._next = self._next, self._next + 1
                if place >= first:
                    yield place, packet
                if self._next >= after:
                    return
        except CutShort:
            self._next = -1

    def _go(self, place: int) -> None:
        """Stand at a packet or before it. An index that leads astray is not asked again: then from the start."""
        self._next = -1
        if place > JUMP_PACKETS:
            self._next = self._jumped(place)
        if self._next < 0:
            self.clip.to_the_start()
            self._packets, self._next = self.clip.packets(), 0

    def _jumped(self, place: int) -> int:
        """Where a jump to a packet ended, -1 where that cannot be told or is behind it."""
        try:
            self.clip.to(self.table.dts[place])
            packets = self.clip.packets()
            landed = next(packets, None)
        except (av.FFmpegError, CutShort):
            return -1
        if landed is None or landed.pts is None or landed.pts == NO_TIME:
            return -1
        self._packets = chain((landed,), packets)
        for key in reversed(self.table.keys[: bisect_right(self.table.keys, place)]):
            if self.table.pts[key] == landed.pts:
                return key
        return -1

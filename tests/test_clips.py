"""Clips through real decoder processes, by both readers: stated picks or a stated reason, whatever the bytes are."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import io
import mmap
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import pytest
from PIL import Image

from captioner.errors import MediaError, OutOfService
from captioner.media import clip_job
from captioner.media.clip import opened, table_of
from captioner.media.clip_answer import question, side
from captioner.media.clip_format import READERS, clip_header
from captioner.media.clip_frames import _Reading
from captioner.media.decoders import DecoderPool
from captioner.media.decoders import _decoded as decoded
from captioner.media.frame_pixels import Shrinker
from captioner.recipe import Limits, to_json
from captioner.types import Decoded, FrameBudget, PixelBudget, Spooled
from tests.bad_clips import BAD_CLIPS
from tests.clips import H264, Coding, at_rate, clip, number_of, plain
from tests.processes import alive

PIXELS = PixelBudget(max_pixels=360 * 420, multiple_of=28)
BUDGET = FrameBudget(pixels=PIXELS, max_frames=64)

CODINGS = {
    "H.264": Coding(options={"preset": "veryfast", "g": "40", "bf": "3"}),
    "HEVC": Coding(
        codec="libx265",
        options={
            "preset": "ultrafast",
            "x265-params": "keyint=20:min-keyint=20:open-gop=1:bframes=3:log-level=none:pools=none",
        },
    ),
    "VP8": Coding(codec="libvpx", container="webm", options={"cpu-used": "8", "deadline": "realtime"}),
    "VP9": Coding(codec="libvpx-vp9", container="webm", options={"cpu-used": "8", "deadline": "realtime"}),
    "AV1": Coding(codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    "MPEG-4": Coding(codec="mpeg4", options={"bf": "2"}),
    "MPEG-4 in AVI": Coding(codec="mpeg4", container="avi"),
    "MPEG-2": Coding(codec="mpeg2video", container="mpegts", ticks=25),
    "10 bits": Coding(options=H264, pixels="yuv420p10le"),
    "FLV": Coding(options=H264, container="flv"),
    "H.264 in MPEG-TS": Coding(options={"preset": "veryfast", "g": "40", "bf": "3"}, container="mpegts", ticks=25),
    "H.264 in AVI": Coding(options={"preset": "veryfast", "g": "40", "bf": "0"}, container="avi", ticks=25),
    "Matroska": Coding(options=H264, container="matroska"),
    "sound and subtitles": Coding(options=H264, container="matroska", beside=("aac", "ass")),
}


class Watching:
    """A pool in an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, pool: DecoderPool, reader: str) -> None:
        self.runner, self.pool, self.reader = runner, pool, reader

    def __call__(self, media: bytes, budget: FrameBudget = BUDGET) -> Decoded:
        return self.runner.run(self.pool.watch(media, replace(budget, reader=self.reader)))

    def most_memory(self) -> int:
        """The largest so far of what its process was given, in MiB."""
        status = Path(f"/proc/{self.pool.pids[0]}/status").read_text()
        return int(status.partition("VmPeak:")[2].split()[0]) // 1024


@pytest.fixture(scope="module", params=READERS)
def watched(request: pytest.FixtureRequest) -> Iterator[Watching]:
    with asyncio.Runner() as runner:
        pool = DecoderPool(1, Limits(), clips=request.param)
        runner.run(pool.__aenter__())
        yield Watching(runner, pool, request.param)
        runner.run(pool.__aexit__())


def numbers(decoded: Decoded, coding: Coding) -> list[int]:
    return [number_of(picture, coding, coding.rotation) for picture in decoded.frames]


@pytest.mark.parametrize("name", CODINGS)
def test_every_codec_gives_the_frames_at_whole_seconds(watched: Watching, name: str) -> None:
    coding = CODINGS[name]
    decoded = watched(clip(coding, at_rate(25, 60)))
    assert numbers(decoded, coding) == [0, 25, 50]
    assert decoded.times == (0.0, 1.0, 2.0)
    assert decoded.duration == pytest.approx(2.4, abs=0.1)
    assert (decoded.width, decoded.height) == (320, 192)
    assert decoded.picture == decoded.frames[1]


@pytest.mark.parametrize("name", BAD_CLIPS)
def test_a_bad_clip_gives_its_stated_frames_or_its_reason_within_ten_seconds_and_a_gibibyte(
    watched: Watching, name: str
) -> None:
    bad = BAD_CLIPS[name]
    media = bad.make()
    try:
        decoded = watched(media)  # over its limits it would be a decode_timeout or resource_exceeded
    except MediaError as error:
        assert error.reason in bad.expected.reasons or (bad.broken and watched.reader == "decord"), error.detail
        assert "0x" not in error.detail and "/" not in error.detail
        return
    assert watched.most_memory() <= 1024
    if bad.broken and watched.reader == "decord":
        assert all(picture.jpeg for picture in decoded.frames), "decord tells nobody which frames are broken"
        return
    assert tuple(numbers(decoded, bad.expected.coding)) == bad.expected.picks
    assert bad.expected.flags <= decoded.flags


@pytest.mark.parametrize("seed", range(6))
def test_at_any_rate_of_frames_the_newest_one_by_each_moment_is_seen(watched: Watching, seed: int) -> None:
    dice = random.Random(seed)
    name = dice.choice(["H.264", "HEVC", "Matroska"])
    times = list(accumulate(dice.choice([7, 20, 40, 90, 300]) for _ in range(80)))
    decoded = watched(clip(CODINGS[name], times), replace(BUDGET, per_second=4, max_frames=400))
    moments = range(0, times[-1] - times[0] + 1, 250)
    expected = [max(n for n, time in enumerate(times) if time - times[0] <= moment) for moment in moments]
    assert numbers(decoded, CODINGS[name]) == expected


def test_both_readers_and_every_run_make_the_same_picks() -> None:
    async def both() -> list[Decoded]:
        found = []
        for reader in READERS:
            async with DecoderPool(1, Limits(), clips=reader) as pool:
                found += [await pool.watch(plain(4), replace(BUDGET, reader=reader)) for _ in range(2)]
        return found

    first, *others = asyncio.run(both())
    assert all(each.times == first.times for each in others)
    assert all(numbers(each, Coding()) == numbers(first, Coding()) for each in others)
    assert others[0].frames == first.frames, "the same reader gives the same bytes"


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_clip_is_seen_upright(watched: Watching, rotation: int) -> None:
    coding = Coding(options=H264, rotation=rotation)
    decoded = watched(clip(coding, at_rate(25, 50)))
    assert "rotated" in decoded.flags
    assert (decoded.width, decoded.height) == ((192, 320) if rotation != 180 else (320, 192))
    assert (decoded.picture.height > decoded.picture.width) == (rotation != 180)
    assert numbers(decoded, coding) == [0, 25]


def test_wide_pixels_are_made_square(watched: Watching) -> None:
    coding = Coding(options=H264, aspect=Fraction(2, 1))
    decoded = watched(clip(coding, at_rate(25, 30)))
    assert "pixels_not_square" in decoded.flags
    assert (decoded.width, decoded.height) == (640, 192)
    assert decoded.picture.width / decoded.picture.height == pytest.approx(640 / 192, rel=0.1)


def test_frames_fill_pairs_and_keep_within_their_pixels(watched: Watching) -> None:
    budget = replace(BUDGET, multiple_of=2, pixels=replace(PIXELS, min_pixels=128 * 28 * 28))
    decoded = watched(plain(3), budget)
    assert numbers(decoded, Coding()) == [0, 25, 50, 50]
    assert decoded.times == (0.0, 1.0, 2.0, 2.0)
    for picture in decoded.frames:
        assert picture.width % 28 == picture.height % 28 == 0
        assert 128 * 28 * 28 <= picture.width * picture.height <= 360 * 420


def test_colours_are_those_of_the_clip(watched: Watching) -> None:
    coding = Coding(options={**H264, "qp": "0"}, square=0)
    with Image.open(io.BytesIO(watched(clip(coding, [0, 40])).picture.jpeg)) as image:
        red, green, blue = image.convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
    assert abs(red - 40) < 6 and abs(green - 40) < 6 and abs(blue - 40) < 6


def test_a_long_clip_is_looked_at_so_many_times_from_its_beginning_to_its_end(watched: Watching) -> None:
    coding = Coding(options=H264, container="matroska", rate=2)
    decoded = watched(clip(coding, at_rate(2, 80)), replace(BUDGET, max_frames=5))
    assert decoded.times == (0.0, 10.0, 20.0, 29.0, 39.0)
    assert "capped" in decoded.flags


def test_a_pool_for_pictures_alone_says_so() -> None:
    async def ask() -> None:
        async with DecoderPool(1, Limits()) as pool:
            await pool.watch(plain(3), BUDGET)

    with pytest.raises(OutOfService, match="pictures alone"):
        asyncio.run(ask())


def test_a_picture_decodes_beside_clips(watched: Watching) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(sink, "PNG")
    decoded = watched.runner.run(watched.pool.decode(sink.getvalue(), PixelBudget(max_pixels=10_000)))
    assert (decoded.width, decoded.height, decoded.frames, decoded.times) == (64, 48, (), ())


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypisom", "mp4"),
        (b"\0\0\0\x14ftypqt  ", "mov"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "mp4"),
        (b"\x1aE\xdf\xa3....webm", "webm"),
        (b"\x1aE\xdf\xa3.matroska", "mkv"),
        (b"RIFF....AVI LIST", "avi"),
        (b"FLV\1\5", "flv"),
        ((b"\x47" + bytes(187)) * 3, "ts"),
        (b"\xef\xbb\xbf#EXTM3U\n", "playlist"),
        (b"\xff\xd8\xff\xe0", None),
        (b"\0\0\0\x1cftypavif", "avif"),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head: bytes, name: str | None) -> None:
    if name is None:
        with pytest.raises(MediaError, match="undecodable_video"):
            clip_header(head)
    else:
        assert clip_header(head).format == name


@pytest.fixture
def spooled(tmp_path: Path) -> Spooled:
    """A clip as one that is too large to hold comes."""
    media, file = plain(2), (tmp_path / "clip").open("w+b")
    file.write(media)
    file.flush()
    return Spooled(file=file, size=len(media), sha256=hashlib.sha256(media).hexdigest())


def test_a_decoder_process_can_only_read_the_file_that_it_is_lent(spooled: Spooled) -> None:
    async def scenario() -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        async with DecoderPool(1, Limits(), clips="pyav") as pool:
            (child,) = pool._children
            assert child.files is not None
            child.files.close()
            child.files = ours
            child.lent({}, spooled.file)
            _, (descriptor,), *_ = socket.recv_fds(theirs, 1, 1)
        theirs.close()
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        with pytest.raises(PermissionError), mmap.mmap(descriptor, 0, prot=mmap.PROT_READ | mmap.PROT_WRITE):
            pass
        os.close(descriptor)
        return mode

    assert asyncio.run(scenario()) == os.O_RDONLY
    assert os.fstat(spooled.file.fileno()).st_size == spooled.size


def test_a_large_clip_survives_a_decoder_process_that_died_with_nothing_to_do(spooled: Spooled) -> None:
    async def scenario() -> Decoded:
        async with DecoderPool(1, Limits(), clips="pyav") as pool:
            (pid,) = pool.pids
            os.kill(pid, signal.SIGKILL)
            while alive(pid):
                time.sleep(0.01)  # and not asyncio.sleep: the loop shall not have heard of it yet
            return await pool.watch(spooled.file, BUDGET)

    assert asyncio.run(scenario()).times == (0.0, 1.0)


def test_sides_that_no_ledger_could_hold_are_an_answer_that_is_none() -> None:
    with pytest.raises(ValueError, match="no picture"):
        side(2**40)


def test_what_comes_before_time_0_stands_for_no_tick() -> None:
    with opened(io.BytesIO(plain(1)), 2**20) as found:
        table = table_of(found)
        # As where the first key packet's mark is lost, and the frame behind the second one is broken.
        table.exact, table.shown = False, table.shown[5:]
        reading = _Reading(clip=found, table=table, shrinker=Shrinker(budget=PIXELS, aspect=1.0))
        reading.every_frame(0, 5, table.shown[:1])
        assert not reading.seen.at
        reading.every_frame(0, 7, table.shown[:1])
        assert {pts for pts, _ in reading.seen.at.values()} == {table.shown[0]}


@pytest.mark.parametrize("told", [{"pictures": [[0, 9, 4]]}, {"pictures": [[9, -1, 4]]}, {"picture": [0, 9]}])
def test_pictures_without_sides_are_an_answer_that_is_none(told: dict[str, object]) -> None:
    whole = {"original": [9, 9], "order": [0], "times": [0.0], "duration": 1.0, "flags": [], "signals": {}}
    with pytest.raises(MediaError, match="decoder_crash"):
        decoded({**whole, **told}, b"jpeg")


def test_thousands_of_frames_are_one_answer(watched: Watching) -> None:
    coding = Coding(options=H264, width=64, height=64, square=4)
    budget = FrameBudget(pixels=PixelBudget(max_pixels=64 * 64), max_frames=3000, per_second=25)
    assert len(watched(clip(coding, at_rate(25, 3000)), budget).frames) == 3000


def test_frames_that_are_more_than_an_answer_holds_are_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_job, "MAX_BODY_BYTES", 1000)
    asked = question(BUDGET, to_json(BUDGET.pixels), 2**20)
    said, body = clip_job.answer(asked, io.BytesIO(plain(4)))
    assert (said["reason"], body) == ("resource_exceeded", b"")

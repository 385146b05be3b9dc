"""Hostile and odd pictures through real decoder processes, and those processes killed, stopped and confined."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from captioner.errors import MediaError
from captioner.media.decoders import DecoderPool, Frames
from captioner.media.wire import Header, frame_head
from captioner.recipe import Limits
from captioner.types import Decoded, PixelBudget

BUDGET = PixelBudget(max_pixels=200_000, multiple_of=28)
AS_IT_IS = PixelBudget(max_pixels=10_000_000)
RED = (200, 30, 60)


class Decoding:
    """A pool in an event loop of its own, for tests that only ask what becomes of some bytes."""

    def __init__(self, runner: asyncio.Runner, pool: DecoderPool) -> None:
        self.runner, self.pool = runner, pool

    def __call__(self, media: bytes, budget: PixelBudget = AS_IT_IS) -> Decoded:
        return self.runner.run(self.pool.decode(media, budget))

    def reason(self, media: bytes) -> str:
        with pytest.raises(MediaError) as caught:
            self(media)
        assert "0x" not in caught.value.detail and "<" not in caught.value.detail
        return caught.value.reason


@pytest.fixture(scope="module")
def decoded() -> Iterator[Decoding]:
    with asyncio.Runner() as runner:
        pool = DecoderPool(1, Limits())
        runner.run(pool.__aenter__())
        yield Decoding(runner, pool)
        runner.run(pool.__aexit__())


@lru_cache
def photo(width: int = 640, height: int = 427) -> Image.Image:
    """Smooth, coloured, and different in every corner."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.sin(x / 23) * np.cos(y / 17) * 20
    red, green, blue = 60 + x * 150 / width, 60 + y * 150 / height, 200 - x * y * 150 / (width * height)
    return Image.fromarray(np.clip(np.dstack((red, green, blue)) + waves[..., None], 0, 255).astype(np.uint8))


def stored(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, rows: bytes = b"", bits: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def pixels(answer: Decoded) -> np.ndarray:
    image = Image.open(BytesIO(answer.picture.jpeg))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (answer.picture.width, answer.picture.height))
    return np.asarray(image).astype(int)


def assert_colour(answer: Decoded, colour: tuple[int, int, int], *, within: int = 3) -> None:
    assert np.abs(pixels(answer) - colour).max() <= within


def exif_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


# what a good picture becomes


def test_a_good_picture_is_shrunk_to_the_budget_and_keeps_its_looks(decoded: Decoding) -> None:
    original = photo(1600, 1067)
    answer = decoded(stored(original, quality=95), BUDGET)
    picture = answer.picture
    assert (answer.width, answer.height, answer.flags) == (1600, 1067, frozenset())
    assert picture.width % 28 == picture.height % 28 == 0
    assert 0.85 * BUDGET.max_pixels < picture.width * picture.height <= BUDGET.max_pixels
    same = np.asarray(original.resize((picture.width, picture.height), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(pixels(answer) - same).mean() < 2


def test_a_small_picture_is_not_enlarged_beyond_rounding(decoded: Decoding) -> None:
    assert decoded(stored(photo(100, 75))).picture.width == 100
    rounded = decoded(stored(photo(100, 75)), BUDGET).picture
    assert (rounded.width, rounded.height) == (112, 84)


@pytest.mark.parametrize("sides", [(10_000, 1), (1, 10_000), (1, 1), (60_000, 2)])
def test_extreme_sides_still_fit_the_budget(decoded: Decoding, sides: tuple[int, int]) -> None:
    picture = decoded(stored(Image.new("RGB", sides), "PNG"), BUDGET).picture
    assert picture.width * picture.height <= BUDGET.max_pixels
    assert picture.width % 28 == picture.height % 28 == 0


def test_nothing_of_the_original_bytes_comes_back(decoded: Decoding) -> None:
    exif = exif_orientation(1)
    exif[0x010E] = "SECRET description"
    answer = decoded(stored(photo(), comment=b"SECRET comment", exif=exif) + b"SECRET tail")
    assert b"SECRET" not in answer.picture.jpeg
    assert answer.flags == {"trailing_bytes"}


BACK = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_eight_orientations_give_the_same_picture(decoded: Decoding, format: str) -> None:
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True, "method": 0}}.get(format, {})
    answers = [
        decoded(stored(BACK[n](photo()), format, exif=exif_orientation(n), **options), BUDGET) for n in range(1, 9)
    ]
    upright = pixels(answers[0])
    for answer in answers:
        assert (answer.width, answer.height) == (640, 427)
        assert np.abs(pixels(answer) - upright).mean() < 1.5
        assert answer.flags == (frozenset() if answer is answers[0] else {"rotated"})
    if format == "PNG":
        assert len({answer.picture.jpeg for answer in answers}) == 1


# colour


@pytest.mark.parametrize(
    ("mode", "colour", "format", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("CMYK", (0, 0, 0, 128), "JPEG", (127, 127, 127)),
        ("LAB", (138, 128 + 81, 128 + 70), "TIFF", (255, 0, 0)),
        ("YCbCr", (128, 128, 128), "JPEG", (128, 128, 128)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("1", 0, "TIFF", (0, 0, 0)),
        ("L", 77, "WEBP", (77, 77, 77)),
        ("I;16", 0x80FF, "PNG", (128, 128, 128)),
        ("I;16", 0xFFFF, "TIFF", (255, 255, 255)),
        ("F", 0.5, "TIFF", (128, 128, 128)),
        ("F", 100.0, "TIFF", (100, 100, 100)),
    ],
)
def test_every_mode_has_its_rule(
    decoded: Decoding, mode: str, colour: object, format: str, expected: tuple[int, int, int]
) -> None:
    assert_colour(decoded(stored(Image.new(mode, (64, 48), colour), format)), expected, within=6)


def test_ycck_is_read_as_adobe_wrote_it(decoded: Decoding) -> None:
    cmyk = bytearray(stored(Image.new("CMYK", (64, 48), (127, 127, 127, 0))))
    cmyk[cmyk.index(b"Adobe") + 11] = 2  # the transform byte: a neutral is the same in CMYK and YCCK
    assert_colour(decoded(bytes(cmyk)), (127, 127, 127))


def test_16_bit_rgb_keeps_its_high_bytes(decoded: Decoding) -> None:
    row = b"\0" + b"\xc8\x11\x1e\x22\x3c\x33" * 8
    assert_colour(decoded(png(8, 8, rows=row * 8, bits=16)), RED)


@pytest.mark.parametrize(("mode", "value"), [("I", 70_000), ("F", 1e4), ("F", -0.5), ("F", float("nan"))])
def test_pixels_without_a_stated_range_are_refused(decoded: Decoding, mode: str, value: float) -> None:
    assert decoded.reason(stored(Image.new(mode, (64, 48), value), "TIFF")) == "unsupported_mode"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_hidden_pixels_are_flattened_on_white(decoded: Decoding, mode: str) -> None:
    hidden = {"RGBA": (*RED, 0), "LA": (10, 0), "L": 10, "RGB": RED, "P": 0}[mode]
    options = {"L": {"transparency": 10}, "RGB": {"transparency": RED}, "P": {"transparency": 0}}.get(mode, {})
    answer = decoded(stored(Image.new(mode, (64, 48), hidden), "PNG", **options))
    assert_colour(answer, (255, 255, 255))
    assert answer.flags == {"had_alpha"}


def test_half_transparent_edges_do_not_bleed_when_shrunk(decoded: Decoding) -> None:
    image = Image.new("RGBA", (800, 800), (0, 255, 0, 0))  # invisible green beside visible white
    image.paste((255, 255, 255, 255), (0, 0, 401, 800))
    assert_colour(decoded(stored(image, "PNG"), PixelBudget(max_pixels=10_000)), (255, 255, 255))


def icc_profile(primaries: list[tuple[float, float, float]]) -> bytes:
    """A version 2 matrix profile with gamma 2.2, from the D50 XYZ of its three primaries."""

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    text = b"text\0\0\0\0none\0\0\0\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, 0x0233)
    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"desc": text, b"cprt": text}
    tags |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, primaries), strict=True))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    at, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table, data = table + name + struct.pack(">II", at + len(data), len(body)), data + body
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"none", 0x02200000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + data


DISPLAY_P3 = icc_profile([(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)])


def test_a_display_p3_picture_is_converted(decoded: Decoding) -> None:
    flat = Image.new("RGB", (64, 48), RED)
    answer = decoded(stored(flat, icc_profile=DISPLAY_P3))
    assert answer.flags == frozenset()
    red, green, blue = pixels(answer).mean(axis=(0, 1))
    assert red > 213 and green < 20 and abs(blue - 60) < 8  # the same light needs more of sRGB's paler red
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_colour(decoded(stored(flat, icc_profile=srgb)), RED)


@pytest.mark.parametrize("profile", [b"junk" * 100, DISPLAY_P3[:200]])
def test_a_broken_profile_is_ignored_and_flagged(decoded: Decoding, profile: bytes) -> None:
    answer = decoded(stored(Image.new("RGB", (64, 48), RED), icc_profile=profile))
    assert_colour(answer, RED)
    assert answer.flags == {"icc_ignored"}


def test_a_profile_of_another_colour_space_is_ignored_and_flagged(decoded: Decoding) -> None:
    answer = decoded(stored(Image.new("CMYK", (64, 48), (0, 255, 255, 0)), icc_profile=DISPLAY_P3))
    assert_colour(answer, (255, 0, 0))
    assert answer.flags == {"icc_ignored"}


# several pictures in one


@pytest.mark.parametrize(
    ("format", "flag"), [("GIF", "animated"), ("WEBP", "animated"), ("PNG", "animated"), ("TIFF", "several_pictures")]
)
def test_the_first_picture_of_many_is_taken(decoded: Decoding, format: str, flag: str) -> None:
    frames = [Image.new("RGB", (64, 48), (10 * n, 0, 0)) for n in range(1, 20)]
    answer = decoded(stored(Image.new("RGB", (64, 48), RED), format, save_all=True, append_images=frames))
    assert_colour(answer, RED, within=6)
    assert answer.flags == {flag}


def test_a_gif_of_ten_thousand_frames_costs_one(decoded: Decoding) -> None:
    one = stored(Image.new("RGB", (64, 48), RED), "GIF")
    frame = one[one.index(b"\x2c") : -1]
    began = time.perf_counter()
    assert decoded(one[:-1] + frame * 10_000 + b"\x3b").flags == {"animated"}
    assert time.perf_counter() - began < 0.5


# broken and hostile


@pytest.mark.parametrize(
    "media",
    [
        b"",
        b"\xff",
        b"<html>no picture</html>",
        bytes(range(256)) * 8,
        b"BM",
        b"II*\0",
        b"II+\0\x08\0\0\0" + b"\xff" * 8,
    ],
)
def test_what_is_no_picture_is_undecodable(decoded: Decoding, media: bytes) -> None:
    assert decoded.reason(media) in ("undecodable", "truncated_image")


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_truncated_picture_is_no_picture(decoded: Decoding, format: str, options: dict, kept: float) -> None:
    media = stored(photo(), format, **options)
    assert decoded.reason(media[: int(len(media) * kept)]) == "truncated_image"


def test_a_truncated_jpeg_that_was_closed_is_found_by_its_grey(decoded: Decoding) -> None:
    media = stored(photo())
    assert decoded.reason(media[: len(media) // 2] + b"\xff\xd9") == "truncated_image"
    grey = Image.new("RGB", (640, 427), (128, 128, 128))
    assert_colour(decoded(stored(grey)), (128, 128, 128))  # grey itself is no crime


def test_a_png_with_too_little_data_is_truncated(decoded: Decoding) -> None:
    assert decoded.reason(png(100, 100, rows=bytes(2000))) == "truncated_image"


def test_a_decompression_bomb_is_refused_by_its_header(decoded: Decoding) -> None:
    bomb = png(60_000, 60_000, rows=bytes(100_000_000))
    assert len(bomb) < 100_000 and decoded.reason(bomb) == "too_many_pixels"


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 1))),
        lambda: png(8, 8, chunk(b"iTXt", b"x\0\1\0xx\0\0" + zlib.compress(bytes(50_000_000), 1))),
        lambda: png(8, 8, chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(50_000_000), 1))),
        lambda: png(8, 8, chunk(b"eXIf", bytes(10_000_000))),
        lambda: png(8, 8, chunk(b"tEXt", b"a\0b") * 100_000),
        lambda: b"\xff\xd8" + (b"\xff\xe1\xff\xff" + bytes(65_533)) * 160 + stored(photo())[2:],
        lambda: b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 37_500, 7, 10_000_000, 8) + bytes(4),
    ],
)
def test_metadata_bombs_are_refused_in_no_time(decoded: Decoding, bomb: object) -> None:
    media = bomb()
    began = time.perf_counter()
    assert decoded.reason(media) == "metadata_too_large"
    assert time.perf_counter() - began < 1


def test_a_huge_input_goes_through_both_pipes(decoded: Decoding) -> None:
    media = stored(photo()) + bytes(64 * 2**20)
    assert decoded(media).flags == {"trailing_bytes"}


# processes


def test_memory_is_limited() -> None:
    async def scene() -> None:
        async with DecoderPool(1, Limits(decode_memory_mib=512)) as pool:
            wide = stored(Image.new("RGBA", (8000, 8000)), "PNG", compress_level=1)
            with pytest.raises(MediaError) as caught:
                await pool.decode(wide, BUDGET)
            assert caught.value.reason == "resource_exceeded"
            assert await pool.decode(stored(photo()), BUDGET)

    asyncio.run(scene())


def stat_of(pid: int) -> str:
    """The kernel's letter for what it does: R, S, T, Z; `gone` if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "gone"


def test_a_stopped_child_is_a_timeout_and_the_next_picture_starts_within_a_second() -> None:
    async def scene() -> None:
        async with DecoderPool(1, Limits(decode_seconds=0.5)) as pool:
            (pid,) = pool.pids
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(MediaError) as caught:
                await pool.decode(stored(photo()), BUDGET)
            assert caught.value.reason == "decode_timeout"
            began = time.perf_counter()
            await asyncio.sleep(0)
            assert await pool.decode(stored(photo()), BUDGET)
            assert time.perf_counter() - began < 2  # one, and room for a busy machine
            assert pid not in pool.pids and stat_of(pid) == "gone"

    asyncio.run(scene())


async def _at_work(pool: DecoderPool, media: bytes) -> tuple[int, asyncio.Task[Decoded]]:
    """A child that holds this picture and cannot go on with it."""
    (pid,) = pool.pids
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(pool.decode(media, BUDGET))
    await asyncio.sleep(0.05)
    return pid, task


def test_a_child_killed_in_the_middle_costs_nothing() -> None:
    async def scene() -> None:
        async with DecoderPool(1, Limits()) as pool:
            pid, task = await _at_work(pool, stored(photo()))
            os.kill(pid, signal.SIGKILL)
            assert (await task).width == 640
            assert pool.pids != [pid]

    asyncio.run(scene())


def test_a_child_killed_while_idle_is_nobodys_fault() -> None:
    async def scene() -> None:
        async with DecoderPool(1, Limits()) as pool:
            for _ in range(3):
                os.kill(pool.pids[0], signal.SIGKILL)
                assert await pool.decode(stored(photo()), BUDGET)

    asyncio.run(scene())


def test_a_picture_that_kills_two_children_is_given_up() -> None:
    async def scene() -> None:
        async with DecoderPool(1, Limits()) as pool:
            pid, task = await _at_work(pool, stored(photo(4000, 3000)))
            os.kill(pid, signal.SIGSEGV)
            os.kill(pid, signal.SIGCONT)
            while not any(child.asked and child.process.pid != pid for child in pool._children):
                await asyncio.sleep(0.001)
            os.kill(pool.pids[0], signal.SIGSEGV)
            with pytest.raises(MediaError) as caught:
                await task
            assert caught.value.reason == "decoder_crash"
            assert await pool.decode(stored(photo()), BUDGET)

    asyncio.run(scene())


def test_a_cancelled_picture_never_answers_for_the_next() -> None:
    async def scene() -> None:
        async with DecoderPool(1, Limits()) as pool:
            pid, task = await _at_work(pool, stored(Image.new("RGB", (640, 640))))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            answer = await pool.decode(stored(photo(320, 200)), BUDGET)
            assert (answer.width, answer.height) == (320, 200)
            assert pid not in pool.pids

    asyncio.run(scene())


def test_many_pictures_share_few_processes_and_each_gets_its_own_answer() -> None:
    async def scene() -> None:
        async with DecoderPool(2, Limits(), recycle_after=5) as pool:
            first = set(pool.pids)
            sizes = [(100 + n, 80) for n in range(40)]
            answers = await asyncio.gather(*(pool.decode(stored(photo(*size)), AS_IT_IS) for size in sizes))
            assert [(answer.width, answer.height) for answer in answers] == sizes
            assert not first & set(pool.pids)  # recycled

    asyncio.run(scene())


def test_leaving_ends_every_child_even_those_at_work() -> None:
    async def scene() -> list[int]:
        async with DecoderPool(2, Limits()) as pool:
            pids = pool.pids
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            tasks = [asyncio.create_task(pool.decode(stored(photo()), BUDGET)) for _ in range(4)]
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert pool.pids == []
        return pids

    assert [stat_of(pid) for pid in asyncio.run(scene())] == ["gone", "gone"]


ORPHANS = """
import asyncio, sys
from captioner.media.decoders import DecoderPool, Frames
from captioner.media.wire import Header, frame_head
from captioner.recipe import Limits
async def scene():
    async with DecoderPool(2, Limits()) as pool:
        print(*pool.pids, flush=True)
        await asyncio.sleep(60)
asyncio.run(scene())
"""


def test_children_die_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        os.kill(pids[0], signal.SIGSTOP)  # not even a stopped one may stay
        parent.kill()
    deadline = time.monotonic() + 5
    while {stat_of(pid) for pid in pids} - {"gone", "Z"} and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(pids) == 2 and not {stat_of(pid) for pid in pids} - {"gone", "Z"}


def test_a_child_has_no_secrets_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")

    async def scene() -> bytes:
        async with DecoderPool(1, Limits()) as pool:
            return Path(f"/proc/{pool.pids[0]}/environ").read_bytes()

    assert b"SECRET" not in asyncio.run(scene())


PROBES = """
import ctypes, json, mmap, os, resource, signal, socket, sys, threading
from captioner.media import sandbox

libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    if libc[name](*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

PROBES = {
    "socket": lambda: socket.socket(),
    "socketpair": lambda: socket.socketpair(),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "thread": lambda: threading.Thread(target=print).start(),
    "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "write a file": lambda: os.open("/tmp/decoder-probe", os.O_WRONLY | os.O_CREAT),
    "the parent's environment": lambda: os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY),
    "list a folder": lambda: os.listdir("/"),
    "unlink": lambda: os.unlink("/tmp/decoder-probe"),
    "kill the parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "ptrace": lambda: call("ptrace", 16, os.getppid(), 0, 0),
    "process_vm_readv": lambda: call("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0),
    "unshare": lambda: call("unshare", 0x10000000),
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "the parent's limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
    "memory": lambda: bytearray(2**30),
}
threads = sys.argv[1:] == ["threads"]
network = sandbox.close(sandbox.Confines(memory_mib=512, parent=os.getppid(), threads=threads))
refused = {}
for name, probe in PROBES.items():
    try:
        probe()
        refused[name] = False
    except (OSError, MemoryError, RuntimeError):
        refused[name] = True
os.write(1, json.dumps({"network": network, "refused": refused}).encode())
sandbox.allow_cpu(0)
while True:
    pass
"""


@pytest.mark.parametrize("threads", [False, True], ids=["alone", "with threads"])
def test_inside_the_sandbox_nothing_can_be_reached(threads: bool) -> None:
    command = [sys.executable, "-c", PROBES, *(["threads"] if threads else [])]
    probed = subprocess.run(command, capture_output=True, timeout=30, check=False)
    report = json.loads(probed.stdout or probed.stderr)
    if report["network"] == "open":
        pytest.skip("this kernel has no seccomp")
    assert [name for name, refused in report["refused"].items() if not refused] == (["thread"] if threads else [])
    assert probed.returncode == -signal.SIGXCPU  # a spin ends by itself


@pytest.mark.parametrize("piece_bytes", [1, 7, 4096])
def test_answers_come_whole_however_the_socket_cuts_them(piece_bytes: int) -> None:
    answers: list[tuple[Header, bytes]] = [({"n": 1}, b"first" * 100), ({"n": 2}, b""), ({"reason": "é"}, b"\0" * 999)]
    stream = b"".join(frame_head(header, len(body)) + body for header, body in answers)

    async def read() -> list[tuple[Header, bytes]]:
        frames = Frames()
        for at in range(0, len(stream), piece_bytes):
            asyncio.get_running_loop().call_soon(frames.data_received, stream[at : at + piece_bytes])
        return [await frames.next() for _ in answers]

    assert asyncio.run(read()) == answers


def test_a_decoder_that_sends_for_ever_unasked_is_given_up_in_bounded_memory() -> None:
    async def flood() -> None:
        frames = Frames()
        for _ in range(200):
            frames.data_received(b"\0" * 2**20)
            assert len(frames._held) < 2**27
        await frames.next()

    with pytest.raises(ConnectionResetError):
        asyncio.run(flood())

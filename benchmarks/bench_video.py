"""Looking at clips once a second: clips and frames a second of one core, beside what one would take instead.

    python -m benchmarks.bench_video [--torchcodec PYTHON] [--many 10000]

Clips of 10 to 60 s, 1280 x 720 px, 25 frames a second, H.264, made of the demo's photographs. CPU seconds count, so
that other work on the machine matters little; each way is a process of its own, and the ways take turns. --many looks
at so many small clips through the decoder processes and tells what memory they take meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.video_readers import WAYS
from captioner.media.clip_format import READERS
from captioner.media.decoders import DecoderPool
from captioner.recipe import Limits
from captioner.types import FrameBudget, PixelBudget

PHOTOS = Path(__file__).parents[1] / "pipelines" / "demo" / "photos"
SCRIPT = Path(__file__).with_name("video_readers.py")
CODED = (10, 12, 15, 20)  # seconds; and the longer ones are these again and again, as coding is slow
REPEATED = ((15, 2), (20, 3))
SIZE, SMALL, RATE = (1280, 720), (256, 144), 25
BUDGET = FrameBudget(pixels=PixelBudget(max_pixels=360 * 420, multiple_of=28), max_frames=128)


def views(seconds: int, seed: int, size: tuple[int, int] = SIZE) -> Iterator[Image.Image]:
    """A window that wanders over photographs, another one every four seconds."""
    photos = sorted(PHOTOS.glob("*.jpg"))
    for number in range(seconds * RATE):
        shot, at = divmod(number, 4 * RATE)
        if at == 0:
            photo = Image.open(photos[(seed + shot) % len(photos)]).convert("RGB")
            wide = photo.resize((size[0] * 5 // 4, size[1] * 5 // 4), Image.Resampling.BICUBIC)
        left, top = (wide.width - size[0]) * at // (4 * RATE), (wide.height - size[1]) * at // (8 * RATE)
        yield wide.crop((left, top, left + size[0], top + size[1]))


def coded(frames: Iterator[Image.Image], size: tuple[int, int], preset: str = "fast") -> bytes:
    """The frames as x264 codes them when nobody says otherwise: a key frame every 250, B frames between others."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": preset, "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def repeated(media: bytes, times: int) -> bytes:
    """A clip several times over, without coding it again."""
    out, shift = io.BytesIO(), 0
    with av.open(out, "w", format="mp4") as container:
        with av.open(io.BytesIO(media)) as first:
            stream = container.add_stream_from_template(first.streams.video[0])
        for _ in range(times):
            with av.open(io.BytesIO(media)) as source:
                video = source.streams.video[0]
                for packet in source.demux(video):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        container.mux(packet)
                shift += video.duration or 0
    return out.getvalue()


def clips() -> dict[int, bytes]:
    """The clips by their seconds."""
    made = {seconds: coded(views(seconds, seed), SIZE) for seed, seconds in enumerate(CODED)}
    return made | {seconds * times: repeated(made[seconds], times) for seconds, times in REPEATED}


def run(way: str, folder: Path, python: str, rounds: int) -> dict[str, Any] | None:
    """One turn of one way; None where it is not installed."""
    ended = subprocess.run(
        [python, str(SCRIPT), way, str(folder), str(rounds)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        print(f"  {way}: not measured ({(ended.stderr.strip().splitlines() or ['it died'])[-1][:90]})")
        return None
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def compare(folder: Path, torchcodec: str, rounds: int) -> None:
    """The ways in turns; medians over the turns."""
    pythons = {way: torchcodec if way == "torchcodec" and torchcodec else sys.executable for way in WAYS}
    ways = [way for way in WAYS if way != "video2dataset's ffmpeg" or shutil.which("ffmpeg")]
    turns: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for way in list(ways):
            found = run(way, folder, pythons[way], 1)
            if found is None:
                ways.remove(way)
            else:
                turns.setdefault(way, []).append(found)
    best = statistics.median(each["cpu"] for each in turns["ours, PyAV"])
    print(f"{'':26}{'clips/s a core':>16}{'frames/s a core':>17}{'frames':>8}{'CPU, ours = 1':>15}")
    for way, found in turns.items():
        cpu = statistics.median(each["cpu"] for each in found)
        clips, frames = found[0]["clips"], found[0]["frames"]
        print(f"{way:26}{clips / cpu:16.2f}{frames / cpu:17.1f}{frames:8}{cpu / best:15.2f}")


async def many(count: int, reader: str) -> None:
    """So many clips through one decoder process at a time, recycled as in a run; the memory of both sides meanwhile."""
    clips = [coded(views(2, seed, SMALL), SMALL, "ultrafast") for seed in range(8)]
    budget = FrameBudget(pixels=BUDGET.pixels, max_frames=128, reader=reader)
    began = time.perf_counter()
    print(f"{reader}: {count} clips of 2 s; MiB of the parent and of its decoder process")
    async with DecoderPool(1, Limits(), clips=reader) as pool:
        for number in range(1, count + 1):
            await pool.watch(clips[number % len(clips)], budget)
            if number in (1, 100) or number % max(1, count // 10) == 0:
                sizes = [resident(pid) for pid in ("self", *pool.pids)]
                spent = time.perf_counter() - began
                print(f"  {number:6}  {sizes[0]:6.0f} {max(sizes[1:]):6.0f}  {spent:6.0f} s", flush=True)


def resident(pid: int | str) -> float:
    """MiB of a process in memory, 0 of one that is just being replaced."""
    status = Path(f"/proc/{pid}/status").read_text()
    told = status.partition("VmRSS:")[2].split()
    return int(told[0]) / 1024 if told else 0.0


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--torchcodec", default="", help="the Python of an environment with torchcodec")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--many", type=int, default=1000)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = clips()
        for seconds, media in made.items():
            Path(folder, f"{seconds:03}.mp4").write_bytes(media)
        size = sum(map(len, made.values()))
        print(f"{len(made)} clips, {sum(made)} s in all, {8 * size / sum(made) / 1e6:.1f} Mbit/s")
        compare(Path(folder), options.torchcodec, options.rounds)
    for reader in READERS:
        asyncio.run(many(options.many, reader))


if __name__ == "__main__":
    main()

"""One way of looking at clips once a second, in a process of its own: video_readers.py WAY FOLDER ROUNDS.

Every way is given the bytes of a clip and gives back its frames at whole seconds, small. Prints one JSON object. It
imports nothing of ours but for our own ways, so that another environment's Python can run it.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 504, 280  # what 1280 x 720 becomes within 360 * 420 px
Way = Callable[[bytes], int]


def ours(reader: str) -> Way:
    """What a decoder process does, JPEGs and all; without the process."""
    from captioner.media.watch import watch
    from captioner.types import FrameBudget, PixelBudget

    pixels = PixelBudget(max_pixels=360 * 420, multiple_of=28)
    budget = FrameBudget(pixels=pixels, max_frames=128, reader=reader)
    return lambda media: len(watch(io.BytesIO(media), budget, 2**25).frames)


def plain_decord() -> Way:
    """What one writes first: the index nearest to each second by the average rate, in one batch."""
    import decord

    def look(media: bytes) -> int:
        reader = decord.VideoReader(io.BytesIO(media), width=WIDTH, height=HEIGHT, num_threads=1)
        rate = reader.get_avg_fps()
        wanted = [round(second * rate) for second in range(int(len(reader) / rate) + 1)]
        return len(reader.get_batch([index for index in wanted if index < len(reader)]).asnumpy())

    return look


def plain_pyav() -> Way:
    """What one writes first: decode all, convert the frames that a second has come for."""
    import av

    def look(media: bytes) -> int:
        count, due = 0, Fraction(0)
        with av.open(io.BytesIO(media)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for frame in container.decode(stream):
                if frame.pts * stream.time_base >= due:
                    frame.to_ndarray(width=WIDTH, height=HEIGHT, format="rgb24")
                    count, due = count + 1, due + 1
        return count

    return look


def every_frame() -> Way:
    """Decode and convert every frame."""
    import av

    def look(media: bytes) -> int:
        seconds = set()
        with av.open(io.BytesIO(media)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for frame in container.decode(stream):
                frame.to_ndarray(width=WIDTH, height=HEIGHT, format="rgb24")
                seconds.add(int(frame.pts * stream.time_base))
        return len(seconds)

    return look


def torchcodec() -> Way:
    """Frames played at each second, exactly, then shrunk in one batch."""
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)

    def look(media: bytes) -> int:
        decoder = VideoDecoder(media, num_ffmpeg_threads=1)
        last = decoder.metadata.end_stream_seconds
        seconds = [float(second) for second in range(int(last) + 1) if second < last]
        frames = decoder.get_frames_played_at(seconds).data
        small = torch.nn.functional.interpolate(frames.float(), (HEIGHT, WIDTH), mode="bilinear", antialias=True)
        return len(small.to(torch.uint8))

    return look


def ffmpeg() -> Way:
    """video2dataset's way: a file, an ffmpeg process with the fps filter, files again."""

    def look(media: bytes) -> int:
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder, "clip.mp4")
            clip.write_bytes(media)
            command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(clip), "-filter_threads", "1"]
            command += ["-vf", f"fps=1,scale={WIDTH}:{HEIGHT}", "-threads", "1", "-q:v", "2", f"{folder}/%04d.jpg"]
            subprocess.run(command, check=True)
            return len(list(Path(folder).glob("*.jpg")))

    return look


WAYS: dict[str, Callable[[], Way]] = {
    "ours, PyAV": lambda: ours("pyav"),
    "ours, decord": lambda: ours("decord"),
    "plain decord": plain_decord,
    "plain PyAV": plain_pyav,
    "every frame, PyAV": every_frame,
    "torchcodec": torchcodec,
    "video2dataset's ffmpeg": ffmpeg,
}


def cpu_seconds() -> float:
    """Of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """CPU and wall seconds of every clip so often, and the frames found; the first clip is done once before."""
    look, clips = WAYS[name](), [path.read_bytes() for path in sorted(folder.glob("*.mp4"))]
    look(clips[0])
    began, cpu = time.perf_counter(), cpu_seconds()
    frames = sum(look(clip) for _ in range(rounds) for clip in clips)
    spent = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - began}
    return {"clips": rounds * len(clips), "frames": frames, **spent}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))

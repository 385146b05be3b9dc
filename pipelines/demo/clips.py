"""The demo's clips, made of its own photographs: a view that wanders, a cut, and a sign whose words change."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from pipelines.demo.pictures import PHOTOS, sign
from shards.pack import Packed

WIDTH, HEIGHT, RATE = 640, 360, 25


def demo_clips() -> list[Packed]:
    """Two clips as video2dataset writes WebVid's: a title, a running number and a duration beside each."""
    named = [
        ("Mountains and wine, stock footage 4k", _wander("picosdeeuropa_by_aitzol_berasategi", "wine_by_jakkub_mede")),
        ("Bakery sign template (loop)", _shop()),
    ]
    return [_packed(number, title, list(frames)) for number, (title, frames) in enumerate(named)]


def _packed(number: int, title: str, frames: list[Image.Image]) -> Packed:
    seconds = len(frames) / RATE
    fields = {
        "videoid": str(1000 + number),
        "contentUrl": f"https://clips.example/{1000 + number}.mp4",
        "duration": f"PT00H00M{seconds:02.0f}S",
        "page_dir": "000001_000050",
        "name": title,
    }
    return Packed(key=f"{number:08d}", extension="mp4", media=_coded(frames), caption=title, fields=fields)


def _wander(one: str, other: str) -> Iterator[Image.Image]:
    """Five seconds of a window that moves across one photograph, then three on another."""
    yield from _panned(Image.open(PHOTOS / f"{one}.jpg"), 5 * RATE)
    yield from _panned(Image.open(PHOTOS / f"{other}.jpg"), 3 * RATE)


def _panned(photo: Image.Image, frames: int) -> Iterator[Image.Image]:
    scale = max(WIDTH * 1.15 / photo.width, HEIGHT * 1.15 / photo.height)
    wide = photo.convert("RGB").resize((round(photo.width * scale), round(photo.height * scale)))
    for number in range(frames):
        left, top = (
            round((side - window) * number / frames)
            for side, window in ((wide.width, WIDTH), (min(wide.height, HEIGHT + 40), HEIGHT))
        )
        yield wide.crop((left, top, left + WIDTH, top + HEIGHT))


def _shop() -> Iterator[Image.Image]:
    """A sign for four seconds, and for three more with other words."""
    for words, seconds in ((("FRESH BREAD", "OPEN 7 TO 5"), 4), (("SOLD OUT", "BACK TOMORROW"), 3)):
        board = Image.new("RGB", (WIDTH, HEIGHT), (120, 150, 175))
        board.paste(sign(*words).resize((480, 320)), (80, 20))
        yield from [board] * (seconds * RATE)


def _coded(frames: Iterable[Image.Image]) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()

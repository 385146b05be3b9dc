"""Decode, shrink and encode against plain Pillow, and what the process boundary adds; its arguments are photographs."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from captioner.media.decode import JPEG_QUALITY, decode
from captioner.media.decoders import DecoderPool
from captioner.recipe import Limits
from captioner.types import PixelBudget

BUDGET = PixelBudget(max_pixels=1_000_000)
PHOTOS = Path(__file__).parents[1] / "pipelines" / "demo" / "photos"


def camera_jpeg(photo: Path, megapixels: float) -> bytes:
    """A photograph enlarged to so many megapixels, with a sensor's noise, as a camera would store it."""
    image = Image.open(photo).convert("RGB")
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 4, (image.height, image.width, 1)).astype(np.int16)
    pixels = np.clip(np.asarray(image, np.int16) + noise, 0, 255).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def plain(media: bytes) -> bytes:
    """What one writes first."""
    image = ImageOps.exif_transpose(Image.open(BytesIO(media))).convert("RGB")
    scale = min(1.0, (BUDGET.max_pixels / (image.width * image.height)) ** 0.5)
    shrunk = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.LANCZOS)
    out = BytesIO()
    shrunk.save(out, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return out.getvalue()


def ours(media: bytes) -> bytes:
    return decode(media, BUDGET, 2**27).picture.jpeg


def seconds(function: Callable[[bytes], object], media: bytes) -> float:
    began = time.perf_counter()
    function(media)
    return time.perf_counter() - began


def compare(pictures: list[bytes], rounds: int) -> tuple[float, float, float]:
    """Median seconds a picture: plain, ours; and decibels between the two results. Turns alternate."""
    plains, mine = [], []
    for media in pictures * rounds:
        plains.append(seconds(plain, media))
        mine.append(seconds(ours, media))
    errors = [np.asarray(Image.open(BytesIO(plain(media))), float) - _pixels(ours(media)) for media in pictures]
    decibels = statistics.mean(10 * np.log10(255**2 / max(0.001, np.mean(error**2))) for error in errors)
    return statistics.median(plains), statistics.median(mine), decibels


def _pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(jpeg)), float)


async def boundary(pictures: list[bytes], rounds: int) -> tuple[float, float]:
    """Median seconds a picture in this process and through a child, one at a time, turns alternating."""
    here, there = [], []
    async with DecoderPool(1, Limits()) as pool:
        for media in pictures * rounds:
            here.append(seconds(ours, media))
            began = time.perf_counter()
            await pool.decode(media, BUDGET)
            there.append(time.perf_counter() - began)
    return statistics.median(here), statistics.median(there)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("photos", nargs="*", type=Path, help="JPEGs; default: the demo's")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    photos = (options.photos or sorted(PHOTOS.glob("*.jpg")))[:4]
    print("megapixels  plain/s   ours/s   ratio   dB between")
    for megapixels in (0.5, 4, 12, 24):
        pictures = [camera_jpeg(photo, megapixels) for photo in photos]
        slow, fast, decibels = compare(pictures, options.rounds)
        print(f"{megapixels:10}  {1 / slow:7.1f}  {1 / fast:7.1f}  {slow / fast:6.2f}  {decibels:11.1f}")
    for megapixels in (0.05, 1):
        pictures = [camera_jpeg(photo, megapixels) for photo in photos]
        here, there = asyncio.run(boundary(pictures, options.rounds * 10))
        print(f"through a child, {megapixels} MP: {1e3 * here:.2f} ms -> {1e3 * there:.2f} ms a picture")


if __name__ == "__main__":
    main()

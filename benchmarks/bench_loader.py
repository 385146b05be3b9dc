"""Samples a second of the trainer's loader, decoded and packed, beside webdataset and Pillow alone."""

from __future__ import annotations

import importlib.util
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

if importlib.util.find_spec("torch") is None:
    print("left out: needs the `train` extra")
    sys.exit(0)

import numpy as np
import webdataset as wds
from PIL import Image

from shards.pack import Packed, pack
from shards.store import Store
from tests import corpora
from trainer.data.entries import Reader
from trainer.data.feeds import open_feed
from trainer.data.lane import Order
from trainer.data.loader import Ahead, Loader
from trainer.image_size import grid
from trainer.recipes import STAGES

PHOTOS = Path(__file__).parents[1] / "pipelines/demo/photos"
SAMPLES, SHARD, SIDE = 240, 80, 800
STAGE = STAGES["eve-v2-2.1a"]


def corpus(folder: Path) -> Path:
    """A committed corpus of the demo's photographs, each many times with other crops, so that no cache helps."""
    dice, samples = random.Random(0), []
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
    for number in range(SAMPLES):
        photo = photos[number % len(photos)]
        left, top = dice.randrange(photo.width // 8), dice.randrange(photo.height // 8)
        path = folder / "one.jpg"
        photo.crop((left, top, photo.width, photo.height)).save(path, quality=88)
        samples.append(
            Packed(key=f"{number:09d}", extension="jpg", media=path.read_bytes(), caption="a photo", fields={})
        )
    pack(Store(str(folder / "shards")), samples, SHARD)
    recipe = corpora.fake_recipe()
    corpora.run_here(recipe, corpora.planned(recipe, folder / "shards"), folder / "out")
    return folder / "out"


def spelled(text: str) -> list[int]:
    return [1 + ord(letter) % 250 for letter in text[::4]]


def ours(out: Path, threads: int) -> tuple[float, float]:
    """Seconds and CPU seconds a sample: planned, packed, decoded, at the stage's size."""
    reader = Reader(stage=STAGE, tokenize=spelled, image_token_id=0, patch=32)
    order = Order(lanes=1, budget=4096, window=4)
    began, busy, seen = time.perf_counter(), time.process_time(), 0
    with Loader([open_feed(str(out))], reader, order, ahead=Ahead(threads=threads, steps=4)) as loader:
        for step in loader:
            seen += sum(batch.samples for batch in step)
            if seen >= SAMPLES:
                break
    return (time.perf_counter() - began) / seen, (time.process_time() - busy) / seen


def plain(out: Path) -> tuple[float, float]:
    """webdataset, Pillow's full decode, bicubic to the same size."""
    tars = sorted(str(path) for path in (out / "data").glob("*.tar"))
    began, busy, seen = time.perf_counter(), time.process_time(), 0
    data = itertools.islice(wds.WebDataset(tars, shardshuffle=False).decode("pilrgb").to_tuple("jpg", "txt"), SAMPLES)
    for image, _ in data:
        cut = grid(image.size, SIDE)
        np.array(image.resize((cut.cols * 32, cut.rows * 32)))
        seen += 1
    return (time.perf_counter() - began) / seen, (time.process_time() - busy) / seen


def main() -> None:
    """Prints samples a second, and CPU milliseconds a sample, of both; they take turns."""
    with tempfile.TemporaryDirectory() as folder:
        out = corpus(Path(folder))
        forms = {
            "webdataset + PIL": plain,
            "loader, 1 thread": lambda at: ours(at, 1),
            "2 threads": lambda at: ours(at, 2),
        }
        rounds = [{name: run(out) for name, run in forms.items()} for _ in range(3)]
        for name in forms:
            wall, busy = (min(each[name][at] for each in rounds) for at in (0, 1))
            print(f"{name:18} {1 / wall:6.1f} samples/s  {1000 * busy:5.1f} ms of CPU a sample")


if __name__ == "__main__":
    main()

"""Reading a picture's header: read_header beside Pillow's open and EXIF lookup, both in one run."""

from __future__ import annotations

import io
import time
import timeit
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from captioner.media.header import read_header

SIZES = ((640, 480), (1024, 768), (2048, 1536), (4000, 3000))
FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
ORIENTATION = 0x0112


def picture(name: str, size: tuple[int, int]) -> bytes:
    """A noisy picture as a camera or a web page stores it, with EXIF where the format has it."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size)
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F], exif[0x0131] = 6, "A camera's maker", "Some software 1.0"
    options = {} if name in ("gif", "bmp") else {"exif": exif.tobytes()}
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def with_pillow(media: bytes) -> tuple[tuple[int, int], int]:
    """What read_header is measured against: the size and the orientation by Pillow."""
    with Image.open(io.BytesIO(media)) as image:
        size = image.size
        # Pillow decodes a whole GIF or BMP for nothing here: they hold no EXIF
        orientation = 1 if image.format in ("GIF", "BMP") else image.getexif().get(ORIENTATION, 1)
    return size, orientation


def microseconds(*calls: Callable[[], object]) -> list[float]:
    """CPU time of each, the best of 15 rounds in which they take turns: a busy minute hits all of them."""
    best = [float("inf")] * len(calls)
    for _ in range(15):
        for place, call in enumerate(calls):
            best[place] = min(best[place], timeit.timeit(call, number=100, timer=time.process_time) / 100 * 1e6)
    return best


def main() -> None:
    """Prints one line a format and size, then the geometric mean of the ratios."""
    print(f"{'format':7} {'size':>10} {'bytes':>10} {'read_header us':>15} {'Pillow us':>10} {'ratio':>6}")
    ratios = []
    for name in FORMATS:
        for size in SIZES:
            media = picture(name, size)
            ours, theirs = microseconds(partial(read_header, media), partial(with_pillow, media))
            ratios.append(theirs / ours)
            print(
                f"{name:7} {size[0]:>5}x{size[1]:<4} {len(media):>10} {ours:>15.2f} {theirs:>10.1f} {ratios[-1]:>6.1f}"
            )
    mean = float(np.exp(np.mean(np.log(ratios))))
    print(f"ratio of all: {mean:.1f} (geometric mean), least {min(ratios):.1f}")


if __name__ == "__main__":
    main()

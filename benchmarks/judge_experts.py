"""Captions pictures with the embedded engine and prints the rows of docs/experts-judged.md, to be judged by eye."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from captioner.engines.experts import Experts
from captioner.types import CaptionRequest, Picture, Sampling

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
MAX_PIXELS = 1280 * 28 * 28
OPTIONS = argparse.ArgumentParser(description=__doc__)
OPTIONS.add_argument("pictures", nargs="+", type=Path, help="pictures, or folders of them")
OPTIONS.add_argument("--no-ocr", action="store_true", help="leave out what is written")


def pictures(paths: list[Path]) -> Iterator[Path]:
    """The pictures among files and below folders, sorted."""
    for path in paths:
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in below if file.suffix.lower() in PICTURES)


def request_of(path: Path) -> CaptionRequest:
    """The picture as an engine gets it: upright, on white, of at most MAX_PIXELS, as JPEG."""
    media = path.read_bytes()
    with Image.open(io.BytesIO(media)) as opened:
        seen = ImageOps.exif_transpose(opened).convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    scale = min(1.0, (MAX_PIXELS / (opaque.width * opaque.height)) ** 0.5)
    size = (max(1, int(opaque.width * scale)), max(1, int(opaque.height * scale)))
    jpeg = io.BytesIO()
    opaque.resize(size, Image.Resampling.LANCZOS).save(jpeg, "JPEG", quality=92)
    return CaptionRequest(
        images=(Picture(jpeg=jpeg.getvalue(), width=size[0], height=size[1]),),
        prompt="",
        sampling=Sampling(max_tokens=512),
        media_sha256=hashlib.sha256(media).hexdigest(),
    )


async def judge(paths: list[Path], *, ocr: bool) -> None:
    """Prints a row a picture, and what they took."""
    async with Experts(ocr=ocr) as engine:
        seconds = 0.0
        for path in paths:
            asked = request_of(path)
            begun = time.process_time()
            caption = await engine.caption(asked)
            seconds += time.process_time() - begun
            print(f"| `{path.name}` | {caption.text.replace('|', '/')} | | |", flush=True)
    print(f"\n{len(paths)} pictures, {seconds / max(1, len(paths)):.2f} CPU seconds each, {Experts.REVISION}")


if __name__ == "__main__":
    options = OPTIONS.parse_args()
    asyncio.run(judge(list(pictures(options.pictures)), ocr=not options.no_ocr))

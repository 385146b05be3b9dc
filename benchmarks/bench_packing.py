"""How full rows are: the packing of the trainer's lanes on lengths of real pictures and captions."""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from pathlib import Path

if importlib.util.find_spec("torch") is None:
    print("left out: needs the `train` extra")
    sys.exit(0)

from captioner.media.header import read_header
from trainer.data.packing import packed
from trainer.image_size import Size, grid

PHOTOS = Path(__file__).parents[1] / "pipelines/demo/photos"
SAMPLES, WINDOW = 20_000, 16
TOKENS_A_WORD = 1.3  # English in Qwen2.5's tokens, about
SETTINGS = {"800 x 800, rows of 4,096": (800, 4096), "1600 x 1600, rows of 16,384": (1600, 16_384)}


def real_sizes() -> list[Size]:
    """Of the demo's photographs, in px."""
    headers = [read_header(path.read_bytes()) for path in sorted(PHOTOS.glob("*.jpg"))]
    return [(each.width, each.height) for each in headers]


def lengths(side: int, dice: random.Random) -> list[int]:
    """Photographs scaled by 0.4 to 1.6, as web pictures vary, and captions around DenseFusion's 190 words."""
    sizes, drawn = real_sizes(), []
    for _ in range(SAMPLES):
        width, height = dice.choice(sizes)
        scale = dice.uniform(0.4, 1.6)
        words = dice.lognormvariate(5.2, 0.35)
        drawn.append(grid((int(width * scale), int(height * scale)), side).tokens + int(words * TOKENS_A_WORD))
    return drawn


def rows_of(drawn: list[int], budget: int) -> tuple[int, int]:
    """Rows and their tokens, window by window as a lane packs them; what is left over at the end is not counted."""
    waiting: list[tuple[int, int]] = []
    rows = tokens = 0
    for length in drawn:
        waiting.append((length, 0))
        if sum(each for each, _ in waiting) < WINDOW * budget:
            continue
        going, left = packed([each for each, _ in waiting], [age for _, age in waiting], budget)
        rows += len(going)
        tokens += sum(waiting[index][0] for row in going for index in row)
        waiting = [(waiting[index][0], waiting[index][1] + 1) for index in left]
    return rows, tokens


def in_order(drawn: list[int], budget: int) -> int:
    """Rows if samples are put one after another, each into the row that is open."""
    rows, room = 0, 0
    for length in drawn:
        if length > room:
            rows, room = rows + 1, budget
        room -= length
    return rows


def main() -> None:
    """Prints, for two stages, the share of a row that samples fill, beside rows filled in order and padding."""
    for name, (side, budget) in SETTINGS.items():
        drawn = lengths(side, random.Random(0))
        began = time.process_time()
        rows, tokens = rows_of(drawn, budget)
        each = (time.process_time() - began) / SAMPLES * 1e6
        whole = sum(drawn)
        padded = whole / (len(drawn) * max(drawn))
        print(
            f"{name}: {tokens / rows / budget:.2%} of a row is samples; in order "
            f"{whole / in_order(drawn, budget) / budget:.2%}; padded to the longest {padded:.2%}; "
            f"{each:.0f} us of CPU a sample"
        )


if __name__ == "__main__":
    main()

"""Small pictures, all different: sizes, colours, shapes and how hard they were compressed."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

SIDES = (56, 84, 100, 131, 168, 224)


def photo(number: int) -> bytes:
    """JPEG number so-and-so: waves of its own in three channels, of a size of its own."""
    dice = np.random.default_rng(number)
    width, height = (SIDES[each] for each in dice.integers(0, len(SIDES), 2))
    y, x = np.mgrid[0:height, 0:width]
    slow, fast = dice.uniform(5, 60, (2, 3))
    waves = [128 + 120 * np.sin(x / slow[each] + number) * np.cos(y / fast[each]) for each in range(3)]
    out = BytesIO()
    Image.fromarray(np.dstack(waves).astype(np.uint8)).save(out, "JPEG", quality=int(dice.integers(40, 96)))
    return out.getvalue()

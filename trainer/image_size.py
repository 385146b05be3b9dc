"""Any-ratio picture sizes: which size a picture is brought to, and how many tokens it then is; pure arithmetic.

EVEv2's Fig. 8 compares settings of this kind. Its released code shrinks in training and rescales always in inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from captioner.errors import MediaError
from captioner.media.header import read_header

Size = tuple[int, int]  # width, height in pixels
PATCH = 32  # pixels of EVEv2's patch side: 16 x 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Patches a row and rows."""

    cols: int
    rows: int

    @property
    def patches(self) -> int:
        return self.cols * self.rows

    @property
    def tokens(self) -> int:
        """CLS, and each row with the SPL that ends it: tall pictures cost more than wide ones of their area."""
        return 1 + self.rows * (self.cols + 1)


def fixed_area_training(size: Size, max_side: int, patch: int = PATCH) -> Grid:
    """Shrunk to an area of max_side^2 if larger; sides rounded (half to even, as Python does) to whole patches."""
    scale = max(1.0, math.sqrt(size[0] * size[1]) / max_side)
    cols, rows = (max(round(side / scale / patch), 1) for side in size)
    return Grid(cols=cols, rows=rows)


def fixed_area_inference(size: Size, max_side: int, patch: int = PATCH) -> Grid:
    """Scaled up or down to an area of max_side^2; sides rounded up to whole patches."""
    scale = math.sqrt(size[0] * size[1]) / max_side
    cols, rows = (max(math.ceil(side / scale / patch), 1) for side in size)
    return Grid(cols=cols, rows=rows)


def longest_edge(size: Size, max_side: int, patch: int = PATCH) -> Grid:
    """Shrunk until the longer side is max_side, if it is longer; sides rounded to whole patches."""
    scale = max(1.0, max(size) / max_side)
    cols, rows = (max(round(side / scale / patch), 1) for side in size)
    return Grid(cols=cols, rows=rows)


def any_resolution(size: Size, max_side: int = 0, patch: int = PATCH) -> Grid:
    """As it comes; sides rounded to whole patches. `max_side` has no say."""
    cols, rows = (max(round(side / patch), 1) for side in size)
    return Grid(cols=cols, rows=rows)


Mode = Callable[[Size, int, int], Grid]
MODES: dict[str, Mode] = {
    "train": fixed_area_training,
    "infer": fixed_area_inference,
    "longest_edge": longest_edge,
    "any_resolution": any_resolution,
}

# Fig. 8 by name: mode and max_side; of any resolution the latter is only what rows are made large enough for.
SETTINGS: dict[str, tuple[str, int]] = {
    "fixed-area-800": ("train", 800),
    "fixed-area-1600": ("train", 1600),
    "longest-edge-800": ("longest_edge", 800),
    "longest-edge-1600": ("longest_edge", 1600),
    "any-resolution": ("any_resolution", 1600),
}


def size_told(media: bytes) -> Size:
    """Upright px, by the header of a stored picture or its beginning. Raises MediaError, also for one without any."""
    header = read_header(media)
    if not (header.width and header.height):
        raise MediaError("unsupported_format", f"a {header.format} that tells no size is not read here")
    return header.width, header.height


def grid(size: Size, max_side: int, mode: str = "train", patch: int = PATCH) -> Grid:
    """The grid of a picture of `size` (width, height). Raises ValueError for an unknown mode or an empty picture."""
    if mode not in MODES:
        raise ValueError(f"no mode {mode!r}; there are {', '.join(MODES)}")
    if min(size) < 1 or max_side < 1:
        raise ValueError(f"sizes are at least 1 pixel, not {size} within {max_side}")
    return MODES[mode](size, max_side, patch)

"""How many tokens of a model's context one picture takes: pure arithmetic, for plans and not for any request."""

from __future__ import annotations

import math

from captioner.types import PixelBudget

# LLaVA-NeXT's grids, in tiles across and down; a tile has 24 x 24 tokens (arXiv 2310.03744 and the 1.6 release).
_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
_TILE_PIXELS, _TILE_TOKENS = 336, 24


def image_tokens(width: int, height: int, budget: PixelBudget) -> int:
    """Tokens of a bounded picture of width x height px: one a patch of multiple_of^2 px, or LLaVA-NeXT's tiles.

    A budget without a multiple is that of a model which cuts pictures into tiles itself.
    """
    if budget.multiple_of > 1:
        return width * height // budget.multiple_of**2
    across, down = max(_GRIDS, key=lambda grid: _fit(width, height, grid))
    columns, rows = across * _TILE_TOKENS, down * _TILE_TOKENS
    if width * rows > height * columns:  # the picture fills the width, and rows of padding are taken out again
        rows = max(1, math.floor(columns * height / width))
    else:
        columns = max(1, math.floor(rows * width / height))
    return _TILE_TOKENS**2 + rows * (columns + 1)  # the whole picture once, and a token that ends each row


def _fit(width: int, height: int, grid: tuple[int, int]) -> tuple[int, int]:
    """How much of the picture a grid shows, and then how little of it is padding, both in px."""
    wide, high = grid[0] * _TILE_PIXELS, grid[1] * _TILE_PIXELS
    scale = min(wide / width, high / height)
    shown = min(int(width * scale) * int(height * scale), width * height)
    return shown, shown - wide * high

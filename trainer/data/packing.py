"""Packing samples into rows of a token budget: best fit, longest first, over a window of samples; pure."""

from __future__ import annotations

import bisect
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indexes in rows of at most `budget` tokens. Raises ValueError for a sample that fits none."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        length = lengths[index]
        if length > budget:
            raise ValueError(f"a sample of {length} tokens does not fit a row of {budget}")
        place = bisect.bisect_left(room, (length, -1))
        if place == len(room):
            rows.append([])
            left, row = budget, len(rows) - 1
        else:
            left, row = room.pop(place)
        rows[row].append(index)
        bisect.insort(room, (left - length, row))
    return rows


def packed(
    lengths: Sequence[int], waited: Sequence[int], budget: int, full: float = 0.97, patience: int = 3
) -> tuple[list[list[int]], list[int]]:
    """The rows that can go, and the indexes that wait for a window with better company.

    A row goes when it is `full`, or holds a sample that has waited for `patience` windows already. At least one goes.
    """
    rows = best_fit(lengths, budget)
    fills = [sum(lengths[index] for index in row) / budget for row in rows]
    fullest = max(fills, default=0.0)

    def may_go(row: list[int], fill: float) -> bool:
        return fill >= min(full, fullest) or any(waited[index] >= patience for index in row)

    going = [row for row, fill in zip(rows, fills, strict=True) if may_go(row, fill)]
    gone = {index for row in going for index in row}
    return going, [index for index in range(len(lengths)) if index not in gone]

"""Steps of rows, decoded ahead of the model by threads: Pillow lets go of the interpreter while it works, and clips
are opened in processes.

T tokens of a row, F frames, H and W pixels.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captioner.errors import MediaError, Refused
from trainer.data.entries import Feed, Planned, Reader
from trainer.data.lane import Lane, Order, Position, Row
from trainer.data.pixels import frames
from trainer.loss import IGNORE, shifted

MOST_BAD_IN_A_ROW = 100  # then it is not the pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """threads: that decode. steps: planned and decoded before they are wanted."""

    threads: int = 4
    steps: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One row as the model takes it: ids, positions and labels (1, T); frames (F, 3, H, W) in bytes.

    targets: how many tokens the loss looks at. bad: samples whose pictures did not decode, by reason; their tokens are
    not in the row.
    """

    ids_1T: Tensor
    positions_1T: Tensor
    labels_1T: Tensor
    pictures_F3HW: tuple[Tensor, ...]
    samples: int
    targets: int
    bad: Counter[str]
    lane: int
    position: Position


def batch_of(row: Row, pictures: Sequence[Tensor | MediaError | None], lane: int, empty_id: int) -> Batch:
    """A row and its decoded pictures; if nothing of it is left, one token that nobody learns from."""
    pairs = list(zip(row.samples, pictures, strict=True))
    kept = [(sample, seen) for sample, seen in pairs if not isinstance(seen, MediaError)]
    bad = Counter(seen.reason for _, seen in pairs if isinstance(seen, MediaError))
    ids = [token for sample, _ in kept for token in sample.example.ids] or [empty_id]
    labels = [label for sample, _ in kept for label in sample.example.labels] or [IGNORE]
    positions = [place for sample, _ in kept for place in range(sample.tokens)] or [0]
    ids_1T, positions_1T, labels_1T = (torch.tensor([each]) for each in (ids, positions, labels))
    return Batch(
        ids_1T=ids_1T,
        positions_1T=positions_1T,
        labels_1T=labels_1T,
        pictures_F3HW=tuple(seen for _, seen in kept if seen is not None),
        samples=len(kept),
        targets=int((shifted(labels_1T, positions_1T) != IGNORE).sum()),
        bad=bad,
        lane=lane,
        position=row.position,
    )


USUAL = Ahead()


class Loader(AbstractContextManager["Loader"]):
    """Iterate for steps: a batch of each of this rank's lanes (`mine`, by default all). Leaving it ends its threads.

    positions: where lanes go on. Raises Refused for feeds with fewer samples than there are lanes.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        reader: Reader,
        order: Order,
        *,
        mine: Sequence[int] = (),
        positions: dict[int, Position] | None = None,
        ahead: Ahead = USUAL,
    ) -> None:
        for feed in feeds:
            if feed.samples < order.lanes:
                raise Refused(f"{feed.name} has {feed.samples} samples for {order.lanes} rows a step: give fewer rows")
        self._reader, self._steps, self._bad_in_a_row = reader, ahead.steps, 0
        known = positions or {}
        # Threads of their own: to measure must not wait behind steps that are decoded.
        self._measurers = ThreadPoolExecutor(ahead.threads, thread_name_prefix="measure")
        self._lanes = {
            number: iter(Lane(number, feeds, reader, order, known.get(number), self._measurers))
            for number in (mine or range(order.lanes))
        }
        self._decoders = ThreadPoolExecutor(ahead.threads, thread_name_prefix="decode")
        self._planner = ThreadPoolExecutor(1, thread_name_prefix="plan")

    def __exit__(self, *exc: object) -> None:
        for each in (self._planner, self._measurers, self._decoders):
            each.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[list[Batch]]:
        steps = deque(self._planner.submit(self._plan) for _ in range(self._steps))
        while True:
            planned = steps.popleft().result()
            steps.append(self._planner.submit(self._plan))
            yield [self._batch(lane, row, decoding) for lane, row, decoding in planned]

    def _plan(self) -> list[tuple[int, Row, list[Future[Any]]]]:
        step = []
        for lane, rows in self._lanes.items():
            row = next(rows)
            step.append((lane, row, [self._decoders.submit(self._decode, each) for each in row.samples]))
        return step

    def _decode(self, sample: Planned) -> Tensor | MediaError | None:
        try:
            return frames(sample, self._reader.patch)
        except MediaError as error:
            return error

    def _batch(self, lane: int, row: Row, decoding: list[Future[Any]]) -> Batch:
        pictures = [each.result() for each in decoding]
        for seen in pictures:
            self._bad_in_a_row = self._bad_in_a_row + 1 if isinstance(seen, MediaError) else 0
            if self._bad_in_a_row >= MOST_BAD_IN_A_ROW:
                raise Refused(f"{self._bad_in_a_row} pictures in a row did not decode; the last: {seen}")
        return batch_of(row, pictures, lane, empty_id=0)

"""What is known of a sample before its pixels are looked at: its words, its size, and where its bytes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol

from captioner.errors import MediaError
from trainer.image_size import MODES, Grid, Size
from trainer.stage import Stage
from trainer.templates import TEMPLATES, Example, Tokenize, Turn, encode

Fetch = Callable[[], list[bytes]]  # the encoded frames of a video, or the one of a picture


class Unfit(Exception):
    """This sample cannot be trained on; reason is counted."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A sample of a feed. size: upright px of its picture or frames, None for text alone. sha256: of what tells it
    apart, hex; it decides whether the sample is held out. measure: gives the entry with its size, where that is told by
    nothing but the picture or clip itself; raises MediaError."""

    key: str
    turns: tuple[Turn, ...]
    sha256: str
    size: Size | None = None
    frames: int = 1
    fetch: Fetch | None = None
    measure: Callable[[], Entry] | None = None

    def measured_by(self, threads: Executor) -> Entry:
        """The entry, measured from now on, if it is to be; who wants to know then waits."""
        return self if self.measure is None else replace(self, measure=threads.submit(self.measure).result)


class Part(Protocol):
    """A shard of a feed: how many entries it has, and a run of them in the order in which they are stored."""

    @property
    def samples(self) -> int: ...
    def entries(self, start: int, stop: int) -> list[Entry]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A corpus as a stage reads it. weight: its share of the mixture, by samples. version: names what exactly is read,
    for checkpoints to tell."""

    name: str
    weight: float
    parts: Sequence[Part]
    version: str

    @property
    def samples(self) -> int:
        return sum(part.samples for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A sample with its exact tokens; `grid` is what its picture, if it has one, is brought to."""

    entry: Entry
    example: Example
    grid: Grid | None

    @property
    def tokens(self) -> int:
        return len(self.example.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How a stage reads a sample. patch: pixels of a patch's side. hold_out: the share of samples, by their sha256,
    that training leaves for `recap eval`, which takes just those with `held_out`."""

    stage: Stage
    tokenize: Tokenize
    image_token_id: int
    patch: int
    hold_out: float = 0.0
    held_out: bool = False

    def plan(self, entry: Entry) -> Planned:
        """Raises Unfit: held_out, template (what it refuses), too_long (a picture beyond the text's limit), or why its
        picture or clip cannot be measured."""
        if (int(entry.sha256[:8], 16) < self.hold_out * 2**32) != self.held_out:
            raise Unfit("held_out")
        try:
            entry = entry if entry.measure is None else entry.measure()
        except MediaError as error:
            raise Unfit(error.reason) from error
        grid = None if entry.size is None else self.grid(entry.size)
        pictures = [] if grid is None else [grid.tokens * entry.frames]
        try:
            pieces = TEMPLATES[self.stage.template](list(entry.turns))
            example = encode(pieces, self.tokenize, pictures, self.image_token_id)
        except ValueError as error:
            raise Unfit("template") from error
        return Planned(entry=entry, example=self.bounded(example, sum(pictures)), grid=grid)

    def grid(self, size: Size) -> Grid:
        return MODES[self.stage.pictures.mode](size, self.stage.pictures.max_side, self.patch)

    def bounded(self, example: Example, pictures: int) -> Example:
        """Text beyond the stage's limit is cut off at its end, as the released loader does."""
        stop = self.stage.max_text_tokens + pictures
        if len(example.ids) <= stop:
            return example
        if self.image_token_id in example.ids[stop:]:
            raise Unfit("too_long")
        return Example(ids=example.ids[:stop], labels=example.labels[:stop])

"""What is made (Recipe, hashed into the run id) and how fast (Pace, never hashed)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captioner.errors import Refused
from captioner.registry import Part
from captioner.types import FrameBudget, PixelBudget, Sampling

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What an engine is told besides the picture: in the prompt's place for it, so much of it, in fixed words.

    kind: `alt-text`, or `experts` for what they see as well. revision: of the experts, "" without them.
    most_tokens: of the whole block, as captioner.external estimates them; the rest counts lines and characters.
    """

    kind: str
    most_tokens: int
    alt_characters: int = 1000
    boxes: int = 16
    lines: int = 16
    line_characters: int = 80
    revision: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How an engine is asked: prompt, pixel budget, and a ladder of samplings.

    ladder[0] is the first ask; while a filter's reason is in again_for the next rung is asked, until none is left.
    A greedy loop loops again when asked greedily, so later rungs draw with a temperature.
    prompt_sha256: hex digest of the file that the prompt came from, "" for one of ours. told: None for the picture
    alone. trim: whether a caption that stays cut is kept up to its last whole sentence. frames: how a video is looked
    at, None where only pictures are asked about.
    """

    prompt_id: str
    prompt: str
    budget: PixelBudget
    ladder: tuple[Sampling, ...]
    again_for: tuple[str, ...] = ()
    prompt_sha256: str = ""
    told: Telling | None = None
    trim: bool = False
    frames: FrameBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one sample may cost before it is given up. They decide outcomes, so they are part of the recipe."""

    decode_seconds: float = 10.0
    decode_memory_mib: int = 1024

    def __post_init__(self) -> None:
        if not 0 < self.decode_seconds < math.inf or self.decode_memory_mib < 256:
            raise Refused(
                "limits: decode-seconds above 0, not without end, and decode-memory-mib of 256 or more would be right"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is made, complete: one recipe over one input makes one corpus, if its engine is deterministic."""

    source: Part
    screens: tuple[Part, ...]
    engine: Part
    model: str
    model_revision: str
    asking: Asking
    filters: tuple[Part, ...]
    limits: Limits = Limits()
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a run goes. Never hashed: a resumed run may have another pace.

    workers: Ray actors, 0 for one a CPU. slots: requests in flight per worker, and at each replica where a model is
    served; 0 for the engine's own default, or for what the pool finds.
    decoders: decoder processes per worker. open_shards: shards a worker reads at once, so that the end of one
    does not leave slots idle. journal_every: finished captions at most between two journal writes of one shard.
    journal_seconds: after so long the next caption is written without waiting for others. stop_after: so many shards
    in a row that break our own code stop the run. shard_tries: so many workers may die of one shard.
    quality_window, rejected_at_most: when more of a worker's so many latest captions are rejected, the run stops; a
    window of 0 never stops it.
    """

    workers: int = 0
    slots: int = 0
    decoders: int = 1
    open_shards: int = 2
    journal_every: int = 16
    journal_seconds: float = 2.0
    stop_after: int = 3
    shard_tries: int = 10
    quality_window: int = 400
    rejected_at_most: float = 0.6

    def __post_init__(self) -> None:
        ones = ("decoders", "open_shards", "journal_every", "stop_after", "shard_tries")
        for name, value in (("workers", 0), ("slots", 0), ("quality_window", 0), *((each, 1) for each in ones)):
            if getattr(self, name) < value:
                raise Refused(f"--pace.{name.replace('_', '-')} {getattr(self, name)}: {value} or more would be right")
        if not 0 < self.rejected_at_most <= 1:
            raise Refused(f"--pace.rejected-at-most {self.rejected_at_most}: a share over 0 and up to 1 would be right")


def canonical(value: Json) -> bytes:
    """One spelling for one value: sorted keys, no spaces, UTF-8, no NaN. Raises ValueError for NaN or infinity."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(value: Json) -> str:
    """sha256, in hex, of a value's canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_json(data: Any) -> Json:
    """A frozen dataclass, or a tuple or mapping of them, as plain JSON."""
    if type(data) in _PLAIN:  # most values are, and a plan has a million
        return data
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {field.name: to_json(getattr(data, field.name)) for field in dataclasses.fields(data)}
    if isinstance(data, Mapping):
        return {str(key): to_json(value) for key, value in data.items()}
    if isinstance(data, tuple | list):
        return [to_json(value) for value in data]
    return data


def differences(there: Json, asked: Json, path: str = "") -> list[tuple[str, Json, Json]]:
    """Where two JSON values differ, field by field: (dotted path, value there, value asked)."""
    if isinstance(there, dict) and isinstance(asked, dict):
        keys = sorted(there.keys() | asked.keys())
        return [row for key in keys for row in differences(there.get(key), asked.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(there, list) and isinstance(asked, list) and len(there) == len(asked):
        pairs = enumerate(zip(there, asked, strict=True))
        return [row for n, (old, new) in pairs for row in differences(old, new, f"{path}[{n}]")]
    return [] if there == asked else [(path, there, asked)]

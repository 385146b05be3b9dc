"""The labelled set: texts with the reason each should be dropped for, in a tuning and a held-out half."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from captioner.filters import FILTERS
from captioner.registry import build
from captioner.types import Caption, Filter, Sample

Half = Literal["tuning", "held_out"]
HALVES: tuple[Half, ...] = get_args(Half)
FOLDER = Path(__file__).parent / "labelled"
SAMPLE = Sample(key="0", kind="image", media=b"", meta={}, source_shard="labelled")
REASON_OF = {
    "empty": "empty_caption",
    "characters": "bad_characters",
    "markup": "markup",
    "refusal": "refusal",
    "echo": "prompt_echo",
    "truncated": "truncated_caption",
    "repetition": "repetitive_caption",
    "length": "too_short",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A text and what a careful reader says of it.

    reason: what its filter must find, None for an honest caption. also: what other filters may say too, and is not
    scored. style: family/kind. origin: written, made by a rule, or the model that wrote it. prompt: what was asked.
    """

    text: str
    reason: str | None
    style: str
    origin: str
    finish_reason: str = "stop"
    also: frozenset[str] = frozenset()
    prompt: str = ""


@dataclass(slots=True, kw_only=True)
class Score:
    """How a reason fared. missed: should have been found. wrong: were dropped for it and should not have been."""

    found: int = 0
    missed: list[Labelled] = field(default_factory=list)
    wrong: list[Labelled] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """1 where nothing was dropped."""
        return self.found / max(1, self.found + len(self.wrong)) if self.wrong else 1.0

    @property
    def recall(self) -> float:
        """1 where nothing was to be found."""
        return self.found / max(1, self.found + len(self.missed)) if self.missed else 1.0


def stored(half: Half) -> Iterator[Labelled]:
    """The rows of one half's files."""
    for path in sorted((FOLDER / half).glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            yield Labelled(**{**row, "also": frozenset(row.get("also", ()))})


def scores(texts: Iterable[Labelled]) -> dict[str, Score]:
    """Every filter asked alone about every text: an earlier filter hides no later one's mistake."""
    parts = {name: build(FILTERS, name, {}) for name in FILTERS}
    by_reason = {REASON_OF[name]: Score() for name in FILTERS}
    echoes: dict[str, Filter] = defaultdict(lambda: parts["echo"])
    for text in texts:
        if text.prompt and text.prompt not in echoes:
            echoes[text.prompt] = build(FILTERS, "echo", {"prompt": text.prompt})
        caption = Caption(text=text.text, finish_reason=text.finish_reason)
        for name, part in parts.items():
            each = echoes[text.prompt] if name == "echo" else part
            _book(by_reason[REASON_OF[name]], text, REASON_OF[name], each(SAMPLE, caption))
    return by_reason


def _book(score: Score, text: Labelled, reason: str, verdict: str | None) -> None:
    if text.reason == reason:
        if verdict == reason:
            score.found += 1
        else:
            score.missed.append(text)
    elif verdict == reason and reason not in text.also:
        score.wrong.append(text)

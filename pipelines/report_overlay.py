"""What the experts saw, laid out over a picture: boxes, and labels that keep out of each other's way."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FRAME_WIDTH, FRAME_HEIGHT = 400.0, 300.0  # about the CSS px a picture gets in a card, so that type keeps its size
LABEL_HEIGHT, LETTER, CAPITAL, PADDING = 17.0, 6.4, 8.2, 11.0
LONGEST_LABEL = 24
MOST_MARKS = 24

Area = tuple[float, float, float, float]  # left, top, right, bottom in view units


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something the experts saw at a place. box: fractions of the upright picture; score: 0 to 1."""

    kind: Literal["object", "text"]
    name: str
    score: float
    box: Area


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Seen, as drawn. area: of its box; label: what is written in label_area, the bare number where all is crowded."""

    number: int
    seen: Seen
    area: Area
    label: str
    label_area: Area


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """An SVG view of width x height units over one picture."""

    width: float
    height: float
    marks: tuple[Mark, ...]
    undrawn: int


def overlay(facts: Mapping[str, Any], width: int, height: int) -> Overlay:
    """The marks over a picture of width x height px. Facts that are not as experts write them are left out."""
    scale = min(FRAME_WIDTH / width, FRAME_HEIGHT / height)
    view = (round(width * scale, 1), round(height * scale, 1))
    every = [*_seen(facts.get("objects"), "object", "name"), *_seen(facts.get("text"), "text", "text")]
    marks = placed(every[:MOST_MARKS], view)
    return Overlay(width=view[0], height=view[1], marks=marks, undrawn=len(every) - len(marks))


def _seen(entries: Any, kind: Literal["object", "text"], name: str) -> Iterator[Seen]:
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and (box := _box(entry.get("box"))):
            score = entry.get("score")
            sure = float(score) if isinstance(score, int | float) and math.isfinite(score) else 0.0
            yield Seen(kind=kind, name=str(entry.get(name, "")), score=sure, box=box)


def _box(value: Any) -> Area | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(edge, int | float) and math.isfinite(edge) for edge in value):
        return None
    left, top, right, bottom = (min(max(float(edge), 0.0), 1.0) for edge in value)
    return (left, top, right, bottom) if left < right and top < bottom else None


def placed(every: Sequence[Seen], view: tuple[float, float]) -> tuple[Mark, ...]:
    """Each with a label by its box: first all get their numbers, then the words of whichever still find room.

    Smaller boxes choose first, having the least room.
    """
    areas = [_scaled(seen.box, view) for seen in every]
    order = sorted(range(len(every)), key=lambda each: _size(areas[each]))
    labels: dict[int, tuple[str, Area]] = {}
    for at in order:
        others = [area for _, area in labels.values()]
        places = list(_places(f"{at + 1}", areas[at], view))
        labels[at] = f"{at + 1}", min(places, key=lambda area: sum(_overlap(area, other) for other in others))
    for at in order:
        words = label_of(every[at], at + 1)
        others = [area for other, (_, area) in labels.items() if other != at]
        free = (a for a in _places(words, areas[at], view) if not any(_overlap(a, other) for other in others))
        if room := next(free, None):
            labels[at] = words, room
    return tuple(
        Mark(number=at + 1, seen=seen, area=areas[at], label=labels[at][0], label_area=labels[at][1])
        for at, seen in enumerate(every)
    )


def label_of(seen: Seen, number: int) -> str:
    """A label's words: `3 dog 92%`, or the text that was read."""
    name = seen.name if len(seen.name) <= LONGEST_LABEL else seen.name[: LONGEST_LABEL - 1] + "…"
    return f"{number} “{name}”" if seen.kind == "text" else f"{number} {name} {seen.score:.0%}"


def _places(words: str, box: Area, view: tuple[float, float]) -> Iterator[Area]:
    """Places for a label inside the view, best first: above, inside, below; at the left, the right, the middle."""
    width = min(_width(words), view[0])
    left, top, right, bottom = box
    for y in (top - LABEL_HEIGHT, top, bottom - LABEL_HEIGHT, bottom):
        if not 0 <= y <= view[1] - LABEL_HEIGHT:
            continue
        for x in (left, right - width, (left + right - width) / 2):
            x = min(max(x, 0.0), view[0] - width)
            yield round(x, 1), round(y, 1), round(x + width, 1), round(y + LABEL_HEIGHT, 1)
    x, y = min(left, view[0] - width), min(top, max(view[1] - LABEL_HEIGHT, 0.0))
    yield round(x, 1), round(y, 1), round(x + width, 1), round(y + LABEL_HEIGHT, 1)


def _width(words: str) -> float:
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in words)
    return PADDING + LETTER * (len(words) + wide) + (CAPITAL - LETTER) * sum(map(str.isupper, words))


def _scaled(box: Area, view: tuple[float, float]) -> Area:
    left, top, right, bottom = box
    return round(left * view[0], 1), round(top * view[1], 1), round(right * view[0], 1), round(bottom * view[1], 1)


def _size(area: Area) -> float:
    return (area[2] - area[0]) * (area[3] - area[1])


def _overlap(one: Area, other: Area) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across * down if across > 0 and down > 0 else 0.0

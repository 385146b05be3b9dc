"""The nouns of what experts see; every box is (left, top, right, bottom) as fractions of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Box = tuple[float, float, float, float]


def within(one: Box, other: Box) -> float:
    """How much of the smaller of two boxes lies in the larger, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(0.0, width) * max(0.0, height) / max(smaller, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What the picture as a whole shows. phrase: with its article; resembles: a leaf it only looks like."""

    name: str
    phrase: str
    level: Literal["leaf", "group"]
    score: float
    hedged: bool
    resembles: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A box that detector and classifier agree on; agreed: the classifier's share for it, 1 where it has no say."""

    name: str
    score: float
    agreed: float
    hedged: bool
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of text as it was read."""

    text: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Colour names of a region with the share of its pixels, the largest first; fine: "dark green", broad: "green"."""

    fine: tuple[tuple[str, float], ...]
    broad: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accent:
    """A small vivid patch: its colour, where its middle lies and the share of the picture it covers."""

    colour: str
    place: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What can be measured without knowing what is shown.

    rows: top, middle, bottom third. columns: left, middle, right third. spot: a ninth with a colour of its own.
    brightest: the ninth that is clearly the brightest, "" where none is. lightness_down, lightness_across: mean
    CIE L* of rows and columns. lightness: mean CIE L*, 0 to 100. contrast: its standard deviation.
    chroma: the 98th percentile of CIE C*. detail: mean edge strength of the nine ninths, row by row.
    flat: share of pixels that equal their neighbours.
    """

    width: int
    height: int
    overall: Shares
    rows: tuple[Shares, Shares, Shares]
    columns: tuple[Shares, Shares, Shares]
    accents: tuple[Accent, ...]
    spot: Accent | None
    brightest: str
    lightness_down: tuple[float, float, float]
    lightness_across: tuple[float, float, float]
    lightness: float
    contrast: float
    chroma: float
    detail: tuple[float, ...]
    flat: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything the experts saw.

    more: names of things of which there may be others than those stated. lines: those that can be quoted;
    lines_found: all that look like lines of text.
    """

    tags: tuple[Tag, ...]
    things: tuple[Thing, ...]
    more: frozenset[str]
    lines: tuple[Line, ...]
    lines_found: int
    look: Look


def to_json(facts: Facts) -> Mapping[str, Any]:
    """The facts as a record keeps them: plain values, rounded."""
    look = facts.look
    return {
        "engine": "experts",
        "width": look.width,
        "height": look.height,
        "tags": [
            {"name": tag.name, "level": tag.level, "score": round(tag.score, 3), "hedged": tag.hedged}
            | ({"resembles": tag.resembles} if tag.resembles else {})
            for tag in facts.tags
        ],
        "objects": [
            {"name": thing.name, "score": round(thing.score, 3), "agreed": round(thing.agreed, 3)}
            | {"hedged": thing.hedged, "box": _rounded(thing.box)}
            for thing in facts.things
        ],
        "text": [{"text": line.text, "score": round(line.score, 3), "box": _rounded(line.box)} for line in facts.lines],
        "look": _look_json(look),
    }


def _look_json(look: Look) -> Mapping[str, Any]:
    return {
        "colours": _shares_json(look.overall),
        "rows": [_shares_json(row) for row in look.rows],
        "columns": [_shares_json(column) for column in look.columns],
        "accents": [{"colour": a.colour, "place": a.place, "share": round(a.share, 3)} for a in look.accents],
        "spot": None if look.spot is None else {"colour": look.spot.colour, "place": look.spot.place},
        "brightest": look.brightest,
        "lightness": round(look.lightness, 1),
        "lightness_down": [round(third, 1) for third in look.lightness_down],
        "lightness_across": [round(third, 1) for third in look.lightness_across],
        "contrast": round(look.contrast, 1),
        "chroma": round(look.chroma, 1),
        "detail": [round(tile, 2) for tile in look.detail],
        "flat": round(look.flat, 3),
    }


def _shares_json(shares: Shares) -> Mapping[str, float]:
    return {name: round(share, 3) for name, share in shares.fine[:4]}


def _rounded(box: Box) -> list[float]:
    return [round(edge, 3) for edge in box]

"""EXTERNAL: what an engine is told besides the picture, from alt text and experts to the block in its prompt.

The block's shape is DenseFusion's (arXiv 2407.08303): world knowledge, boxes in fractions of the picture, OCR.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import ClassVar

from captioner.errors import UnknownPart
from captioner.experts.facts import Facts
from captioner.experts.seeing import Seeing
from captioner.neutral import neutral
from captioner.recipe import Telling
from captioner.types import Decoded, External, Information, Sample

KINDS = ("none", "alt-text", "experts")
# Where the block goes in a prompt; nothing else in braces means anything.
PLACE = "{external_information}"
LABEL_CHARACTERS = 40
_HEADINGS = ("[External Information]:", "[World Knowledge]:", "[Detection Box]:", "[OCR]:")
_NOTHING = "none"  # said in place of an empty part: every prompt of a recipe has the same shape

_LETTERS = re.compile("[A-Za-z]")
_BARE_SPACES = re.compile(r" (?![A-Za-z])")

Boxes = tuple[tuple[str, tuple[float, float, float, float]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AltText:
    """The source's own caption and no more; costs nothing."""

    async def __aenter__(self) -> AltText:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def gather(self, sample: Sample, decoded: Decoded) -> Information:
        return Information(alt_text=alt_text(sample))


@dataclass(slots=True, kw_only=True)
class Experts:
    """The alt text and what the experts see: boxes that they are sure of, and lines that they can quote.

    0.8 s of one CPU a picture and 350 MiB a process, in a thread of its own beside the engine's answers: one worker
    feeds about one picture a second, whatever the engine could take.
    """

    PACKAGES: ClassVar[tuple[str, ...]] = ("onnxruntime", "rapidocr")

    _seeing: Seeing = field(default_factory=lambda: Seeing(ocr=True), init=False, repr=False, compare=False)

    async def __aenter__(self) -> Experts:
        await self._seeing.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._seeing.__aexit__(*exc)

    async def gather(self, sample: Sample, decoded: Decoded) -> Information:
        """Raises EngineUnavailable before it was entered."""
        return informed(alt_text(sample), await self._seeing.see(decoded.picture))


def external_of(told: Telling | None) -> External | None:
    """Who gathers for a recipe, not yet entered; None where nothing is told. Raises UnknownPart."""
    if told is None:
        return None
    if told.kind not in KINDS[1:]:
        raise UnknownPart(f"no external information {told.kind!r} here; there is {', '.join(KINDS)}")
    return AltText() if told.kind == "alt-text" else Experts()


def alt_text(sample: Sample) -> str:
    """The source's own caption, untouched; "" where there is none."""
    text = sample.meta.get("caption")
    return text if isinstance(text, str) else ""


def informed(alt: str, facts: Facts) -> Information:
    """Facts as information; a box that the experts only think likely is left out."""
    boxes = tuple((thing.name, thing.box) for thing in facts.things if not thing.hedged)
    return Information(alt_text=alt, boxes=boxes, lines=tuple(line.text for line in facts.lines))


def block(information: Information, told: Telling) -> str:
    """The block of one sample, at most told.most_tokens estimated tokens; equal information makes equal text.

    Whole lines only. The alt text may take a third of the room, the boxes half of what is then left.
    """
    room = told.most_tokens - tokens(_spelled("", [], []))
    known = _shortened(neutral(information.alt_text, told.alt_characters), room // 3)
    room -= tokens(known)
    boxes = list(_fitting(map(_box_line, balanced(information.boxes, told.boxes)), room // 2))
    room -= tokens("".join(boxes))
    read = (neutral(line, told.line_characters) for line in information.lines[: told.lines])
    return _spelled(known, boxes, list(_fitting((f"\n- {line}" for line in read if line), room)))


def _spelled(known: str, boxes: list[str], lines: list[str]) -> str:
    parts = ("", f" {known or _NOTHING}", "".join(boxes) or f" {_NOTHING}", "".join(lines) or f" {_NOTHING}")
    return "\n".join(heading + part for heading, part in zip(_HEADINGS, parts, strict=True))


def balanced(boxes: Boxes, at_most: int) -> Boxes:
    """At most so many boxes: one of every label in turn, the smallest first, so that a crowd hides no single thing."""
    by_label: dict[str, list[tuple[str, tuple[float, float, float, float]]]] = defaultdict(list)
    for box in sorted(boxes, key=lambda box: (_area(box[1]), box)):
        by_label[box[0]].append(box)
    turns = chain.from_iterable(zip_longest(*by_label.values()))
    return tuple(box for box in turns if box is not None)[:at_most]


def tokens(text: str) -> int:
    """An estimate of a text's tokens: two ASCII letters make one, another ASCII character is one, a space counts
    before what is no letter, and of the rest every UTF-8 byte is one, as where a vocabulary lacks it.

    By Llama 2's tokenizer prose has half of it, a box line 0.94, letters without sense 1.2 times as many.
    """
    letters, spaces = len(_LETTERS.findall(text)), len(_BARE_SPACES.findall(text))
    others = len(text.encode()) - letters - text.count(" ")
    return (letters + 1) // 2 + spaces + others


def _shortened(line: str, most_tokens: int) -> str:
    """The first words of a line that fit; a first word that does not is cut where it must be."""
    kept, room = [], most_tokens
    for word in line.split(" "):
        room -= tokens(word)
        if room < 0:
            break
        kept.append(word)
    return " ".join(kept) or line[: max(0, most_tokens // 4)]  # no character has more than 4 bytes


def _fitting(lines: Iterable[str], most_tokens: int) -> Iterator[str]:
    for line in lines:
        most_tokens -= tokens(line)
        if most_tokens < 0:
            return
        yield line


def _box_line(box: tuple[str, tuple[float, float, float, float]]) -> str:
    edges = ", ".join(f"{min(1.0, max(0.0, edge)):.3f}" for edge in box[1])
    return f"\n- {neutral(box[0], LABEL_CHARACTERS)}: [{edges}]"


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])

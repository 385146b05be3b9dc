"""Where things are: NanoDet's boxes, each stated only if the classifier, shown the box alone, agrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from captioner.experts.facts import Box, Thing, within
from captioner.experts.sessions import Floats, Network
from captioner.experts.tags import Classifier
from captioner.experts.taxonomy import indices
from captioner.experts.weights import COCO, DETECTOR, class_names

SIDE = 416
STRIDES = (8, 16, 32)
BINS = 11
MEAN = np.array([103.53, 116.28, 123.675], dtype=np.float32)  # BGR
SPREAD = np.array([57.375, 57.12, 58.395], dtype=np.float32)

SEEN = 0.35  # a box below it is nothing at all
# A box is stated if the classifier gives the second number at least to what its class calls up.
STATED = ((0.68, 0.25), (0.45, 0.50))
PERSON = 0.85  # ImageNet has no class for persons, so the box alone must do
LIKELY_PERSON = 0.74  # hedged, and only if the mirrored picture says so too and the crop is no animal
BEAST = 0.30
SAME = 0.55  # IoU at which two boxes are one thing
WITHIN = 0.80  # share of a box inside a surer one of its class at which it is a part of that
SMALLEST = 20.0  # px of 416: less is too little to classify
MOST = 6  # boxes shown to the classifier

# COCO class -> ImageNet classes that a true box of it calls up. A class that is not here is never stated: nothing
# could contradict the detector. Balls are left out although ImageNet has them: anything round calls them up.
COMPATIBLE = {
    "bicycle": indices("444 671"),
    "car": indices("407 436 468 479 511 581 609 627 656 661 717 734 751 817"),
    "motorcycle": indices("665 670"),
    "airplane": indices("404 895 908"),
    "bus": indices("654 779 874"),
    "train": indices("466 547 565 705 820 829"),
    "truck": indices("555 569 675 717 864 867"),
    "boat": indices("472 484 510 554 576 625 628 724 780 814 871 914"),
    "traffic light": indices("920"),
    "parking meter": indices("704"),
    "bench": indices("703"),
    "bird": indices("7-24 80-100 127-146"),
    "cat": indices("281-285"),
    "dog": indices("151-268"),
    "horse": indices("339 603"),
    "sheep": indices("348 349"),
    "cow": indices("345-347"),
    "elephant": indices("101 385 386"),
    "bear": indices("294-297"),
    "zebra": indices("340"),
    "backpack": indices("414"),
    "umbrella": indices("879"),
    "bottle": indices("440 737 898 907"),
    "wine glass": indices("572 907 966"),
    "cup": indices("504 967 968"),
    "bowl": indices("659 809"),
    "banana": indices("954"),
    "orange": indices("950 951"),
    "broccoli": indices("937"),
    "hot dog": indices("934"),
    "pizza": indices("963"),
    "chair": indices("423 559 765 857"),
    "couch": indices("831"),
    "potted plant": indices("738"),
    "bed": indices("431 516 520 564 750"),
    "toilet": indices("861"),
    "tv": indices("664 782 851"),
    "laptop": indices("620 681"),
    "keyboard": indices("508 810 878"),
    "microwave": indices("651"),
    "refrigerator": indices("760"),
    "clock": indices("409 892"),
    "vase": indices("883"),
    "teddy bear": indices("850"),
}
# What a class is called when it is stated: an apricot, too, is seen as an orange.
SPOKEN = {"tv": "screen", "airplane": "plane", "orange": "piece of fruit"}
ANIMALS = indices("0-397")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A box before the veto; box in fractions of the picture."""

    name: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What may be stated, and the names of things of which the detector suspects more than those."""

    things: tuple[Thing, ...]
    more: frozenset[str]


class Detector:
    """COCO boxes of a picture."""

    def __init__(self) -> None:
        self._network = Network(DETECTOR)
        self._names = class_names(COCO)

    def boxes(self, picture: Image.Image) -> list[Candidate]:
        """Every box of at least SEEN, the surest first, without doubles."""
        scale = SIDE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        letter = np.full((SIDE, SIDE, 3), 127, dtype=np.float32)
        letter[: size[1], : size[0]] = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))[:, :, ::-1]
        outputs = self._network(((letter - MEAN) / SPREAD).transpose(2, 0, 1)[None])
        scores, corners = _decoded(outputs)
        extent = np.array([size[0], size[1], size[0], size[1]], dtype=np.float32)
        kept = _distinct(scores, np.clip(corners, 0, extent))
        return [self._candidate(scores, corners, cell, extent) for cell in kept]

    def _candidate(self, scores: Floats, corners: Floats, cell: int, extent: Floats) -> Candidate:
        left, top, right, bottom = (float(edge) for edge in np.clip(corners[cell] / extent, 0, 1))
        name = self._names[int(scores[cell].argmax())]
        return Candidate(name=name, score=float(scores[cell].max()), box=(left, top, right, bottom))


def agreed(picture: Image.Image, detector: Detector, classifier: Classifier) -> Found:
    """The detector's boxes that survive the veto."""
    seen = _whole([box for box in detector.boxes(picture) if _large(box, picture)])
    people = [_person(picture, box, detector, classifier) for box in seen if box.name == "person"]
    others = [box for box in seen if box.name in COMPATIBLE and box.score >= STATED[-1][0]][:MOST]
    votes = [_thing(box, _share(picture, box, classifier, COMPATIBLE[box.name])) for box in others]
    things = tuple(thing for thing in (*people, *votes) if thing is not None)
    stated = {thing.box for thing in things}
    return Found(things=things, more=frozenset(SPOKEN.get(c.name, c.name) for c in seen if c.box not in stated))


def _thing(box: Candidate, agreement: float) -> Thing | None:
    if not any(box.score >= score and agreement >= share for score, share in STATED):
        return None
    return Thing(name=SPOKEN.get(box.name, box.name), score=box.score, agreed=agreement, hedged=False, box=box.box)


def _person(picture: Image.Image, box: Candidate, detector: Detector, classifier: Classifier) -> Thing | None:
    """A person: sure by a high score, likely if the mirrored picture has it too."""
    if box.score < LIKELY_PERSON or _share(picture, box, classifier, ANIMALS) > BEAST:
        return None
    sure = box.score >= PERSON
    if not sure and not _mirrored(picture, box, detector):
        return None
    return Thing(name=box.name, score=box.score, agreed=1.0, hedged=not sure, box=box.box)


def _mirrored(picture: Image.Image, box: Candidate, detector: Detector) -> bool:
    left, top, right, bottom = box.box
    expected = np.array([1 - right, top, 1 - left, bottom], dtype=np.float32)
    return any(
        other.name == box.name
        and other.score >= LIKELY_PERSON
        and _overlap(np.array(other.box, dtype=np.float32), expected) >= SAME
        for other in detector.boxes(ImageOps.mirror(picture))
    )


def _share(picture: Image.Image, box: Candidate, classifier: Classifier, classes: frozenset[int]) -> float:
    return float(classifier.crop(picture, _pixels(box, picture))[sorted(classes)].sum())


def _whole(boxes: list[Candidate]) -> list[Candidate]:
    """Without the boxes that lie within a surer one of their class."""
    kept: list[Candidate] = []
    for box in boxes:
        if all(box.name != other.name or within(box.box, other.box) < WITHIN for other in kept):
            kept.append(box)
    return kept


def _pixels(candidate: Candidate, picture: Image.Image) -> tuple[int, int, int, int]:
    """The box with a tenth of air around it, in px."""
    left, top, right, bottom = candidate.box
    air_x, air_y = (right - left) / 10, (bottom - top) / 10
    return (
        int(max(0.0, left - air_x) * picture.width),
        int(max(0.0, top - air_y) * picture.height),
        int(np.ceil(min(1.0, right + air_x) * picture.width)),
        int(np.ceil(min(1.0, bottom + air_y) * picture.height)),
    )


def _large(candidate: Candidate, picture: Image.Image) -> bool:
    left, top, right, bottom = candidate.box
    scale = SIDE / max(picture.size)
    return min((right - left) * picture.width, (bottom - top) * picture.height) * scale >= SMALLEST


def _decoded(outputs: list[Floats]) -> tuple[Floats, Floats]:
    """Scores (3549, 80) and corners (3549, 4) in px of the letterboxed input."""
    boxes = []
    for stride, raw in zip(STRIDES, outputs[len(STRIDES) :], strict=True):
        sides = SIDE // stride
        cells = np.arange(sides * sides)
        middle = np.stack([(cells % sides + 0.5) * stride, (cells // sides + 0.5) * stride], axis=1)
        bins = raw[0].astype(np.float32).reshape(-1, 4, BINS)
        bins = np.exp(bins - bins.max(axis=2, keepdims=True))
        reach = (bins / bins.sum(axis=2, keepdims=True) * np.arange(BINS)).sum(axis=2) * stride
        boxes.append(np.concatenate([middle - reach[:, :2], middle + reach[:, 2:]], axis=1))
    scores = np.concatenate([raw[0] for raw in outputs[: len(STRIDES)]]).astype(np.float32)
    return scores, np.concatenate(boxes).astype(np.float32)


def _distinct(scores: Floats, corners: Floats) -> list[int]:
    """Cells whose box is no double of a surer one, whatever the classes: one thing gets one name."""
    best = scores.max(axis=1)
    kept: list[int] = []
    for cell in sorted(np.flatnonzero(best >= SEEN).tolist(), key=lambda cell: (-float(best[cell]), cell)):
        if all(_overlap(corners[cell], corners[other]) < SAME for other in kept):
            kept.append(cell)
    return kept


def _overlap(one: Floats, other: Floats) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = float(width * height)
    areas = float((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]))
    return both / (areas - both)

"""What is written in the picture: OCR by rapidocr, on one thread, of which only sure and plain lines are quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rapidocr import RapidOCR
from rapidocr.utils.process_img import get_rotate_crop_image

from captioner.experts.facts import Box, Line, within

LONGEST = 960  # px of the copy whose lines are read; more costs seconds and reads little more
FINDING = 704  # px of the copy on which lines are found: 0.55 s against 1.0 s at 960
MOST_LINES = 5  # the tallest of the lines found are read, at about 50 ms each
QUOTED, SHORT_QUOTED = 0.95, 0.98  # of 0.88 to 0.95 about one line in three has a wrong letter
LOWEST = 11.0  # px of height: below it letters are guessed
LETTERS, SHORT = 3, 6  # alphanumerics: fewer than LETTERS say nothing, fewer than SHORT are easily misread
AIR = 1.0  # line heights added at both ends for the second reading
WITHIN = 0.6  # share of a line inside another at which it is a part of that

QUIET_AND_SINGLE = {
    "Global.log_level": "critical",
    "Global.max_side_len": LONGEST,
    "Det.limit_type": "max",
    "Det.limit_side_len": FINDING,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The sure lines from top to bottom. found: how many lines the detector saw, read or not."""

    lines: tuple[Line, ...] = ()
    found: int = 0


class Reader:
    """Reads pictures; loads its models when made."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        self._ocr = RapidOCR(params=dict(QUIET_AND_SINGLE))
        blank = np.zeros((64, 64, 3), dtype=np.uint8)
        self._found(blank)  # rapidocr puts off loading its models until it must
        self._read(blank)

    def read(self, picture: Image.Image) -> Reading:
        """Every line that is sure enough to be quoted."""
        shrunk = picture.copy()
        shrunk.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR)
        pixels = np.ascontiguousarray(np.asarray(shrunk)[:, :, ::-1])
        corners = self._found(pixels)
        legible = [n for n in range(len(corners)) if _height(corners[n]) >= LOWEST]
        tallest = sorted(legible, key=lambda n: (-_height(corners[n]), n))[:MOST_LINES]
        lines = [self._line(pixels, corners[n]) for n in tallest]
        sure = _whole([line for line in lines if line is not None])
        return Reading(lines=tuple(sorted(sure, key=_order)), found=len(corners))

    def _line(self, pixels: NDArray[np.uint8], corners: NDArray[np.float32]) -> Line | None:
        """A line that is quotable and reads the same with more air around it: a box that cuts words short does not."""
        text, score = self._read(get_rotate_crop_image(pixels, corners))
        if not quotable(text, score):
            return None
        again, _ = self._read(get_rotate_crop_image(pixels, _aired(corners, pixels)))
        if _letters(again) != _letters(text):
            return None
        height, width = pixels.shape[:2]
        return Line(text=" ".join(text.split()), score=score, box=_box(corners, width, height))

    def _found(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, 4, 2) corners in px."""
        found = self._ocr(pixels, use_det=True, use_cls=False, use_rec=False)
        boxes = getattr(found, "boxes", None)
        return np.zeros((0, 4, 2), np.float32) if boxes is None else np.asarray(boxes, dtype=np.float32)

    def _read(self, crop: NDArray[np.uint8]) -> tuple[str, float]:
        read = self._ocr(crop, use_det=False, use_cls=False, use_rec=True)
        return (str(read.txts[0]), float(read.scores[0])) if read.txts else ("", 0.0)


def quotable(text: str, score: float) -> bool:
    """Whether a line is read well enough to be quoted: "WivennioePark" is sure to be misread, whatever its score."""
    count = sum(letter.isalnum() for letter in text)
    if count < LETTERS or score < (SHORT_QUOTED if count < SHORT or not text.isascii() else QUOTED):
        return False
    words = re.findall(r"[^\W\d_]+", text)
    return all(word.islower() or word.isupper() or word.istitle() or word.lower() == word.upper() for word in words)


def _whole(lines: list[Line]) -> list[Line]:
    """Without repetitions and without lines that lie within another, the surest first."""
    kept: list[Line] = []
    for line in sorted(lines, key=lambda line: (-line.score, line.box)):
        if all(line.text != other.text and within(line.box, other.box) < WITHIN for other in kept):
            kept.append(line)
    return kept


def _letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def _aired(corners: NDArray[np.float32], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The corners moved apart along the line."""
    along = corners[1] - corners[0]
    step = along / max(float(np.linalg.norm(along)), 1e-6) * AIR * _height(corners)
    moved = corners + np.stack([-step, step, step, -step])
    height, width = pixels.shape[:2]
    return np.asarray(np.clip(moved, 0, [width - 1, height - 1]), dtype=np.float32)


def _height(corners: NDArray[np.float32]) -> float:
    return float(min(np.linalg.norm(corners[0] - corners[3]), np.linalg.norm(corners[0] - corners[1])))


def _order(line: Line) -> tuple[int, float]:
    """Top to bottom in steps of a twentieth, then left to right."""
    return round(line.box[1] * 20), line.box[0]


def _box(corners: NDArray[np.float32], width: int, height: int) -> Box:
    points = np.clip(corners / np.array([width, height], dtype=np.float32), 0, 1)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom

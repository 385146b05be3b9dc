"""What is written in the picture: OCR by rapidocr, on one thread, of which only sure lines are quoted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from rapidocr import RapidOCR

from captioner.experts.facts import Box, Line

LONGEST = 960  # px; more costs seconds and reads little more
QUOTED = 0.88
LETTERS = 3

QUIET_AND_SINGLE = {
    "Global.log_level": "critical",
    "Global.max_side_len": LONGEST,
    "Global.use_cls": False,  # turns lines by 180 degrees; our pictures are upright
    "Det.limit_type": "max",
    "Det.limit_side_len": LONGEST,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The sure lines from top to bottom, and how many more there seem to be."""

    lines: tuple[Line, ...] = ()
    unread: int = 0


class Reader:
    """Reads pictures; loads its models when made."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        self._ocr = RapidOCR(params=dict(QUIET_AND_SINGLE))
        self.read(Image.new("RGB", (64, 64)))  # loads the models, which rapidocr puts off until it must

    def read(self, picture: Image.Image) -> Reading:
        """Every line that is sure enough to be quoted."""
        shrunk = picture.copy()
        shrunk.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR)
        found = self._ocr(np.asarray(shrunk)[:, :, ::-1])
        if found.txts is None or found.boxes is None:
            return Reading()
        rows = zip(found.txts, found.scores, found.boxes, strict=True)
        lines = [
            Line(text=" ".join(text.split()), score=float(score), box=_box(corners, shrunk.size))
            for text, score, corners in rows
        ]
        sure = [line for line in lines if _sure(line)]
        return Reading(lines=tuple(sorted(sure, key=_order)), unread=len(lines) - len(sure))


def _sure(line: Line) -> bool:
    return line.score >= QUOTED and sum(letter.isalnum() for letter in line.text) >= LETTERS


def _order(line: Line) -> tuple[int, float]:
    """Top to bottom in steps of a twentieth, then left to right."""
    return round(line.box[1] * 20), line.box[0]


def _box(corners: np.ndarray, size: tuple[int, int]) -> Box:
    points = np.clip(np.asarray(corners, dtype=np.float32) / np.array(size, dtype=np.float32), 0, 1)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom

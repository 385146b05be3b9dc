"""All experts on one picture: pixels in, facts out."""

from __future__ import annotations

from PIL import Image

from captioner.experts.facts import Facts
from captioner.experts.look import look
from captioner.experts.objects import Detector, agreed
from captioner.experts.tags import Classifier, tags
from captioner.experts.text import Reader, Reading


class Sight:
    """The loaded experts. Not to be shared between threads."""

    def __init__(self, *, ocr: bool) -> None:
        self._classifier = Classifier()
        self._detector = Detector()
        self._reader = Reader() if ocr else None

    def see(self, picture: Image.Image) -> Facts:
        """What the experts make of an upright RGB picture."""
        found = agreed(picture, self._detector, self._classifier)
        reading = self._reader.read(picture) if self._reader else Reading()
        return Facts(
            tags=tags(self._classifier.views(picture)),
            things=found.things,
            more=found.more,
            lines=reading.lines,
            lines_found=reading.found,
            look=look(picture),
        )

"""What the whole picture shows: EfficientNet-Lite2 over three views, spoken of at the deepest level that is certain."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from captioner.experts.facts import Tag
from captioner.experts.sessions import Floats, Network
from captioner.experts.taxonomy import KINDS, WIDE, Kind
from captioner.experts.voice import with_article
from captioner.experts.weights import CLASSIFIER, IMAGENET, class_names

SIDE = 260  # px of a view
LEAF_MEAN, LEAF_MIN = 0.55, 0.30
ALIKE_MEAN, ALIKE_MIN = 0.70, 0.55  # to say that something resembles a leaf
GROUP_MEAN, GROUP_MIN = 0.60, 0.40
WIDE_MEAN = 0.52
HEDGE_BELOW = 0.70

# Class names a reader would not use of a picture.
ALIASES = {948: "apple", 292: "tiger"}


class Classifier:
    """ImageNet probabilities of a picture or of a crop of it."""

    def __init__(self) -> None:
        self._network = Network(CLASSIFIER)

    def views(self, picture: Image.Image) -> Floats:
        """(3, 1000) probabilities: the 0.875 centre crop, the whole picture squeezed, and that mirrored."""
        squeezed = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        mirrored = squeezed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.stack([self._probabilities(view) for view in (_centre(picture), squeezed, mirrored)])

    def crop(self, picture: Image.Image, box: tuple[int, int, int, int]) -> Floats:
        """(1000,) probabilities of one box of the picture, in px, squeezed to a square."""
        return self._probabilities(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))

    def _probabilities(self, view: Image.Image) -> Floats:
        pixels = (np.asarray(view, dtype=np.float32) - 127.0) / 128.0
        logits = self._network(pixels.transpose(2, 0, 1)[None])[0][0].astype(np.float32)
        raised = np.exp(logits - logits.max())
        return np.asarray(raised / raised.sum(), dtype=np.float32)


def tags(views: Floats) -> tuple[Tag, ...]:
    """The kinds that are certain, the deepest first; () where none is. views: (n, 1000) probabilities."""
    return tuple(_tag(kind, views) for kind in KINDS if _certain(views, kind))


def _certain(views: Floats, kind: Kind) -> bool:
    shares = views[:, sorted(kind.indices)].sum(axis=1)
    enough = WIDE_MEAN if kind.phrase in WIDE else GROUP_MEAN
    return bool(shares.mean() > enough and shares.min() > GROUP_MIN)


def _tag(kind: Kind, views: Floats) -> Tag:
    score = float(views[:, sorted(kind.indices)].sum(axis=1).mean())
    leaf = max(sorted(kind.indices), key=lambda index: float(views[:, index].mean()))
    mean, low = float(views[:, leaf].mean()), float(views[:, leaf].min())
    if kind.leaves == "named" and mean > LEAF_MEAN and low > LEAF_MIN:
        name = leaf_name(leaf)
        return Tag(name=name, phrase=with_article(name), level="leaf", score=mean, hedged=mean < HEDGE_BELOW)
    alike = kind.leaves == "resembles" and mean > ALIKE_MEAN and low > ALIKE_MIN
    return Tag(
        name=kind.name,
        phrase=kind.phrase,
        level="group",
        score=score,
        hedged=score < HEDGE_BELOW,
        resembles=leaf_name(leaf) if alike else "",
    )


def _centre(picture: Image.Image) -> Image.Image:
    side = 0.875 * min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)


_NAMES = class_names(IMAGENET)


def leaf_name(index: int) -> str:
    """A class's name without its explanation: "ram (adult male sheep)" is a ram."""
    return ALIASES.get(index) or re.sub(r" \(.*?\)| dog$", "", _NAMES[index]).strip()

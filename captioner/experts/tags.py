"""What the whole picture shows: EfficientNet-Lite2 over three views, spoken of at the deepest level that is certain."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from captioner.experts.facts import Tag
from captioner.experts.sessions import Floats, Network
from captioner.experts.taxonomy import KINDS, Kind
from captioner.experts.voice import with_article
from captioner.experts.weights import CLASSIFIER, IMAGENET, class_names

SIDE = 260  # px of a view
LEAF_MEAN, LEAF_MIN = 0.55, 0.30
GROUP_MEAN, GROUP_MIN = 0.60, 0.40
HEDGE_BELOW = 0.70

# Class names a reader would not use of a picture.
ALIASES = {
    948: "apple",
    951: "lemon",
    956: "custard apple",
    292: "tiger",
    348: "ram",
    354: "camel",
}


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
    mean, low = views.mean(axis=0), views.min(axis=0)
    certain = [kind for kind in KINDS if _certain(views, kind)]
    return tuple(_tag(kind, views, mean, low) for kind in certain)


def _certain(views: Floats, kind: Kind) -> bool:
    shares = views[:, sorted(kind.indices)].sum(axis=1)
    return bool(shares.mean() > GROUP_MEAN and shares.min() > GROUP_MIN)


def _tag(kind: Kind, views: Floats, mean: Floats, low: Floats) -> Tag:
    share = float(views[:, sorted(kind.indices)].sum(axis=1).mean())
    leaf = max(kind.indices, key=lambda index: float(mean[index]))
    sure = kind.leaves != "silent" and mean[leaf] > LEAF_MEAN and low[leaf] > LEAF_MIN
    if sure and kind.leaves == "named":
        name = leaf_name(leaf)
        score = float(mean[leaf])
        return Tag(name=name, phrase=with_article(name), level="leaf", score=score, hedged=score < HEDGE_BELOW)
    resembles = leaf_name(leaf) if sure else ""
    return Tag(
        name=kind.name,
        phrase=kind.phrase,
        level="group",
        score=share,
        hedged=share < HEDGE_BELOW,
        resembles=resembles,
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

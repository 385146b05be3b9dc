"""Where the weights lie, and what they are: names and digests, without opening one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "weights"
CLASSIFIER: Final = FOLDER / "efficientnet-lite2.fp16.onnx"
DETECTOR: Final = FOLDER / "nanodet-g-416.fp16.onnx"
IMAGENET: Final = FOLDER / "imagenet_classes.txt"
COCO: Final = FOLDER / "coco_classes.txt"

SHA256: Final = {
    CLASSIFIER.name: "4373274b22f05d8fe276d522af0d14568a97e9295c6e22cbcf53ef92827da5ef",
    DETECTOR.name: "9686bfff941308d46101adcc7c91d9a99ac4dca3a6114449853c49b2e311bb4d",
}
# Raised whenever other facts or other sentences may come from the same weights.
GRAMMAR: Final = 1


def revision() -> str:
    """Twelve hex digits over the weights' digests and the grammar's number."""
    spelled = "\n".join([*(f"{name} {sha}" for name, sha in sorted(SHA256.items())), f"grammar {GRAMMAR}"])
    return hashlib.sha256(spelled.encode()).hexdigest()[:12]


def class_names(path: Path) -> tuple[str, ...]:
    """The names of a model's classes; a line's number is its index."""
    return tuple(path.read_text(encoding="utf-8").splitlines())

"""How a checkpoint wants to be asked: the template and picture sizes of the stage that made it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import CorruptState
from captioner.recipe import canonical, to_json
from trainer.image_size import MODES, Grid, Size
from trainer.stage import Stage

NAME = "recap.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """mode, max_side: of image_size; the defaults are those of the published EVEv2 weights, which have no such file."""

    family: str = "eve-v2"
    template: str = "qwen2"
    mode: str = "infer"
    max_side: int = 1600
    frames: int = 1

    def grid(self, size: Size, patch: int) -> Grid:
        return MODES[self.mode](size, self.max_side, patch)


def of(stage: Stage) -> Manners:
    """Released inference rescales to the area that training only shrinks to; the other modes stay as they are."""
    mode = "infer" if stage.pictures.mode == "train" else stage.pictures.mode
    return Manners(
        family=stage.family,
        template=stage.template,
        mode=mode,
        max_side=stage.pictures.max_side,
        frames=stage.pictures.frames,
    )


def write(folder: Path, stage: Stage) -> None:
    (folder / NAME).write_bytes(canonical(to_json(of(stage))) + b"\n")


def read(folder: Path) -> Manners:
    """Those of a checkpoint, or of the published weights. Raises CorruptState."""
    path = folder / NAME
    try:
        return Manners(**json.loads(path.read_text())) if path.is_file() else Manners()
    except (ValueError, TypeError) as error:
        raise CorruptState(f"corrupt_state: {path} does not say how its model is asked ({error})") from error

"""The image teacher of ELVA's guidance: a local SigLIP, frozen, that looks at the very frames the student gets.

F frames, H and W pixels, G x G the teacher's grid, E its width.
"""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import SiglipVisionModel

from captioner.errors import Refused
from captioner.recipe import canonical
from shards import commits
from trainer.guidance import Taught


def revision(folder: str | Path) -> str:
    """Of a teacher's config and weights, wherever they lie: a sha256. Raises Refused for a folder without them."""
    place, digests = Path(folder).expanduser(), {}
    for path in (place / "config.json", *sorted(place.glob("*.safetensors"))):
        try:
            with path.open("rb") as file:
                digests[path.name] = file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Refused(f"--teacher {folder}: a local SigLIP checkpoint would be right ({error})") from error
    return commits.sha256_of(canonical(digests))


class Teacher:
    """A SigLIP vision checkpoint on a device. Raises Refused for a folder that holds none."""

    def __init__(self, folder: str | Path, device: torch.device) -> None:
        try:
            model = SiglipVisionModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise Refused(f"--teacher {folder}: a local SigLIP checkpoint would be right ({error})") from error
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.model = model.to(device, dtype).eval().requires_grad_(False)
        self.side, self.patch = self.model.config.image_size, self.model.config.patch_size

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    @torch.no_grad()
    def look(self, bytes_F3HW: Tensor) -> Taught:
        """Frames in bytes, stretched to the teacher's square as its own preprocessor does."""
        resized = F.interpolate(
            bytes_F3HW.float(), size=(self.side, self.side), mode="bicubic", antialias=True, align_corners=False
        )
        seen = ((resized.clamp(0, 255) / 255 - 0.5) / 0.5).to(self.model.dtype)
        out = self.model(pixel_values=seen)
        cells = self.side // self.patch
        patches_FGGE = out.last_hidden_state.unflatten(1, (cells, cells))
        return Taught(patches_FGGE=patches_FGGE, frames_FE=out.pooler_output)

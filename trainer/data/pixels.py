"""Encoded pictures to tensors of whole patches.

F frames, H and W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from captioner.errors import MediaError
from captioner.media.decode import pixels
from trainer.data.entries import Planned
from trainer.image_size import Grid

MOST_PIXELS = 2**27  # 134 MP, 0.5 GB in Pillow: what a decoder process of 1 GiB takes
# CLIP's, which the released preprocessors name.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def picture(media: bytes, grid: Grid, patch: int) -> Tensor:
    """(3, H, W) bytes, upright. Raises MediaError."""
    image = pixels(media, (grid.cols * patch, grid.rows * patch), MOST_PIXELS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def frames(sample: Planned, patch: int) -> Tensor | None:
    """(F, 3, H, W) bytes; None for a sample of text. Raises MediaError, with the reason to count."""
    if sample.entry.fetch is None or sample.grid is None:
        return None
    encoded = sample.entry.fetch()
    if len(encoded) != sample.entry.frames:
        raise MediaError("undecodable", f"{len(encoded)} frames, not {sample.entry.frames}")
    return torch.stack([picture(media, sample.grid, patch) for media in encoded])


def normalised(bytes_F3HW: Tensor, dtype: torch.dtype) -> Tensor:
    """As CLIP saw pictures, on the device that the bytes are on."""
    mean, std = (torch.tensor(each, device=bytes_F3HW.device).view(3, 1, 1) for each in (MEAN, STD))
    return ((bytes_F3HW.float() / 255 - mean) / std).to(dtype)

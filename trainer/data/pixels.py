"""Encoded pictures to tensors of whole patches.

F frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def stacked(encoded: Sequence[bytes], grid: Grid, patch: int) -> Tensor:
    """Encoded pictures, upright, as bytes (F, 3, H, W). Raises MediaError."""
    size = (grid.cols * patch, grid.rows * patch)
    images_FHW3 = [torch.from_numpy(np.array(pixels(media, size, MOST_PIXELS))) for media in encoded]
    # Colours stay innermost in memory: to move them costs as much as a tenth of decoding.
    whole_FHW3 = images_FHW3[0][None] if len(images_FHW3) == 1 else torch.stack(images_FHW3)
    return whole_FHW3.permute(0, 3, 1, 2)


def frames(sample: Planned, patch: int) -> Tensor | None:
    """(F, 3, H, W) bytes; None for a sample of text. Raises MediaError, with the reason to count."""
    if sample.entry.fetch is None or sample.grid is None:
        return None
    encoded = sample.entry.fetch()
    if len(encoded) != sample.entry.frames:
        raise MediaError("undecodable", f"{len(encoded)} frames, not {sample.entry.frames}")
    return stacked(encoded, sample.grid, patch)


def normalised(bytes_F3HW: Tensor, dtype: torch.dtype) -> Tensor:
    """As CLIP saw pictures, on the device that the bytes are on."""
    mean, std = (torch.tensor(each, device=bytes_F3HW.device).view(3, 1, 1) for each in (MEAN, STD))
    return ((bytes_F3HW.float() / 255 - mean) / std).to(dtype)

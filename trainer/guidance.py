"""ELVA's video guidance: an image teacher's features, given from outside, that the decoder's are drawn towards.

Legend: F frames of one video, h x w its patches, G x G the teacher's grid, D width, E the teacher's width, S frames of
a step on this process, A of all processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """A teacher's features of one video, such as SigLIP's: of each frame's patches, and of each frame as a whole."""

    patches_FGGE: Tensor
    frames_FE: Tensor


class Guide(nn.Module):
    """Maps the decoder's states to the teacher's width and compares.

    The appendix leaves open, and this takes: two linear maps; the distance summed over the width, as a mean over 1,152
    of unit vectors would vanish beside the caption's loss; the teacher's grid resampled to the student's, which keeps
    the picture's own shape; contrast from student to teacher only, so that no gradient crosses processes.
    """

    def __init__(self, width: int, teacher_width: int, temperature: float) -> None:
        super().__init__()
        self.tube, self.frame = nn.Linear(width, teacher_width), nn.Linear(width, teacher_width)
        self.temperature = temperature

    def tubes(self, patches_FhwD: Tensor, taught: Taught) -> Tensor:
        """Squared distance of unit vectors, each a patch's mean over time."""
        grid = patches_FhwD.shape[1:3]
        ours_hwE = F.normalize(self.tube(patches_FhwD.mean(0)).float(), dim=-1)
        theirs_1EGG = taught.patches_FGGE.float().mean(0).permute(2, 0, 1)[None]
        theirs_1Ehw = F.interpolate(theirs_1EGG, size=grid, mode="bilinear", align_corners=False)
        return (ours_hwE - F.normalize(theirs_1Ehw[0].permute(1, 2, 0), dim=-1)).square().sum(-1).mean()

    def frames(self, frames_SD: Tensor, taught_SE: Tensor) -> Tensor:
        """InfoNCE of FRAME tokens against the teacher's frames of every process."""
        keys_AE, first = everyones(F.normalize(taught_SE.float(), dim=-1))
        ours_SE = F.normalize(self.frame(frames_SD).float(), dim=-1)
        own_S = torch.arange(len(ours_SE), device=ours_SE.device) + first
        total = F.cross_entropy(ours_SE @ keys_AE.T / self.temperature, own_S, reduction="sum")
        return total / max(1, len(own_S))


@torch.no_grad()
def everyones(mine_SE: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes in their order, and where ours begin; processes may have different numbers of rows."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return mine_SE, 0
    counts = [torch.zeros(1, dtype=torch.long, device=mine_SE.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(mine_SE)], device=mine_SE.device))
    sizes = [int(count) for count in counts]
    padded = F.pad(mine_SE, (0, 0, 0, max(sizes) - len(mine_SE))).contiguous()
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    rows_AE = torch.cat([rows[:size] for rows, size in zip(gathered, sizes, strict=True)])
    return rows_AE, sum(sizes[: dist.get_rank()])

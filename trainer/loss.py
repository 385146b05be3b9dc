"""The loss of next tokens, computed only where there is a label.

B batch, T sequence, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

IGNORE = -100


def shifted(labels_BT: Tensor, position_ids_BT: Tensor | None) -> Tensor:
    """The label of each place's next token; none at a sample's last place, where a packed next one may begin."""
    targets_BT = F.pad(labels_BT[:, 1:], (0, 1), value=IGNORE)
    if position_ids_BT is None:
        return targets_BT
    starts_BT = F.pad(position_ids_BT[:, 1:] == 0, (0, 1), value=True)
    return targets_BT.masked_fill(starts_BT.expand_as(targets_BT), IGNORE)


def supervised_loss(hidden_BTD: Tensor, targets_BT: Tensor, head: nn.Linear, items: int | Tensor | None) -> Tensor:
    """Cross-entropy in fp32 over the places that have a target; 0, with a gradient, if there is none."""
    chosen_BT = targets_BT != IGNORE
    total = F.cross_entropy(head(hidden_BTD[chosen_BT]).float(), targets_BT[chosen_BT], reduction="sum")
    return total / (items if items is not None else chosen_BT.sum().clamp(min=1))

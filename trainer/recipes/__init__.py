"""The stages of EVEv2 and ELVA, one file each, and the table of them by name."""

from __future__ import annotations

from trainer.recipes import elva_1, elva_2, elva_3, eve_1, eve_2_1a, eve_2_1b, eve_2_2, eve_3
from trainer.stage import Stage

STAGES: dict[str, Stage] = {
    module.STAGE.name: module.STAGE for module in (eve_1, eve_2_1a, eve_2_1b, eve_2_2, eve_3, elva_1, elva_2, elva_3)
}

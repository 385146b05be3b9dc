"""The model that a stage starts from: a text checkpoint, or what the stage before has made of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from captioner.errors import Refused, UnknownPart
from trainer import weights
from trainer.elva import ELVAConfig
from trainer.eve import EVEConfig
from trainer.stage import Stage, freeze

COPIES = ("add_moe", "moe_part")  # fields of what vision has a copy of
CONFIGS: dict[str, type[EVEConfig]] = {"eve-v2": EVEConfig, "elva": ELVAConfig}
KNOWN = {field.name for each in CONFIGS.values() for field in dataclasses.fields(each)}  # one file may serve both


def overrides(path: str) -> dict[str, object]:
    """Fields of the model's config, from a JSON file. Raises Refused."""
    if not path:
        return {}
    try:
        fields = json.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"{path} does not read as JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Refused(f"{path} is no JSON object of config fields, such as {{'moe_part': 'mlp'}}")
    return fields


def going(stage: Stage, folder: str | Path, fields: Mapping[str, object], resumed: bool) -> PreTrainedModel:
    """The model before a step of the stage, in fp32, with gradients for what trains.

    folder: a checkpoint of this stage if it is `resumed`; else a Qwen2 checkpoint where the stage follows none, and the
    checkpoint of the one it follows. `fields` of the config overrule the checkpoint's. Raises Refused.
    """
    if unknown := set(fields) - KNOWN:
        raise UnknownPart(f"no model here has {', '.join(sorted(unknown))} in its config")
    try:
        if resumed:
            model = weights.load(folder, torch.float32)
        elif stage.follows is None:
            model = weights.from_qwen2(folder, torch.float32, CONFIGS[stage.family], **own(stage, fields))
        else:
            model = following(stage, folder, fields)
        freeze(model, stage)
    except (ValueError, OSError, TypeError) as error:
        raise Refused(f"stage {stage.name} cannot start from {folder}: {error}") from error
    return model


def attend(model: PreTrainedModel, attention: str) -> None:
    """Raises Refused for an attention that transformers does not know, or that is not installed."""
    try:
        model.set_attn_implementation(attention)
    except (ValueError, ImportError) as error:
        raise Refused(f"--attention {attention}: {error}") from error


def own(stage: Stage, fields: Mapping[str, object]) -> dict[str, object]:
    """ELVA merges from the stage that says so."""
    return dict(fields) | ({"merging": stage.merging} if stage.family == "elva" else {})


def following(stage: Stage, folder: str | Path, fields: Mapping[str, object]) -> PreTrainedModel:
    """What the stage before has made, with copies of the text layers for vision where the stage wants them: of the
    parts that `fields` name or, where they do not, stage 1's config; of none for EVEv1.2, whose copies are increments.
    """
    known = {name: each for name, each in fields.items() if not stage.copies_vision or name not in COPIES}
    model = weights.load(folder, torch.float32, **own(stage, known))
    if stage.copies_vision:
        parts = fields.get("moe_part", "" if model.config.ffn_increment else model.config.moe_part)
        weights.copy_for_vision(model, str(parts) if fields.get("add_moe", True) else "")
    return model

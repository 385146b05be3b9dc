"""What the trainer's tests train on: a committed corpus, a LLaVA JSON and a tiny language model, all real and small."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from captioner.engines import ENGINES
from captioner.presets import asking_for
from captioner.registry import load
from pipelines.recap_clips import CLIPS
from tests import clips, corpora
from trainer.demo.tiny import Shape, make

TINY = Shape(width=32, layers=3, vocabulary=300, steps=0)
CONFIG = {"mm_hidden_size": 16, "patch_heads": 2, "threshold_layers": [1], "target_layers": [2]}


def corpus(folder: Path, shards: int = 2, per_shard: int = 20) -> Path:
    """A committed corpus of the fake engine's captions; of every twenty samples sixteen are captioned."""
    made = corpora.make_shards(folder / "shards", shards, per_shard)
    recipe = corpora.fake_recipe()
    corpora.run_here(recipe, corpora.planned(recipe, made), folder / "out")
    return folder / "out"


def language_model(folder: Path) -> Path:
    make(folder, ["A quiet harbour stands beside a calm river. Nothing else is close by."], TINY)
    (folder / "fields.json").write_text(json.dumps(CONFIG))
    return folder


def teacher(folder: Path, seed: int = 0) -> Path:
    """A SigLIP that has learnt nothing."""
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(seed)
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    SiglipVisionModel(SiglipVisionConfig(**small, image_size=32, patch_size=16)).save_pretrained(folder)
    return folder


def llava(folder: Path, pictures: int = 6, videos: int = 0) -> Path:
    """Conversations about pictures, videos of four frames, and one about nothing to see."""
    folder.mkdir(parents=True, exist_ok=True)
    dice, rows = random.Random(1), []
    for number in range(pictures):
        (folder / f"{number}.jpg").write_bytes(corpora.picture(number, 96 + 32 * dice.randrange(4), 96))
        rows.append({"id": f"p{number}", "image": f"{number}.jpg", "conversations": talk("<image>\nWhat is it?")})
    for number in range(videos):
        clip = folder / f"v{number}"
        clip.mkdir()
        for at in range(4):
            (clip / f"{at}.jpg").write_bytes(corpora.picture(100 * number + at // 2, 96, 96))
        rows.append({"id": f"v{number}", "video": clip.name, "conversations": talk("<image>\nWhat happens?")})
    rows.append({"id": "words", "conversations": talk("How are you?")})
    (folder / "talks.json").write_text(json.dumps(rows))
    return folder / "talks.json"


def talk(question: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "A quiet harbour."}]


def video_corpus(folder: Path, seconds: int = 6) -> Path:
    """A committed corpus of two clips, captioned by the fake engine that is told to look at six frames."""
    (folder / "clips").mkdir(parents=True)
    for number in range(2):
        (folder / "clips" / f"{number}.mp4").write_bytes(clips.plain(seconds + number))
    recipe = replace(
        corpora.fake_recipe(),
        source=CLIPS.source,
        screens=(),
        asking=asking_for(load(ENGINES, "fake"), "recap-fake", kind="video"),
    )
    corpora.run_here(recipe, corpora.planned(recipe, folder / "clips"), folder / "out")
    return folder / "out"

"""`make train-demo`: all stages of EVEv2 and ELVA on the demo's corpus, what each moved, what the model then says."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from captioner.types import Sampling
from trainer import checkpoint, commands
from trainer.answer import Speaker
from trainer.demo import talks, tiny
from trainer.demo.talks import QUESTION, Shown
from trainer.meter import losses
from trainer.options import Changes, Training
from trainer.recipes import STAGES
from trainer.stage import group
from trainer.templates import END, SYSTEM

MARK = ".made-by-train-demo"
# Narrow patch embeddings, and merging layers that a model of three layers has.
FIELDS = {"mm_hidden_size": 64, "patch_heads": 4, "threshold_layers": [1], "target_layers": [2]}
KNOWN = 0.6  # of the pictures the model describes as they were captioned
LEARNT = 0.7  # of its steps' first loss a stage has at most at its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a stage is made small: steps of 16 samples or so. data: the corpus, or one of the Talks."""

    steps: int
    rate: float
    side: int
    data: str = "corpus"
    frames: int = 1


RUNS = {
    "eve-v2-1": Run(steps=40, rate=2e-3, side=96),
    "eve-v2-2.1a": Run(steps=50, rate=2e-3, side=96),
    "eve-v2-2.1b": Run(steps=40, rate=1e-3, side=128),
    "eve-v2-2.2": Run(steps=30, rate=1e-3, side=128, data="short"),
    "eve-v2-3": Run(steps=80, rate=1e-3, side=128, data="pictures"),
    "elva-1": Run(steps=20, rate=1e-3, side=70),
    "elva-2": Run(steps=60, rate=1e-3, side=56, data="videos", frames=3),
    "elva-3": Run(steps=30, rate=1e-3, side=56, data="videos", frames=4),
}
BATCH = 16
HINTS, VARIANTS, READING = 8, 6, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A stage's line in the table. wrong: tensors that moved and should not have, or the other way round."""

    stage: str
    steps: int
    first: float
    last: float
    moved: int
    still: int
    wrong: tuple[str, ...]
    seconds: float


def demo(corpus: str, folder: Path) -> int:
    """The whole demo; 1 if something it shows does not hold."""
    console = Console() if sys.stdout.isatty() else Console(width=130)
    if folder.exists() and not (folder / MARK).exists():
        console.print(f"{folder} is there and not of this demo: choose another")
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    commands.quiet()
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))  # a core is left to whatever decodes
    began, pictures = time.perf_counter(), talks.shown(corpus)
    data = {"corpus": corpus} | {
        name: f"llava={path}" for name, path in asdict(talks.write(pictures, folder / "talks")).items()
    }
    console.print(f"a language model learns how {len(pictures)} captions are worded …")
    tiny.make(folder / "llm", texts_of(pictures), tiny.Shape(steps=READING))
    (folder / "fields.json").write_text(json.dumps(FIELDS))
    lines = [stage(name, data, folder, console) for name in RUNS]
    resumed = goes_on(data, folder, console)
    show(console, lines)
    said = speaks(folder / "run/eve-v2-3", pictures, console)
    console.print(f"{time.perf_counter() - began:.0f} s in all", highlight=False)
    held = all(not line.wrong and line.last < LEARNT * line.first for line in lines)
    return 0 if held and resumed and said else 1


def texts_of(pictures: list[Shown]) -> list[str]:
    """Captions behind some words of theirs: a model that has read them attends to what stands before a caption, as one
    of Qwen2.5's size does; it has seen no picture. And talks, so that their wording is known."""
    dice, texts = random.Random(0), list[str]()
    for each in pictures:
        hints = each.caption.split()
        texts += [f"{' '.join(dice.sample(hints, HINTS))}\n{each.caption}\n" for _ in range(VARIANTS)]
        texts += [f"{SYSTEM} USER: {' '.join(dice.sample(hints, HINTS))}\n{QUESTION} ASSISTANT: {each.caption}{END}"]
    return texts


def training(name: str, data: Mapping[str, str], folder: Path) -> Training:
    """A stage's command line."""
    run, recipe = RUNS[name], STAGES[name]
    changes = Changes(
        samples=run.steps * BATCH, epochs=1, batch=BATCH, peak_lr=run.rate, max_side=run.side, frames=run.frames
    )
    return Training(
        stage=name,
        data=(data[run.data],),
        output=str(folder / "run"),
        llm=str(folder / "llm") if recipe.follows is None else "",
        model_config=str(folder / "fields.json"),
        changes=changes,
        budget=1024,
        precision="fp32",
        checkpointing=False,
        log_every=20,
        threads=2,
    )


def stage(name: str, data: Mapping[str, str], folder: Path, console: Console) -> Line:
    """Train one and look at what it moved."""
    console.rule(name, align="left")
    began, options = time.perf_counter(), training(name, data, folder)
    commands.trained(options, console)
    run, recipe = folder / "run" / name, STAGES[name]
    before = tensors(folder / "llm" if recipe.follows is None else folder / "run" / recipe.follows)
    after, seen = tensors(run), losses(run)
    wrong, moved = [], 0
    for tensor, value in after.items():
        start = before.get(tensor, before.get(tensor.replace("moe_", "")))
        changed = start is None or not torch.equal(start, value)
        moved += changed
        if changed != (group(tensor) in recipe.trains) and not unreached(tensor, recipe.template):
            wrong.append(tensor)
    return Line(
        stage=name,
        steps=len(seen),
        first=sum(seen[:3]) / 3,
        last=sum(seen[-10:]) / 10,
        moved=moved,
        still=len(after) - moved,
        wrong=tuple(wrong),
        seconds=time.perf_counter() - began,
    )


def unreached(tensor: str, template: str) -> bool:
    """In a dialogue no label follows a picture's last token, so what only makes the last layer's picture states has no
    gradient."""
    last = f"layers.{tiny.Shape().layers - 1}."
    makes_states = re.search(r"moe_(q_proj|o_proj|post_attention_layernorm|mlp)", tensor)
    return template == "qwen2" and last in tensor and makes_states is not None


def tensors(model: Path) -> dict[str, Tensor]:
    return load_file(checkpoint.model_folder(model) / "model.safetensors")


def goes_on(data: Mapping[str, str], folder: Path, console: Console) -> bool:
    """Stage 2.1a once more, stopped in its middle and started again: are its losses the same to the last bit?"""
    console.rule("eve-v2-2.1a, stopped and resumed", align="left")
    options = training("eve-v2-2.1a", data, folder)
    again = replace(options, output=str(folder / "again"), start=str(folder / "run/eve-v2-1"))
    commands.trained(replace(again, stop_after=RUNS["eve-v2-2.1a"].steps // 2), console)
    commands.trained(again, console)
    same = losses(folder / "again/eve-v2-2.1a") == losses(folder / "run/eve-v2-2.1a")
    console.print(f"the resumed run's losses are {'the same' if same else '[red]others[/red]'}")
    return same


def show(console: Console, lines: list[Line]) -> None:
    table = Table(title="Stages", title_justify="left")
    for name in ("stage", "steps", "loss", "tensors moved", "still", "as the recipe says", "seconds"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for line in lines:
        right = "yes" if not line.wrong else f"[red]no: {line.wrong[:2]}[/red]"
        loss = f"{line.first:.2f} → {line.last:.2f}"
        told = (str(line.steps), loss, str(line.moved), str(line.still), right, f"{line.seconds:.0f}")
        table.add_row(line.stage, *told)
    console.print(table)


def speaks(run: Path, pictures: list[Shown], console: Console) -> bool:
    """Whether what the model says of most pictures is nearest to their own captions; three are shown.

    Not of all: some are the same photograph, turned or printed, and have nearly one caption.
    """
    # Sized as in training: to know pictures by heart is to know their very patches.
    speaker, right = Speaker(run, mode="train"), 0
    for number, each in enumerate(pictures):
        said = speaker.answer([each.media], QUESTION, Sampling(max_tokens=160)).text
        nearest = max(pictures, key=lambda other: likeness(said, other.caption))
        right += nearest.caption == each.caption
        if number % 5 == 1:
            console.print(f"[bold]{each.row.key}[/bold] was captioned: {each.caption}\n  the model says: {said}")
    console.print(f"{right} of {len(pictures)} answers are nearest to their own picture's caption")
    return right >= KNOWN * len(pictures)


def likeness(one: str, other: str) -> float:
    """Shared words over all words."""
    ours, theirs = set(one.lower().split()), set(other.lower().split())
    return len(ours & theirs) / max(1, len(ours | theirs))


if __name__ == "__main__":
    raise SystemExit(demo(sys.argv[1], Path(sys.argv[2])))

"""`recap train`, `recap eval` and `recap caption`: what they take, and what they print."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
from transformers import SiglipVisionConfig
from transformers.utils import logging

from captioner.errors import MediaError, Refused
from captioner.prompts import prompt
from captioner.types import Sampling
from trainer import checkpoint, start
from trainer.answer import Speaker
from trainer.data.clips import ClipDecoders, Look
from trainer.data.entries import Feed, Reader
from trainer.data.feeds import open_feed
from trainer.describe import MODELS, describe
from trainer.evaluate import Score, score
from trainer.image_size import MODES
from trainer.loop import Trainer
from trainer.manners import of as manners_of
from trainer.options import Training, guided, job_of, refuse_nonsense, run_folder, source_of, stage_of
from trainer.parallel import accelerator_for, lanes_of, ranks
from trainer.templates import IMAGE, forbidden
from trainer.words import Words

FAILED_PICTURES = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Tell what a model is, without loading weights, as JSON."""

    describe: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(MODELS) + "}")]
    size: str = ""
    """Of a picture, WIDTHxHEIGHT: then its grid is told, too."""
    max_side: int = 1600
    mode: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(MODES) + "}")] = "train"


def quiet() -> None:
    """transformers tells of every fresh tensor and of each file; what is wrong there is an error of ours."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def train(words: Sequence[str], console: Console) -> int:
    """`recap train`: a stage, or the description of a model. 0 when the stage is done. Raises RecapError."""
    quiet()
    if any(word.partition("=")[0] == "--describe" for word in words):
        told = tyro.cli(Description, args=words, prog="recap train")
        print(json.dumps(described(told), indent=2))
        return 0
    return trained(training(words), console)


def training(words: Sequence[str]) -> Training:
    summary = f"{Training.__doc__}\n\nOr: recap train --describe MODEL [--size WxH --max-side N --mode MODE]"
    return tyro.cli(Training, args=words, prog="recap train", description=summary)


def output_of(words: Sequence[str]) -> str:
    """The --output that `recap train` is told, without doing it. Raises Refused for wrong words."""
    options = training(words)
    refuse_nonsense(options)
    run_folder(options)
    return options.output


def described(told: Description) -> dict[str, object]:
    width, by, height = told.size.partition("x")
    if told.size and not (by and width.isdecimal() and height.isdecimal()):
        raise Refused(f"--size {told.size}: WIDTHxHEIGHT in pixels would be right, such as 1920x1080")
    try:
        size = (int(width), int(height)) if told.size else None
        return dict(describe(told.describe, size, told.max_side, told.mode))
    except ValueError as error:
        raise Refused(str(error)) from error


def trained(options: Training, console: Console) -> int:
    """Begin a stage or go on with it. Raises RecapError."""
    refuse_nonsense(options)
    stage, run = guided(stage_of(options.stage), options.teacher), run_folder(options)
    there = checkpoint.latest(run)
    source = there.folder if there is not None else checkpoint.model_folder(source_of(options))
    words, fields = Words(source), start.overrides(options.model_config)
    with ranks() as (rank, world), ClipDecoders(options.threads) as clips:
        patch = start.CONFIGS[stage.family]().patch_side
        job = job_of(options, words, patch, world, there, clips)
        if there is not None and there.told["complete"]:
            console.print(f"{stage.name} is done: {there.folder}", highlight=False)
            return 0
        mine = lanes_of(rank, world, job.order.lanes)
        accelerator = accelerator_for(options.parallel, options.precision, len(mine))
        fields = {"image_token_id": words.image_token_id} | fields
        if options.teacher:
            fields["teacher_width"] = SiglipVisionConfig.from_pretrained(options.teacher).hidden_size
        torch.manual_seed(options.seed)  # fresh tensors are the same on all ranks
        model = start.going(job.stage, source, fields, resumed=there is not None)
        start.attend(model, options.attention)
        if options.checkpointing:
            model.activation_checkpointing_enable()
        trainer = Trainer(job, accelerator, model, words, console)
        if there is not None:
            trainer.resume(there)
        finished = trainer.train()
    if rank == 0:
        seen, left_out = finished.checkpoint.told["seen"], finished.checkpoint.told["left_out"]
        console.print(
            f"{stage.name}: {seen['samples']:,} samples in {seen['step']:,} steps, left out {left_out}, "
            f"bad pictures {seen['bad'] or 0}\ncheckpoint: {finished.checkpoint.folder}",
            highlight=False,
        )
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Judge a model on pairs it was not trained on: does it tell whether a text fits a picture?"""

    model: str
    """A checkpoint's folder, or a training run for its newest."""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    """As for `recap train`. recap=OUT and web=OUT of one corpus set its captions beside the alt texts."""
    hold_out: float = 0.0
    """What `recap train` was given: then only what that left out is judged."""
    images: str = ""
    limit: int = 256
    """Pairs of each feed."""
    group: int = 8
    """How many pictures and texts are matched against each other."""
    stage: str = ""
    """Whose template and picture sizes are used. Default: those of the checkpoint."""
    json: bool = False


def evaluate(words: Sequence[str], console: Console) -> int:
    """`recap eval`. Raises RecapError."""
    quiet()
    options = tyro.cli(Evaluation, args=words, prog="recap eval")
    if options.group < 1 or options.limit < 1 or not 0 <= options.hold_out <= 1:
        raise Refused("--group and --limit of 1 or more, and a --hold-out from 0 to 1, would be right")
    speaker = Speaker(options.model)
    stage = stage_of(options.stage or ("3" if speaker.manners.family == "eve-v2" else "elva-3"))
    if stage.family != speaker.manners.family:
        raise Refused(f"--stage {options.stage} is of {stage.family}, and the model of {speaker.manners.family}")
    manners = manners_of(stage) if options.stage else speaker.manners
    pictures = dataclasses.replace(stage.pictures, mode=manners.mode, max_side=manners.max_side)
    stage = dataclasses.replace(stage, template=manners.template, pictures=pictures)
    reader = Reader(
        stage=stage,
        tokenize=speaker.words.ids,
        image_token_id=speaker.words.image_token_id,
        patch=speaker.patch,
        hold_out=options.hold_out,
        held_out=bool(options.hold_out),
    )
    with ClipDecoders(1) as clips:
        look = Look(images=options.images, frames=manners.frames, side=2 * manners.max_side, clips=clips)
        feeds = [open_feed(word, look) for word in options.data]
        refuse_seen(checkpoint.told_of(checkpoint.model_folder(options.model)), feeds, options.hold_out)
        scores = {feed.name: score(feed, reader, speaker, options.limit, options.group) for feed in feeds}
    if options.json:
        print(json.dumps({name: dataclasses.asdict(each) for name, each in scores.items()}))
    else:
        show(console, scores)
    return 0


def refuse_seen(there: checkpoint.Checkpoint | None, feeds: list[Feed], hold_out: float) -> None:
    """Raises Refused where samples are to be judged as held out, and the checkpoint's stage was trained on them."""
    if there is None or hold_out <= (left_out := there.told["job"]["hold_out"]):
        return
    seen = {each["name"].partition("=")[2] for each in there.told["job"]["feeds"]}
    for feed in feeds:
        if feed.name.partition("=")[2] in seen:
            raise Refused(f"--hold-out {hold_out}: the model was trained on {feed.name} with --hold-out {left_out}")


def show(console: Console, scores: dict[str, Score]) -> None:
    """A table, a line each feed."""
    table = Table(title="Which texts fit their pictures", title_justify="left")
    for name in ("texts", "pairs", "loss", "without picture", "own text found", "own picture found", "chance"):
        table.add_column(name, justify="left" if name == "texts" else "right", overflow="fold")
    for name, each in scores.items():
        found = (f"{each.text_of_picture:.0%}", f"{each.picture_of_text:.0%}", f"{1 / each.group:.0%}")
        table.add_row(name, str(each.pairs), f"{each.loss:.3f}", f"{each.blind:.3f}", *found)
    console.print(table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioning:
    """Caption pictures with a trained model."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    model: str
    """A checkpoint's folder, or a training run for its newest."""
    question: str = prompt("describe-in-detail-1")
    """What a model with dialogue is asked; a plain one is only shown the picture."""
    max_tokens: int = 512
    temperature: float = 0.0
    mode: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(MODES) + "}")] = ""
    """How pictures are sized. Default: as the released code does, which scales small pictures up, too (`infer`)."""
    device: str = ""
    """cpu, cuda, cuda:1 … Default: the first GPU, if there is one."""


def caption(words: Sequence[str], console: Console) -> int:
    """`recap caption`: a caption a line on stdout; 1 if a picture could not be read. Raises RecapError."""
    quiet()
    options = tyro.cli(Captioning, args=words, prog="recap caption")
    if not options.pictures:
        raise Refused("no picture: recap caption PICTURE … --model CHECKPOINT would be right")
    if options.max_tokens < 1 or not 0 <= options.temperature < math.inf:
        raise Refused("--max-tokens of 1 or more and a --temperature of 0 or more would be right")
    if found := forbidden(options.question.replace(IMAGE, "")):
        raise Refused(f"--question holds {found!r}, which would be read as a mark of the template")
    speaker, code = Speaker(options.model, options.device, options.mode), 0
    sampling = Sampling(max_tokens=options.max_tokens, temperature=options.temperature)
    for path in options.pictures:
        try:
            said = speaker.answer([path.read_bytes()], options.question, sampling)
            print(said.text if len(options.pictures) == 1 else f"{path}\t{' '.join(said.text.split())}")
        except (MediaError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            code = FAILED_PICTURES
    return code

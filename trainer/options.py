"""What a command line says of a training, and the job it makes of a stage's recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import tyro

from captioner.errors import Refused
from captioner.registry import UnknownPart
from trainer.checkpoint import Checkpoint, latest, refuse_far
from trainer.data.clips import ClipDecoders, Look
from trainer.data.entries import Feed, Reader, Unfit
from trainer.data.feeds import open_feed, weighted
from trainer.data.lane import Order
from trainer.data.loader import Ahead
from trainer.image_size import SETTINGS, grid
from trainer.loop import Job
from trainer.parallel import PLANS
from trainer.recipes import STAGES
from trainer.stage import TEXT_TOKENS, Corpus, Pictures, Stage
from trainer.start import overrides
from trainer.teacher import revision
from trainer.words import Words

# What an option is at least. 0 of most: as the recipe says, or as it comes.
LEAST: dict[str, float] = {
    **dict.fromkeys(("samples", "epochs", "batch", "peak_lr", "max_side", "frames"), 0),
    **dict.fromkeys(("rows", "budget", "stop_after", "hold_out"), 0),
    **dict.fromkeys(("block", "save_every", "keep", "log_every", "threads", "ahead"), 1),
}
PRECISIONS = ("bf16", "fp32")
LOOKED_AT = 256  # samples whose lengths say how many rows make a batch
Words_ = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs from the stage's recipe; 0 or nothing: as the recipe says."""

    samples: int = 0
    """Samples of one epoch. Default: all that the feeds hold."""
    epochs: int = 0
    batch: int = 0
    """Samples a step, on average: a step is a fixed number of rows."""
    peak_lr: float = 0.0
    released_lr: bool = False
    """The learning rate of the released script, where it differs from the paper's."""
    pictures: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(SETTINGS) + "}")] = ""
    """One of the paper's image settings (Fig. 8) by name."""
    max_side: int = 0
    """Pixels: of a square of the largest area, or of the longest edge."""
    frames: int = 0
    """Frames of a video at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Train one stage; the same command goes on where a killed one was."""

    stage: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(STAGES) + "}")]
    """Which stage; EVEv2's also by number alone, such as 2.1a."""
    data: Words_
    """A corpus, `[KIND[:WEIGHT]=]URL`: OUT or recap=OUT, web=OUT for its alt texts, llava=FILE.json. Again for more."""
    output: str
    """The folder of all stages' runs; this one's is a folder in it, called like the stage."""
    llm: str = ""
    """A local Qwen2 or Qwen2.5 checkpoint, for the first stage of a family."""
    start: str = ""
    """The checkpoint to start from. Default: that of the stage before, in the same --output."""
    images: str = ""
    """Where the paths in LLaVA's JSON begin. Default: the JSON's folder."""
    hold_out: float = 0.0
    """The share of samples, by their sha256, that is left for `recap eval`."""
    changes: Annotated[Changes, tyro.conf.arg(name="")] = field(default_factory=Changes)
    teacher: str = ""
    """A local SigLIP checkpoint that guides ELVA's stages 1 and 2. Default: they go without."""
    model_config: str = ""
    """A JSON file with fields of the model's config, such as {"moe_part": "mlp"} for EVEv1.5."""
    rows: int = 0
    """Rows a step, shared out among the ranks. Default: as many as hold the stage's batch."""
    budget: int = 0
    """Tokens of a row. Default: room for four pictures at the cap, or two videos, and their captions."""
    block: int = 4
    """Shards whose samples are shuffled together: a row's, that is, so several rows mix more. From an object store each
    row of a rank keeps so many tars in scratch files."""
    seed: int = 0
    parallel: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(PLANS) + "}")] = "auto"
    """How several GPUs share the work. `auto`: as `accelerate launch` was told, else DDP."""
    precision: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(PRECISIONS) + "}")] = "bf16"
    checkpointing: bool = True
    """Compute activations again in the backward pass instead of keeping them."""
    attention: str = "sdpa"
    """sdpa, flex_attention, or flash_attention_2, whichever torch and the GPU have."""
    save_every: int = 1000
    keep: int = 3
    """Checkpoints to keep."""
    log_every: int = 10
    threads: int = 4
    """That decode pictures, a rank."""
    ahead: int = 4
    """Steps to plan and decode ahead."""
    stop_after: int = 0
    """End in order after so many steps of this start; 0 for none."""


def stage_of(name: str) -> Stage:
    """By its whole name, or EVEv2's by its number. Raises UnknownPart."""
    found = STAGES.get(name) or STAGES.get(f"eve-v2-{name}")
    if found is None:
        raise UnknownPart(f"no stage {name!r}; there is {', '.join(STAGES)}")
    return found


def refuse_nonsense(options: Training) -> None:
    """Raises Refused for an option that no training can have, before anything is opened."""
    for name, least in LEAST.items():
        value = getattr(options.changes if hasattr(options.changes, name) else options, name)
        if not least <= value < math.inf:  # nor NaN
            raise Refused(f"--{name.replace('_', '-')} {value}: {least} or more would be right")
    if options.hold_out >= 1:
        raise Refused(f"--hold-out {options.hold_out} leaves nothing to train on: a share below 1 would be right")
    if options.precision not in PRECISIONS:
        raise UnknownPart(f"no --precision {options.precision!r}; there is {', '.join(PRECISIONS)}")
    if len({weighted(word) for word in options.data}) > 1:
        raise Refused("--data: a weight for each, or for none: one without a weight counts by its samples")


def changed(stage: Stage, changes: Changes, feeds: list[Feed]) -> Stage:
    """The recipe as it is trained here: its corpora are the feeds. Raises Refused."""
    if changes.pictures and changes.pictures not in SETTINGS:
        raise UnknownPart(f"no --pictures {changes.pictures!r}; there is {', '.join(SETTINGS)}")
    mode, side = SETTINGS.get(changes.pictures, (stage.pictures.mode, stage.pictures.max_side))
    frames, side = changes.frames or stage.pictures.frames, changes.max_side or side
    patch = 32 if stage.family == "eve-v2" else 14
    tokens = grid((side, side), side, mode, patch).tokens * frames
    pictures = Pictures(mode=mode, max_side=side, tokens=tokens, frames=frames)  # type: ignore[arg-type]
    if changes.released_lr and stage.released_lr is None:
        raise Refused(f"stage {stage.name}: the released learning rate is the paper's; leave out --released-lr")
    rate = changes.peak_lr or (stage.released_lr if changes.released_lr else None) or stage.peak_lr
    whole, samples = sum(feed.weight for feed in feeds), changes.samples or sum(feed.samples for feed in feeds)
    corpora = [Corpus(name=feed.name, samples=max(1, round(samples * feed.weight / whole))) for feed in feeds]
    return replace(
        stage,
        corpora=tuple(corpora),
        pictures=pictures,
        batch=changes.batch or stage.batch,
        peak_lr=rate,
        epochs=changes.epochs or stage.epochs,
    )


def guided(stage: Stage, teacher: str) -> Stage:
    """The stage as it is with a teacher, or without. Raises Refused for a teacher in a stage that has none."""
    if teacher and not stage.guided:
        raise Refused(f"stage {stage.name} has no teacher: leave out --teacher")
    if teacher:
        return stage
    return replace(stage, guided=False, trains=tuple(each for each in stage.trains if each != "guidance"))


def mean_tokens(feeds: list[Feed], reader: Reader, threads: int) -> float:
    """Of a sample, by the first ones of each feed, weighed as they are mixed. Raises Refused where none fits."""
    mean, whole = 0.0, sum(feed.weight for feed in feeds)
    for feed in feeds:
        lengths = first_lengths(feed, reader, threads)
        if not lengths:
            raise Refused(f"{feed.name}: none of its first samples fits stage {reader.stage.name}")
        mean += feed.weight / whole * sum(lengths) / len(lengths)
    return mean


def first_lengths(feed: Feed, reader: Reader, threads: int) -> list[int]:
    """Tokens of those of the feed's first samples that fit."""
    first = (entry for part in feed.parts for entry in part.entries(0, LOOKED_AT))
    lengths = []
    with ThreadPoolExecutor(threads) as measurers:
        for entry in [each.measured_by(measurers) for each in islice(first, LOOKED_AT)]:
            with suppress(Unfit):
                lengths.append(reader.plan(entry).tokens)
    return lengths


def order_of(options: Training, stage: Stage, feeds: list[Feed], reader: Reader, world: int) -> Order:
    """As many rows as were asked for, or as hold the stage's batch on average, in a multiple of the ranks."""
    least = stage.pictures.tokens + TEXT_TOKENS
    wanted = max(4 * least if stage.pictures.frames == 1 else 2 * least, 4096)
    budget = options.budget or 2 ** math.ceil(math.log2(wanted))
    rows = options.rows
    if not rows:
        rows = world * max(1, round(stage.batch * mean_tokens(feeds, reader, options.threads) / budget / world))
    return Order(lanes=rows, budget=budget, seed=options.seed, block=options.block)


def asked(options: Training, told: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result and is neither stage, feed nor order; told: of a run that goes on. Raises Refused.

    What only rounds otherwise is not among it: ranks, --parallel, --attention, --checkpointing.
    """
    start = options.start or (options.llm if stage_of(options.stage).follows is None else "")
    return {
        "teacher": revision(options.teacher) if options.teacher else None,
        "model_config": overrides(options.model_config),
        "images": options.images,
        "precision": options.precision,
        "start": start or told.get("start", ""),  # a run that goes on does not need it any more
    }


def job_of(
    options: Training, words: Words, patch: int, world: int, there: Checkpoint | None, clips: ClipDecoders
) -> Job:
    """The whole job. What a checkpoint tells stays: the versions of its feeds, and its order if none is asked for.

    Raises PlanMismatch for a checkpoint of another job, before anything is loaded.
    """
    stage = guided(stage_of(options.stage), options.teacher)
    told = dict(there.told["job"]) if there is not None else {}
    pinned = {each["name"]: each["version"] for each in told.get("feeds", [])}
    look = Look(
        images=options.images,
        frames=options.changes.frames or stage.pictures.frames,
        side=2 * (options.changes.max_side or stage.pictures.max_side),
        clips=clips,
    )
    feeds = [open_feed(word, look, pinned) for word in options.data]
    stage = changed(stage, options.changes, feeds)
    reader = Reader(
        stage=stage,
        tokenize=words.ids,
        image_token_id=words.image_token_id,
        patch=patch,
        hold_out=options.hold_out,
    )
    if told and not options.rows:
        options = replace(options, rows=told["order"]["lanes"])
    job = Job(
        stage=stage,
        feeds=feeds,
        reader=reader,
        order=order_of(options, stage, feeds, reader, world),
        output=run_folder(options),
        save_every=options.save_every,
        keep=options.keep,
        log_every=options.log_every,
        ahead=Ahead(threads=options.threads, steps=options.ahead),
        stop_after=options.stop_after,
        teacher=options.teacher,
        asked=asked(options, told),
    )
    if there is not None:
        job.refuse_another(there)
    return job


def run_folder(options: Training) -> Path:
    return refuse_far(options.output) / stage_of(options.stage).name


def source_of(options: Training) -> str:
    """Where the stage's first weights come from. Raises Refused."""
    stage = stage_of(options.stage)
    if stage.follows is None and not options.start:
        if not options.llm:
            raise Refused(f"stage {stage.name} begins with a language model: give --llm, a local Qwen2.5 checkpoint")
        return options.llm
    return options.start or str(finished(refuse_far(options.output) / str(stage.follows)))


def finished(run: Path) -> Path:
    """The run of the stage before. Raises Refused for one that was stopped on its way."""
    if (there := latest(run)) is not None and not there.told["complete"]:
        raise Refused(
            f"stage {run.name} is not done, it stands at step {there.step}: go on with it first, or take it as it is "
            f"with --start {run}"
        )
    return run

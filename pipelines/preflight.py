"""`recap plan`: how many pictures would pass, what they would cost in tokens, GPU-hours and money, before a run."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tyro
from rich.console import Console
from rich.table import Table

from captioner.captioning import Captioner
from captioner.engines.fake import Fake
from captioner.errors import Refused
from captioner.filters import SCREENS
from captioner.media.decoders import DecoderPool
from captioner.presets import preset_of
from captioner.recipe import Recipe
from captioner.registry import build
from pipelines.costs import Price
from pipelines.estimate import PUBLISHED, Estimate, drawn, estimate, look
from pipelines.models import price_of
from pipelines.options import Asked, Dataset, options_class, recipe_from
from shards.finding import find
from shards.sources import SOURCES
from shards.store import open_blob

DATASETS = {
    "datacomp": "pipelines.recap_datacomp:DATACOMP",
    "laion": "pipelines.recap_laion:LAION",
    "sa1b": "pipelines.recap_sa1b:SA1B",
    "folder": "pipelines.recap_folder:FOLDER",
    "webvid": "pipelines.recap_webvid:WEBVID",
    "valor": "pipelines.recap_valor:VALOR",
    "clips": "pipelines.recap_clips:CLIPS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """How closely `recap plan` looks, and what it assumes."""

    shards: int = 3
    """Shards whose headers are read; they are drawn by the hash of their names."""
    answer_tokens: int = 256
    """Tokens of one caption: DenseFusion's have 191 words on average."""
    captions_per_second: float = 0.0
    """By one GPU. Default: what was published for the preset, where something was."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        if self.shards < 1 or self.answer_tokens < 0 or not 0 <= self.captions_per_second < math.inf:
            raise Refused(
                "--shards of 1 or more, --answer-tokens and --captions-per-second of 0 or more would be right"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCommand:
    """Estimate a run: recap plan DATASET, then the options of pipelines/recap_DATASET.py; see recap plan --help."""

    words: ClassVar[str] = "recap plan {" + ",".join(DATASETS) + "} --input URL [--engine vllm --model ID …]"

    def run(self, console: Console) -> int:
        """Say how it is called."""
        console.print(self.words, highlight=False)
        return 2


def plan(arguments: Sequence[str], console: Console) -> int:
    """`recap plan DATASET …`. Raises Refused for what no run could be made of."""
    if not arguments or arguments[0] not in DATASETS:
        asked = bool(arguments) and arguments[0] in ("-h", "--help")
        print(f"usage: {PlanCommand.words}\n\n{__doc__}")
        return 0 if asked else 2
    module, _, name = DATASETS[arguments[0]].partition(":")
    dataset: Dataset = getattr(importlib.import_module(module), name)
    prog = f"recap plan {arguments[0]}"
    options_of: Any = options_class(dataset, Asked, (Looking,))
    options = tyro.cli(options_of, args=list(arguments[1:]), prog=prog, description=__doc__)
    recipe = recipe_from(dataset, options)
    found = _estimated(recipe, options)
    if options.looking.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        _show(console, found)
    return 0


def _estimated(recipe: Recipe, options: Any) -> Estimate:
    source = build(SOURCES, recipe.source.name, recipe.source.settings)
    inputs = tuple(source.plan(find(options.where.input)))  # --limit is a trial: what is estimated is the whole
    seen = look(recipe, source, drawn(inputs, options.looking.shards), _screening(recipe), open_blob)
    preset = options.where.preset or (preset_of(options.models.model) if options.models.model else "")
    per_second = options.looking.captions_per_second or _published(preset, recipe)
    price = Price(gpu_hour=price_of(options.models).gpu_hour)
    return estimate(recipe, inputs, seen, options.looking.answer_tokens, per_second, price)


def _published(preset: str, recipe: Recipe) -> float:
    """Captions a second and GPU; what was published is of pictures."""
    return PUBLISHED.get(preset, 0.0) if recipe.asking.frames is None else 0.0


def _screening(recipe: Recipe) -> Captioner:
    """A captioner of which only the screens are used: nothing is decoded and nobody is asked."""
    screens = tuple(build(SCREENS, each.name, each.settings) for each in recipe.screens)
    asking = dataclasses.replace(recipe.asking, told=None)
    return Captioner(screens=screens, decoder=DecoderPool(1, recipe.limits), engine=Fake(), asking=asking, filters=())


def _show(console: Console, found: Estimate) -> None:
    table = Table(title="what a run would come to", title_justify="left", show_header=False)
    rows = [("shards", f"{found.shards:,}"), ("bytes", f"{found.bytes:,}"), ("samples", f"{found.samples:,}")]
    rows += [("would pass the screens", f"{found.pass_rate:.1%}")]
    rows += [(f"  dropped: {reason}", f"{share:.1%}") for reason, share in found.dropped.items()]
    rows += [("prompt tokens", f"{found.prompt_tokens:,}"), ("answered tokens", f"{found.completion_tokens:,}")]
    if found.gpu_hours is None:
        rows += [("GPU-hours", "nobody has published a speed: give --captions-per-second")]
    else:
        rows += [("GPU-hours", f"{found.gpu_hours:,.1f}")]
    if found.cost is not None:
        rows += [("cost", f"{found.cost:,.2f}")]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print("Pictures that do not decode and captions that are asked for again are not in it.", highlight=False)

"""What a command line may say of a run: every setting of every part, with its default."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Annotated, Any, get_type_hints

import tyro

from captioner.engines import ENGINES
from captioner.errors import Refused, UnknownPart
from captioner.external import KINDS, external_of
from captioner.filters import FILTERS, SCREENS
from captioner.media.clip_format import READER_PACKAGES, READERS
from captioner.presets import SERVED, Wishes, asking_for
from captioner.recipe import Limits, Pace, Recipe
from captioner.registry import Part, build, load, part
from captioner.types import FrameBudget, Kind
from pipelines.models import Models, access_of
from shards.sources import SOURCES

UPLOADS = Part(name="uploads", version=1, settings={})  # the source of samples that come one by one


def every_filter() -> tuple[Part, ...]:
    """All filters with their defaults, in the table's order: what takes least time judges first."""
    return tuple(part(FILTERS, name) for name in FILTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset's part of a recipe: how it is read and what is dropped. The command line adds the engine.

    source: None for samples that come one by one. kind: what its samples are.
    """

    source: Part | None
    screens: tuple[Part, ...]
    summary: str
    filters: tuple[Part, ...] = field(default_factory=every_filter)
    kind: Kind = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """How clips are looked at; 0 for the preset's own."""

    reader: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(READERS) + "}")] = READERS[0]
    """Who decodes. `decord` wants the decord2 package."""
    per_second: int = 0
    """Frames looked at of each second. Presets: 1."""
    most: int = 0
    """Frames looked at in all; a longer clip's are spread evenly. Presets: 128; the experts look at 6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """How samples are captioned, wherever they come from."""

    engine: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(ENGINES) + "}")] = "experts"
    """Who captions. `experts` needs no GPU; `sglang`, `vllm` and `openai` want --model, `trained` wants
    --trained.checkpoint; `fake` is for tests."""
    without: tuple[str, ...] = ()
    """Screens and filters to leave out, by name."""
    preset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(SERVED) + "}")] = ""
    """How a served model is asked: pixels, prompt, sampling. Default: by the model's name."""
    prompt_file: str = ""
    """A UTF-8 file whose words replace the preset's prompt; {external_information} is where --external goes."""
    external: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(KINDS) + "}")] = "none"
    """What the engine is told besides the picture. `experts` costs a second of one CPU a picture."""
    max_tokens: int = 0
    """Tokens of a first answer at most. Default: the preset's. Asks after a cut answer get more in proportion."""
    trim: bool = False
    """Keep a caption that stays cut, up to its last whole sentence, if all filters keep that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Captioned):
    """What is read, and how it is captioned."""

    input: str
    """A folder of tars (of pictures or clips, where those are read), a glob, a list file with a path or URL a line, or
    a URL prefix (a path, file://, s3://, gs://, az://)."""
    limit: int | None = None
    """Caption only the first N samples: a trial, with an output folder of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where(Asked):
    """Where a run reads, writes and runs."""

    output: str
    """The run's folder, a path or URL. The same command resumes what is there."""
    address: str | None = None
    """`local` starts Ray here; `auto` or HOST:PORT joins a cluster. Default: local; in a Ray job, its cluster."""


def options_class(
    dataset: Dataset,
    where: type[Captioned] = Where,
    more: tuple[type, ...] = (),
    beside: Mapping[str, Dataset] = MappingProxyType({}),
) -> type:
    """A dataclass of where, more plain groups, and one group of settings for each part, for the command line.

    beside: other datasets that the same parts judge, each by the name under which its own screens' settings stand.
    """
    groups: list[Any] = [("where", Annotated[where, tyro.conf.arg(name="")])]
    for each in more:
        groups.append((each.__name__.lower(), Annotated[each, tyro.conf.arg(name="")], field(default=each())))
    groups.append(("models", Annotated[Models, tyro.conf.arg(name="")], field(default=Models())))
    groups += [_group(name, build(ENGINES, name, {})) for name in ENGINES]
    if dataset.source is not None:
        groups.append(_group("source", build(SOURCES, dataset.source.name, dataset.source.settings)))
    for table, parts in ((SCREENS, dataset.screens), (FILTERS, dataset.filters)):
        groups += [_group(each.name, build(table, each.name, each.settings)) for each in parts]
    for name, other in beside.items():
        kind = _screens_class(other)
        groups.append((name, kind, field(default=kind())))
    if "video" in {each.kind for each in (dataset, *beside.values())}:
        groups.append(("frames", Frames, field(default=Frames())))  # its own settings, with what each of them says
    groups += [_group("limits", Limits()), _group("pace", Pace())]
    named = {"__doc__": dataset.summary}
    return dataclasses.make_dataclass("Options", groups, frozen=True, kw_only=True, namespace=named)


def _screens_class(dataset: Dataset) -> type:
    groups = [_group(each.name, build(SCREENS, each.name, each.settings)) for each in dataset.screens]
    return dataclasses.make_dataclass("Screens", groups, frozen=True, kw_only=True, namespace={"__doc__": ""})


def _group(name: str, part: Any) -> tuple[str, type, Any]:
    """A field whose type has a part's settings and nothing else of it: an engine also holds what it has open."""
    hints = get_type_hints(type(part))
    settings = [f for f in dataclasses.fields(part) if f.init]
    fields = [(f.name, hints[f.name], field(default=getattr(part, f.name))) for f in settings]
    words = {"__doc__": inspect.getdoc(type(part))}
    shown = dataclasses.make_dataclass(type(part).__name__, fields, frozen=True, kw_only=True, namespace=words)
    return name, shown, field(default=shown())


def recipe_from(dataset: Dataset, options: Any) -> Recipe:
    """The whole recipe that a dataset and its command line make. Raises Refused for options that do not fit."""
    where: Captioned = options.where
    limit: int | None = getattr(where, "limit", None)
    known = {each.name for each in (*dataset.screens, *dataset.filters)}
    for name in where.without:
        if name not in known:
            raise UnknownPart(f"cannot leave out {name!r}; there is {', '.join(sorted(known))}")
    if limit is not None and limit < 1:
        raise Refused(f"--limit {limit} would caption nothing; give 1 or more")
    engine: Any = load(ENGINES, where.engine)
    wishes = Wishes(**{each.name: getattr(where, each.name) for each in dataclasses.fields(Wishes)})
    access_of(where.engine, engine, options.models)
    own: Any = build(ENGINES, where.engine, _settings(getattr(options, where.engine)))
    model: str = getattr(own, "MODEL", options.models.model)
    revision: str = getattr(own, "REVISION", options.models.revision)
    asking = asking_for(engine, model, wishes, dataset.kind)
    if asking.frames is not None:
        asking = replace(asking, frames=_looked(asking.frames, options.frames))
    source = UPLOADS if dataset.source is None else _part(SOURCES, dataset.source.name, options.source)
    if source.settings.get("kind", dataset.kind) != dataset.kind:
        raise Refused("--source.kind is what a script is for: recap_folder.py reads pictures, recap_clips.py clips")
    filters = _chosen(FILTERS, dataset.filters, options)
    return Recipe(
        source=source,
        screens=_chosen(SCREENS, dataset.screens, options),
        engine=_part(ENGINES, where.engine, getattr(options, where.engine)),
        model=model,
        model_revision=revision,
        asking=asking,
        filters=tuple(told(each, asking.prompt) for each in filters),
        limits=Limits(**dataclasses.asdict(options.limits)),
        limit=limit,
    )


def _looked(preset: FrameBudget, frames: Frames) -> FrameBudget:
    if frames.reader not in READERS:
        raise UnknownPart(f"no --frames.reader {frames.reader!r} here; there is {', '.join(READERS)}")
    most = frames.most or preset.max_frames
    per_second = frames.per_second or preset.per_second
    try:
        return replace(preset, reader=frames.reader, max_frames=most, per_second=per_second)
    except ValueError as error:
        some = f"{preset.multiple_of} or another multiple of it" if preset.multiple_of > 1 else "1 or more"
        raise Refused(
            f"--frames.most {most}: {some} would be right; --frames.per-second {per_second}: 1 or more"
        ) from error


def told(filter_part: Part, prompt: str, instead_of: str = "") -> Part:
    """A filter that has a prompt to look for, and was given none, or that one, looks for this prompt."""
    if filter_part.settings.get("prompt") != instead_of:
        return filter_part
    return replace(filter_part, settings={**filter_part.settings, "prompt": prompt})


def _chosen(table: Mapping[str, str], parts: tuple[Part, ...], options: Any) -> tuple[Part, ...]:
    names = [each.name for each in parts if each.name not in options.where.without]
    return tuple(_part(table, name, getattr(options, name)) for name in names)


def _part(table: Mapping[str, str], name: str, built: Any) -> Part:
    return part(table, name, **_settings(built))


def _settings(built: Any) -> dict[str, Any]:
    return {f.name: getattr(built, f.name) for f in dataclasses.fields(built) if f.init}


def versions(recipe: Recipe) -> dict[str, str]:
    """The versions of the code that decides outcomes; a run is not resumed with others."""
    told = recipe.asking.told
    parts = [load(ENGINES, recipe.engine.name), *([type(external_of(told))] if told else [])]
    reader = (READER_PACKAGES[recipe.asking.frames.reader],) if recipe.asking.frames else ()
    packages = (
        "recap",
        "pillow",
        *dict.fromkeys(("av", *reader) if reader else ()),
        *(name for each in parts for name in getattr(each, "PACKAGES", ())),
    )
    try:
        return {name: version(name) for name in packages}
    except PackageNotFoundError as error:
        raise Refused(f"{error.name} is not installed here: pip install it, on every node of a cluster") from error

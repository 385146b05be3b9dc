"""Uploads: what comes one by one, judged as plain pictures and plain clips in folders are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from captioner.errors import PicturesOnly
from captioner.filters import SCREENS
from captioner.recipe import Recipe, digest, to_json
from captioner.registry import build
from captioner.types import Kind, Screen
from pipelines.options import Captioned, Dataset, options_class, recipe_from
from pipelines.recap_clips import CLIPS
from pipelines.recap_folder import FOLDER
from serving.settings import Bounds, Fetching, Listening

SUMMARY = """One picture or clip in, one caption out, over HTTP, with a page to try it at /.

    recap serve --engine experts
    curl -F image=@picture.jpg http://127.0.0.1:8000/v1/captions
    curl -F video=@clip.mp4 http://127.0.0.1:8000/v1/captions

They are screened, decoded, captioned and judged as a batch run would do it. API keys: recap serve keys --help."""
PICTURES_HERE = replace(FOLDER, source=None, summary=SUMMARY)
CLIPS_HERE = replace(CLIPS, source=None, summary=SUMMARY)

Recipes = Mapping[Kind, Recipe]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How uploads of one kind are judged. made: a digest of all that decides what becomes of one."""

    kind: Kind
    recipe: Recipe
    screens: tuple[Screen, ...]
    made: str


def options_type() -> Any:
    """The command line's dataclass: pictures' screens by their names, clips' under `clips`, the rest for both."""
    return options_class(PICTURES_HERE, Captioned, (Listening, Bounds, Fetching), {"clips": CLIPS_HERE})


def recipes_of(options: Any) -> Recipes:
    """What is made of pictures, and of clips where the engine, as it is asked, takes any. Raises Refused."""
    recipes: dict[Kind, Recipe] = {"image": recipe_from(PICTURES_HERE, _without(options, PICTURES_HERE, CLIPS_HERE))}
    of_clips = SimpleNamespace(**vars(options) | vars(options.clips))
    with suppress(PicturesOnly):  # who sends a clip is told so
        recipes["video"] = recipe_from(CLIPS_HERE, _without(of_clips, CLIPS_HERE, PICTURES_HERE))
    return recipes


def rule_of(kind: Kind, recipe: Recipe) -> Rule:
    """A recipe with its screens built."""
    screens = tuple(build(SCREENS, each.name, each.settings) for each in recipe.screens)
    return Rule(kind=kind, recipe=recipe, screens=screens, made=digest(to_json(replace(recipe, limit=None))))


def _without(options: Any, dataset: Dataset, other: Dataset) -> Any:
    """The options as one of the two has them: it leaves out no part that only the other has."""
    theirs = {each.name for each in other.screens} - {each.name for each in dataset.screens}
    where: Captioned = options.where
    kept = replace(where, without=tuple(name for name in where.without if name not in theirs))
    return SimpleNamespace(**vars(options) | {"where": kept})

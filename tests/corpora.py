"""Small real shards and runs for the tests: photographs by Pillow, tars by the packer, the line without Ray."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.captioning import Captioner
from captioner.engines import ENGINES
from captioner.engines.slots import Slots
from captioner.external import external_of
from captioner.filters import FILTERS, SCREENS
from captioner.media.decoders import DecoderPool
from captioner.presets import preset
from captioner.recipe import Limits, Pace, Recipe
from captioner.registry import Part, build, part
from pipelines.caption_shard import Done, Line, attempt_shard, caption_shard
from pipelines.gate import Gate
from pipelines.quality import Band, Quality
from shards import manifest
from shards import plan as plans
from shards.finding import find
from shards.pack import Packed, pack
from shards.plan import Plan
from shards.sources import SOURCES
from shards.store import Store

SCREEN_NAMES = ("format", "bytes", "pixels", "resolution", "aspect", "scores")
FILTER_NAMES = ("empty", "characters", "markup", "refusal", "echo", "truncated", "repetition", "length")


def picture(seed: int, width: int = 540, height: int = 520, kind: str = "JPEG") -> bytes:
    """A picture of smooth random colours: small as a file, different for each seed."""
    dice = random.Random(seed)
    small = Image.new("RGB", (4, 4))
    small.putdata([tuple(dice.randrange(256) for _ in range(3)) for _ in range(16)])
    sink = io.BytesIO()
    small.resize((width, height), Image.Resampling.BILINEAR).save(sink, kind)
    return sink.getvalue()


def samples(count: int, first: int = 0) -> list[Packed]:
    """Good samples and, every fifth, a bad one: too small, cut, no picture."""
    made = []
    for number in range(first, first + count):
        media = picture(number)
        match number % 20:
            case 4:
                media = picture(number, 64, 64)
            case 9:
                media = media[: len(media) * 2 // 3]
            case 14:
                media = b"<html>404</html>"
        fields = {"url": f"https://pictures.example/{number}.jpg", "uid": f"{number:032x}"}
        made.append(
            Packed(key=f"{number:09d}", extension="jpg", media=media, caption=f"alt text {number}", fields=fields)
        )
    return made


def make_shards(folder: Path, shards: int, per_shard: int) -> Path:
    """A folder of tars of samples()."""
    pack(Store(str(folder)), samples(shards * per_shard), per_shard)
    return folder


def fake_recipe(**engine: Any) -> Recipe:
    """A recipe with the fake engine, every screen and every filter."""
    return Recipe(
        source=part(SOURCES, "datacomp"),
        screens=tuple(part(SCREENS, name) for name in SCREEN_NAMES),
        engine=part(ENGINES, "fake", **engine),
        model="recap-fake",
        model_revision="1",
        asking=preset("fake"),
        filters=tuple(part(FILTERS, name) for name in FILTER_NAMES),
        limits=Limits(),
    )


def planned(recipe: Recipe, folder: Path | str) -> Plan:
    """The plan of a recipe over a folder."""
    source = build(SOURCES, recipe.source.name, recipe.source.settings)
    return plans.plan_for(recipe, source.plan(find(str(folder))), {"recap": "test"})


def run_here(
    recipe: Recipe,
    plan: Plan,
    out: Path | str,
    *,
    shards: Sequence[str] = (),
    pace: Pace | None = None,
    zombie: bool = False,
) -> list[Done]:
    """The line in this process, without Ray: caption the named shards, or all of them, and publish the manifest.

    zombie: go on as one that began before the shards were committed.
    """
    store = Store(str(out))
    plans.enter(store, plan)
    wanted = [each for each in plan.inputs if not shards or each.shard in shards]
    done = asyncio.run(caption(recipe, plan, store, wanted, pace or Pace(), zombie))
    manifest.publish(store, plan, "test")
    return done


async def caption(
    recipe: Recipe, plan: Plan, store: Store, wanted: Sequence[Any], pace: Pace, zombie: bool = False
) -> list[Done]:
    """The named shards, one after another, as a worker captions them."""
    async with line_of(recipe, plan, store, pace) as line:
        if zombie:
            done = [await attempt_shard(shard, line, last=True) for shard in wanted]
            return [each for each in done if each is not None]
        return [await caption_shard(shard, line) for shard in wanted]


@asynccontextmanager
async def line_of(
    recipe: Recipe, plan: Plan, store: Store, pace: Pace | None = None, gate: Gate | None = None
) -> AsyncIterator[Line]:
    """What a worker keeps open, without the worker."""
    engine = build(ENGINES, recipe.engine.name, recipe.engine.settings)
    async with AsyncExitStack() as opened:
        clips = recipe.asking.frames.reader if recipe.asking.frames else ""
        decoder = await opened.enter_async_context(DecoderPool(1, recipe.limits, clips=clips))
        slots = await opened.enter_async_context(Slots(engine, 16))
        external = external_of(recipe.asking.told)
        if external is not None:
            await opened.enter_async_context(external)
        yield Line(
            store=store,
            run_id=plan.run_id,
            recipe=recipe,
            source=build(SOURCES, recipe.source.name, recipe.source.settings),
            captioner=Captioner(
                screens=_built(SCREENS, recipe.screens),
                decoder=decoder,
                engine=slots,
                asking=recipe.asking,
                filters=_built(FILTERS, recipe.filters),
                external=external,
            ),
            gate=gate or Gate(room=lambda: 24, max_bytes=2**28),
            pace=pace or Pace(),
            quality=Quality(band=Band(window=0)),
            distrust=_nobody,
        )


async def _nobody(name: str) -> None:
    raise AssertionError(f"{name} is distrusted, and there is no pool")


def _built(table: Any, parts: Sequence[Part]) -> tuple[Any, ...]:
    return tuple(build(table, each.name, each.settings) for each in parts)


def with_filter(recipe: Recipe, added: Part) -> Recipe:
    """The recipe with one filter more."""
    return replace(recipe, filters=(*recipe.filters, added))

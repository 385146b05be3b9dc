"""A run half way, made without Ray: some shards committed, the others not begun."""

from __future__ import annotations

import asyncio
from pathlib import Path

import tyro

from captioner.recipe import Pace
from pipelines.actors import Job, Worker
from pipelines.demo.pictures import demo_samples
from pipelines.options import Dataset, options_class, recipe_from, versions
from pipelines.recap_clips import CLIPS
from pipelines.recap_datacomp import DATACOMP
from pipelines.recaption import make_plan
from shards import plan as plans
from shards.pack import pack
from shards.store import Store
from tests.clips import plain


def half_a_run(folder: Path, *words: str, shards: int = 2, engine: str = "fake") -> Store:
    """The demo's pictures in shards of five, of which so many are captioned."""
    pack(Store(str(folder / "in")), demo_samples(), 5)
    return _run(DATACOMP, folder, ("--engine", engine, *words), shards)


def run_over_clips(folder: Path) -> Store:
    """Three clips in one shard, captioned."""
    (folder / "in").mkdir()
    for seconds in (2, 3, 4):
        (folder / "in" / f"{seconds}.mp4").write_bytes(plain(seconds))
    return _run(CLIPS, folder, ("--engine", "fake"), shards=1)


def _run(dataset: Dataset, folder: Path, words: tuple[str, ...], shards: int) -> Store:
    command = ["--input", str(folder / "in"), "--output", str(folder / "out"), *words]
    recipe = recipe_from(dataset, tyro.cli(options_class(dataset), args=command))
    plan = make_plan(recipe, str(folder / "in"), versions(recipe))
    store = Store(str(folder / "out"))
    plans.enter(store, plan)
    asyncio.run(_captioned(store, Job(output=store.url, run_id=plan.run_id, recipe=recipe, pace=Pace()), plan, shards))
    return store


async def _captioned(store: Store, job: Job, plan: plans.Plan, shards: int) -> None:
    worker = Worker(job)
    for shard in plan.inputs[:shards]:
        done = await worker.caption(shard)
        assert done.shard == shard.shard and hasattr(done, "verdict"), done
    await worker.stop()

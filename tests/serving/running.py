"""A run half way, made without Ray: some shards committed, the others not begun."""

from __future__ import annotations

import asyncio
from pathlib import Path

import tyro

from captioner.recipe import Pace
from pipelines.actors import Job, Worker
from pipelines.demo.pictures import demo_samples
from pipelines.options import options_class, recipe_from, versions
from pipelines.recap_datacomp import DATACOMP
from pipelines.recaption import make_plan
from shards import plan as plans
from shards.pack import pack
from shards.store import Store


def half_a_run(folder: Path, *words: str, shards: int = 2, engine: str = "fake") -> Store:
    """The demo's pictures in shards of five, of which so many are captioned."""
    pack(Store(str(folder / "in")), demo_samples(), 5)
    command = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--engine", engine, *words]
    recipe = recipe_from(DATACOMP, tyro.cli(options_class(DATACOMP), args=command))
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

"""Runs over served models that fail in every way: what the ledger and the exit code say of each."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from captioner.engines import ENGINES
from captioner.engines.pool.dispatch import Dispatch
from captioner.engines.served import Remote, Whose
from captioner.presets import Wishes, asking_for
from captioner.recipe import Pace, Recipe
from captioner.registry import part
from pipelines.actors import Job, Trouble, Worker
from pipelines.caption_shard import Done
from pipelines.connection import Elsewhere
from pipelines.models import Access
from pipelines.servers.process import free_port
from shards import commits, ledger, manifest
from shards import plan as plans
from shards.ledger import Row
from shards.pack import Packed, pack
from shards.store import Store
from shards.verify import verify
from tests.corpora import fake_recipe, picture, planned
from tests.engine_yard import Yard, about, number_of
from tests.kills import answers
from tests.processes import datacomp, recap, run
from tests.scripted_engine import Asking, Reply, ScriptedEngine, body, caption, error, hang, huge

PACE = Pace(workers=1, slots=8, quality_window=0)
LOOP = "The wall is grey and the floor is grey. " * 40


def recipe() -> Recipe:
    """vLLM's, with every filter: an engine is told the alt text, so that it knows which sample it is asked about."""
    asking = asking_for(Remote, "tiny", Wishes(preset="qwen2-vl", external="alt-text"))
    made = replace(fake_recipe(), engine=part(ENGINES, "vllm"), model="tiny", model_revision="", asking=asking)
    return replace(made, screens=tuple(each for each in made.screens if each.name != "resolution"))


def small_shards(folder: Path, shards: int, per_shard: int) -> None:
    """Good samples, quickly decoded, with alt texts `alt text 0` and up."""
    samples = [
        Packed(
            key=f"{number:09d}", extension="jpg", media=picture(number, 84, 84), caption=f"alt text {number}", fields={}
        )
        for number in range(shards * per_shard)
    ]
    pack(Store(str(folder)), samples, per_shard)


@dataclass(slots=True, kw_only=True)
class Lone:
    """A run's folder and one worker's way through its shards, as the driver has it but without Ray."""

    folder: Path
    recipe: Recipe = field(default_factory=recipe)
    pace: Pace = PACE
    request_seconds: float = 30.0
    start_seconds: float = 30.0
    worker: Worker | None = None

    @property
    def pool(self) -> Dispatch | None:
        """What the worker's pool is doing."""
        way = self.worker._way if self.worker is not None else None
        return way._pool._keeper.dispatch if isinstance(way, Elsewhere) and way._pool._keeper is not None else None

    @property
    def out(self) -> Path:
        return self.folder / "out"

    async def go_on(self, *urls: str) -> list[Trouble]:
        """Every shard without a record, two at a time; what stood in the way."""
        access = Access(
            whose=Whose(model="tiny"),
            endpoints=urls,
            replicas=1,
            request_seconds=self.request_seconds,
            start_seconds=self.start_seconds,
        )
        store, plan = Store(str(self.out)), planned(self.recipe, self.folder / "in")
        plans.enter(store, plan)
        job = Job(output=store.url, run_id=plan.run_id, recipe=self.recipe, pace=self.pace, access=access)
        self.worker = worker = Worker(job)
        done = commits.committed(store)
        waiting = iter([each for each in plan.inputs if each.shard not in done])
        told: list[Done | Trouble] = []

        async def taking() -> None:
            for shard in waiting:
                told.append(await worker.caption(shard))

        try:
            await asyncio.gather(*(taking() for _ in range(self.pace.open_shards)))
        finally:
            await worker.stop()
        if commits.committed(store):
            manifest.publish(store, plan, "test")
        return [each for each in told if isinstance(each, Trouble)]

    def rows(self) -> dict[int, Row]:
        """The ledger by sample number; the whole corpus is proved on the way."""
        store, found = Store(str(self.out)), dict[int, Row]()
        verdict = verify(store)
        assert verdict.complete and not verdict.problems, verdict.problems
        for shard in commits.committed(store):
            record = commits.read(store, shard)
            assert record is not None
            files = [file.name for file in record.files if file.name.endswith(".parquet")]
            found |= {int(row.key): row for row in ledger.from_parquet(store.read(files[0]))}
        return found

    def troubled(self) -> dict[int, tuple[str, str | None]]:
        """Outcome and reason of every sample that an engine was asked for and that has no caption."""
        return {
            number: (row.outcome, row.reason)
            for number, row in self.rows().items()
            if row.outcome in ("failed", "rejected")
        }


@pytest.fixture
def lone(tmp_path: Path) -> Lone:
    """Two shards of twenty."""
    small_shards(tmp_path / "in", 2, 20)
    return Lone(folder=tmp_path)


def by_number(replies: Callable[[int], Reply | None] = lambda number: None) -> Callable[[Asking], Reply]:
    """For some samples these replies, for all others each its own caption."""
    return lambda asking: replies(number_of(asking)) or about(number_of(asking))


def test_where_nobody_listens_the_run_ends_with_code_3_and_blames_no_sample(lone: Lone) -> None:
    async def story() -> None:
        lone.start_seconds = 0.5
        engine = ScriptedEngine(port=free_port(), pick=by_number())
        troubles = await lone.go_on(engine.url)
        assert {(each.kind, each.exit_code) for each in troubles} == {("EngineUnavailable", 3)}
        names = list(Store(str(lone.out)).names())
        assert names == ["plan.json"], "nobody was asked, so nothing is known"
        async with engine:
            lone.start_seconds = 30.0
            assert await lone.go_on(engine.url) == []

    asyncio.run(story())
    assert not lone.troubled()


def test_what_hangs_at_one_replica_is_asked_of_another_and_none_fails(lone: Lone) -> None:
    async def story() -> None:
        lone.request_seconds = 5.0
        async with ScriptedEngine(pick=by_number()) as good, ScriptedEngine(pick=by_number()) as bad:
            said = 0

            def hangs_after_four(asking: Asking) -> Reply:
                nonlocal said
                said += 1
                if said > 4:
                    bad.canary = hang()
                return about(number_of(asking)) if said <= 4 else hang()

            bad.pick = hangs_after_four
            assert await lone.go_on(good.url, bad.url) == []
            assert said > 4, "it was never asked what it would hang on"
            assert {number_of(each) for each in bad.asked} <= {number_of(each) for each in good.asked + bad.asked[:4]}

    asyncio.run(story())
    assert not lone.troubled()


def test_a_busy_engine_is_asked_again_however_often_it_says_so(lone: Lone) -> None:
    refusals = Counter[int]()

    def often_busy(number: int) -> Reply | None:
        refusals[number] += 1
        return error(429, "busy", Retry_After="0.01") if refusals[number] <= 6 and number % 8 == 0 else None

    async def story() -> None:
        async with ScriptedEngine(pick=by_number(often_busy)) as engine:
            assert await lone.go_on(engine.url) == []

    asyncio.run(story())
    assert not lone.troubled()
    assert [refusals[number] for number in range(0, 40, 8)] == [7] * 5
    assert {row.attempts for row in lone.rows().values() if row.outcome == "captioned"} == {1}


def test_a_sample_that_breaks_every_engine_fails_alone_after_three_asks_of_two(lone: Lone) -> None:
    async def story() -> None:
        async with ScriptedEngine() as one, ScriptedEngine() as other:
            one.pick = other.pick = by_number(lambda number: error(500, "CUDA error") if number == 11 else None)
            assert await lone.go_on(one.url, other.url) == []
            asked = [[number_of(each) for each in engine.asked].count(11) for engine in (one, other)]
            assert sum(asked) == 3 and min(asked) >= 1

    asyncio.run(story())
    assert lone.troubled() == {11: ("failed", "engine_error")}


def test_a_server_whose_engine_died_costs_no_sample_while_it_still_answers(lone: Lone) -> None:
    """vLLM, after a SIGKILL of its worker: code 500 for some seconds, to anything."""
    dead = error(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")

    async def story() -> None:
        async with ScriptedEngine() as engine:

            async def proof(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
                if len(engine.asked) > 5 and len(engine.proofs) > 3:
                    engine.pick = by_number()  # it is back
                reply = caption() if len(engine.proofs) == 1 or len(engine.proofs) > 3 else dead
                return await reply(engine, request, asking)

            engine.canary = proof
            engine.pick = lambda asking: dead if len(engine.asked) > 5 else about(number_of(asking))
            assert await lone.go_on(engine.url) == []
            assert len(engine.asked) > 40 and len(engine.proofs) > 3

    asyncio.run(story())
    assert not lone.troubled()


BROKEN: dict[int, tuple[Reply, str, str]] = {
    1: (body(b"<html>502</html>"), "failed", "bad_engine_response"),
    2: (body(b'{"choices": [{"mess'), "failed", "bad_engine_response"),
    3: (caption(None), "failed", "bad_engine_response"),
    5: (huge(8 * 2**20), "failed", "bad_engine_response"),
    6: (caption(model="another"), "failed", "bad_engine_response"),
    7: (caption(id="chatcmpl-of-somebody-else"), "failed", "bad_engine_response"),
    8: (caption("!" * 64), "failed", "nan_output"),
    10: (error(400, "the picture is no picture"), "failed", "engine_refused"),
    11: (caption(finish="abort"), "rejected", "truncated_caption"),
    12: (caption(finish=None), "rejected", "truncated_caption"),
    13: (caption(finish="length"), "rejected", "truncated_caption"),
    15: (caption(LOOP), "rejected", "repetitive_caption"),
    16: (caption(" "), "rejected", "empty_caption"),
    17: (caption("I'm sorry, but I can't describe this image."), "rejected", "refusal"),
}


def test_each_broken_answer_costs_its_own_sample_and_has_its_own_reason(lone: Lone) -> None:
    async def story() -> None:
        async with ScriptedEngine() as one, ScriptedEngine() as other:
            one.pick = other.pick = by_number(lambda number: BROKEN[number][0] if number in BROKEN else None)
            assert await lone.go_on(one.url, other.url) == []

    asyncio.run(story())
    assert lone.troubled() == {number: (outcome, reason) for number, (_, outcome, reason) in BROKEN.items()}
    said = lone.rows()[10].detail
    assert said is not None and "the picture is no picture" in said
    assert lone.rows()[6].detail == "asked tiny, but the answer's model is another"


def test_an_engine_that_speaks_only_nan_is_left_and_costs_no_sample(lone: Lone) -> None:
    async def story() -> None:
        async with ScriptedEngine(pick=by_number()) as good, ScriptedEngine(pick=by_number()) as bad:
            bad.pick = by_number(lambda number: caption("!" * 64))
            bad.canary = caption("!" * 64)
            assert await lone.go_on(good.url, bad.url) == []

    asyncio.run(story())
    assert not lone.troubled()


def test_an_engine_that_comes_back_with_another_model_ends_the_run_with_code_2(lone: Lone) -> None:
    async def story() -> None:
        async with ScriptedEngine() as engine:

            def changes(asking: Asking) -> Reply:
                if len(engine.asked) == 12:
                    changing.append(asyncio.create_task(comes_back()))
                return hang() if len(engine.asked) >= 12 else about(number_of(asking))

            async def comes_back() -> None:
                await engine.stop()
                engine.model = "tiny-instruct"
                await engine.start()

            changing: list[asyncio.Task[None]] = []
            engine.pick = changes
            troubles = await lone.go_on(engine.url)
            assert {(each.kind, each.exit_code) for each in troubles} == {("ModelChanged", 2)}
            assert all("tiny-instruct" in each.detail and "asked for tiny" in each.detail for each in troubles)
            engine.model, engine.pick = "tiny", by_number()
            assert await lone.go_on(engine.url) == []

    asyncio.run(story())
    assert not lone.troubled()


def test_a_key_that_is_missing_ends_the_run_with_code_2(lone: Lone) -> None:
    async def story() -> None:
        async with ScriptedEngine(listing=error(401, "Unauthorized")) as engine:
            troubles = await lone.go_on(engine.url)
            assert {(each.kind, each.exit_code) for each in troubles} == {("Refused", 2)}
            assert all("without a key" in each.detail for each in troubles)

    asyncio.run(story())


def test_a_sample_that_kills_engines_kills_two_and_fails_alone(lone: Lone) -> None:
    async def story() -> Counter[int]:
        async with Yard(count=3, seconds=0.02, deadly=11) as yard:
            assert await lone.go_on(*yard.urls) == []
            return yard.deaths

    deaths = asyncio.run(story())
    assert 1 <= deaths.total() <= 2
    assert lone.troubled() == {11: ("failed", "engine_error")}
    assert "replicas died" in (lone.rows()[11].detail or "")


def test_fifty_killed_engines_lose_and_double_nothing(tmp_path: Path) -> None:
    """Never is a sample struck twice, for the pool would rightly take that for the sample's own doing."""
    small_shards(tmp_path / "in", 4, 350)
    calm, wild = (Lone(folder=tmp_path / name, pace=replace(PACE, slots=4)) for name in ("calm", "wild"))
    for each in (calm, wild):
        each.folder.mkdir()
        (each.folder / "in").symlink_to(tmp_path / "in")

    async def story() -> int:
        async with Yard(count=3) as yard:
            assert await calm.go_on(*yard.urls) == []
        async with Yard(count=3, seconds=0.02) as yard:
            striking = asyncio.create_task(strike(yard, wild, 50))
            assert await wild.go_on(*yard.urls) == []
            striking.cancel()
            return yard.deaths.total()

    assert asyncio.run(story()) == 50, "the run was over before the kills were"
    assert not wild.troubled()
    assert answers(wild.out) == answers(calm.out)


async def strike(yard: Yard, lone: Lone, kills: int) -> None:
    """Kill an engine at its work, again and again."""
    for _ in range(kills):
        while (victim := _victim(lone)) is None:
            await asyncio.sleep(0.005)
        await yard.kill(victim)


def _victim(lone: Lone) -> str | None:
    """An engine that has samples in hand and whose earlier deaths are forgotten, while no sample of an earlier kill is
    open; as the pool sees it, for an engine notices what it was sent only later."""
    if lone.pool is None or lone.pool.lanes.suspects:
        return None
    members = lone.pool.members
    if any(flight.item.deaths for member in members for flight in member.flights):
        return None
    return next((each.name for each in members if each.flights and each.state == "serving" and not each.relapses), None)


def test_a_replica_whose_captions_go_bad_is_distrusted_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small_shards(tmp_path / "in", 5, 100)
    pace = replace(PACE, quality_window=500, rejected_at_most=0.9)
    made = recipe()
    lone = Lone(folder=tmp_path, recipe=replace(made, asking=replace(made.asking, again_for=())), pace=pace)

    async def story() -> tuple[int, int]:
        # As slow as each other, and slow enough that both have proved themselves before the first captions are there.
        looping = caption(LOOP, seconds=0.1)
        talking = by_number(lambda number: about(number, seconds=0.1))
        async with ScriptedEngine(pick=talking) as good, ScriptedEngine(otherwise=looping) as bad:
            assert await lone.go_on(good.url, bad.url) == []
            return len(good.asked), len(bad.asked)

    with caplog.at_level(logging.WARNING, logger="recap"):
        asked = asyncio.run(story())
    assert "replica distrusted" in caplog.text
    assert set(lone.troubled().values()) == {("rejected", "repetitive_caption")}
    assert 100 <= len(lone.troubled()) <= asked[1] < asked[0]


def test_whatever_ended_a_run_the_same_command_goes_on(tmp_path: Path) -> None:
    """On a real Ray: a budget is spent, then captions are only loops, and at last all is well."""
    small_shards(tmp_path / "in", 2, 60)
    engine = ScriptedEngine(otherwise=caption(LOOP))

    async def ended(*options: str) -> tuple[int, str]:
        words = datacomp(tmp_path / "in", tmp_path / "out", "--engine", "vllm", "--endpoints", engine.url)
        words += ["--model", "tiny", "--preset", "qwen2-vl", "--without", "resolution", "--pace.workers", "1"]
        ran = await asyncio.to_thread(run, *words, *options)
        return ran.returncode, " ".join(ran.stderr.split())

    async def story() -> None:
        async with engine:
            code, said = await ended("--gpu-hour-price", "3600", "--gpus", "1", "--budget", "0.5")
            assert code == 3 and "this start has spent its budget of 0.5" in said, said
            code, said = await ended("--pace.quality-window", "30")
            lost = "quality_lost: 30 of the last 30 captions were rejected or failed (repetitive_caption 30)"
            assert code == 2 and lost in said, said
            assert said.count("repetitive_caption: 'The wall is grey") == 5
            engine.otherwise = caption()
            code, said = await ended()
            assert code == 0 and "done: manifests/000001.json" in said, said

    asyncio.run(story())
    assert recap("verify", str(tmp_path / "out")).returncode == 0
    outcomes = Counter(outcome for _, _, outcome, _, _ in answers(tmp_path / "out").elements())
    assert outcomes["captioned"] > 0 and outcomes["rejected"] >= 30
    assert outcomes.total() == outcomes["captioned"] + outcomes["rejected"] == 120

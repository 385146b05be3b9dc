"""Replicas come, go and are distrusted while a worker asks them, and even while it opens."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from dataclasses import dataclass, field

from captioner.engines.served import Whose
from captioner.types import Replica
from pipelines.connection import DISTRUSTED_AT_MOST, Elsewhere
from pipelines.models import Access
from tests.stub_replicas import Behaviour, StubReplica, requests
from tests.virtualtime import run


@dataclass
class Stubs:
    """A served engine whose replicas are stubs; made: all of them, by name, in order."""

    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    made: dict[str, list[StubReplica]] = field(default_factory=dict)

    def replica(self, url: str, whose: Whose) -> Replica:
        stub = StubReplica(url, self.behaviours.get(url, Behaviour(slots=4, mean=0.1)))
        self.made.setdefault(url, []).append(stub)
        return stub


def elsewhere(stubs: Stubs, *urls: str) -> Elsewhere:
    access = Access(whose=Whose(model="m"), endpoints=urls, replicas=1, request_seconds=60.0, start_seconds=100.0)
    return Elsewhere(served=stubs, access=access, max_slots=4)


def asked_of(way: Elsewhere) -> set[str]:
    """The replicas that may be asked now."""
    return {each.name for each in way._pool.stats().replicas if each.state == "serving"}


async def all_answered(way: Elsewhere, count: int, seed: int = 1) -> None:
    await asyncio.gather(*(way.engine.caption(each) for each in requests(count, seed)))


def test_what_comes_up_while_a_worker_opens_is_asked_too() -> None:
    async def scene() -> set[str]:
        way = elsewhere(Stubs())
        opening = asyncio.create_task(way.__aenter__())
        await asyncio.sleep(10)  # nobody serves yet
        assert not opening.done()
        await way.serve_at(("one",))
        await opening
        await way.serve_at(("one", "two"))
        await asyncio.sleep(1)
        await all_answered(way, 40)
        names = asked_of(way)
        await way.__aexit__()
        return names

    assert run(scene()) == {"one", "two"}


def test_a_replica_that_is_out_of_sight_for_a_moment_is_asked_again_while_its_old_answers_still_come() -> None:
    async def scene() -> set[str]:
        stubs = Stubs({"one": Behaviour(slots=4, mean=30.0)})
        async with elsewhere(stubs, "one") as way:
            assert isinstance(way, Elsewhere)
            asking = asyncio.create_task(all_answered(way, 4))
            await asyncio.sleep(1)
            await way.serve_at(())
            await asyncio.sleep(1)
            await way.serve_at(("one",))
            await asyncio.sleep(5)
            names = asked_of(way)
            await asking
            await all_answered(way, 8, seed=2)
            return names

    assert run(scene()) == {"one"}


def test_being_told_the_same_replicas_twice_at_once_is_no_error() -> None:
    async def scene() -> tuple[set[str], list[str]]:
        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context)))
        async with elsewhere(Stubs(), "one", "two") as way:
            assert isinstance(way, Elsewhere)
            await asyncio.sleep(1)
            await way.serve_at(("one",))
            await way.serve_at(("one",))
            await asyncio.sleep(1)
            names = asked_of(way)
        gc.collect()  # an error that nobody took is told when its task goes
        return names, said

    assert run(scene()) == ({"one"}, [])


def test_distrust_counts_one_episode_once_and_the_third_is_for_good() -> None:
    async def scene() -> list[set[str]]:
        seen = []
        async with elsewhere(Stubs(), "one", "two", "three") as way:
            assert isinstance(way, Elsewhere)
            await asyncio.sleep(1)
            for _ in range(DISTRUSTED_AT_MOST + 1):
                for _ in range(5):  # answers that were under way are judged as well
                    await way.distrust("two")
                await asyncio.sleep(5)
                await way.serve_at(("one", "two", "three"))
                await asyncio.sleep(5)
                seen.append(asked_of(way))
        return seen

    whole = {"one", "two", "three"}
    assert run(scene()) == [whole, whole, whole - {"two"}]


def test_the_last_replica_that_serves_is_never_sent_away() -> None:
    async def scene() -> set[str]:
        stubs = Stubs({"dead": Behaviour(slots=4, hangs_at=0.0)})
        async with elsewhere(stubs, "one", "dead") as way:
            assert isinstance(way, Elsewhere)
            await way.distrust("one")
            await asyncio.sleep(1)
            return asked_of(way)

    assert run(scene()) == {"one"}

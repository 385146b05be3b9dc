"""What replicas do to a pool, and what the pool makes of it: no sample lost, none blamed for another's fault."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import mean

import pytest

from captioner.engines.pool import Pool
from captioner.errors import (
    BadEngineResponse,
    EngineBroke,
    EngineBusy,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    RequestRefused,
)
from captioner.types import Caption, CaptionRequest
from tests.stub_replicas import Behaviour, StubReplica, answer_seconds, requests
from tests.test_pool import ask_all, stubs, with_pool


def captioned(answers: list[Caption | BaseException]) -> int:
    return sum(isinstance(each, Caption) for each in answers)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_sample_that_breaks_engines_fails_alone_after_three_tries_on_two_of_them() -> None:
    asked = requests(200, 1)
    poison = asked[50].media_sha256
    replicas = stubs(*[Behaviour(broke_on=frozenset([poison]))] * 2)

    async def check(pool: Pool) -> None:
        answers = await ask_all(pool, asked)
        assert isinstance(answers[50], EngineBroke) and answers[50].reason == "engine_error"
        assert captioned(answers) == 199
        tried = [each.asked.count(poison) for each in replicas]
        assert sum(tried) == 3 and min(tried) >= 1
        assert [each.ejections for each in pool.stats().replicas] == [0, 0]

    with_pool(replicas, check)


@pytest.mark.parametrize("kills_after", [0.0, 0.3])
def test_a_sample_that_kills_engines_kills_two_at_most_and_fails_alone(kills_after: float) -> None:
    asked = requests(200, 1)
    poison = asked[77].media_sha256
    killer = Behaviour(killers=frozenset([poison]), kills_after=kills_after, restart_seconds=20.0)
    replicas = stubs(*[killer] * 4)

    async def check(pool: Pool) -> None:
        answers = await ask_all(pool, asked)
        assert isinstance(answers[77], EngineBroke) and "2 replicas died" in str(answers[77])
        assert captioned(answers) == 199
        assert sum(each.deaths for each in replicas) == 2
        assert pool.stats().convicted == 1

    with_pool(replicas, check)


def test_a_late_killer_among_the_last_of_a_run_kills_three_at_most_and_fails_alone() -> None:
    asked = requests(900, 1)
    poison = asked[-1].media_sha256
    killer = Behaviour(killers=frozenset([poison]), kills_after=0.8, restart_seconds=20.0)
    replicas = stubs(*[killer] * 4)

    async def check(pool: Pool) -> None:
        answers = await ask_all(pool, asked)
        assert isinstance(answers[-1], EngineBroke)
        assert captioned(answers) == 899
        assert sum(each.deaths for each in replicas) <= 3

    with_pool(replicas, check)


def test_suspects_are_asked_one_at_a_time_on_a_replica_while_other_work_waits() -> None:
    asked = requests(1500, 1)
    replicas = stubs(Behaviour(slots=16), Behaviour(slots=16), Behaviour(slots=16, dies_at=12.0))

    async def check(pool: Pool) -> None:
        running = asyncio.ensure_future(ask_all(pool, asked))
        await asyncio.sleep(11.99)
        inside = set(replicas[2].asked)
        marks = [len(each.asked) for each in replicas[:2]]
        suspects = pool.stats().replicas[2].outstanding
        await asyncio.sleep(0.5)
        again = [
            sha for each, mark in zip(replicas[:2], marks, strict=True) for sha in each.asked[mark:] if sha in inside
        ]
        assert 1 <= len(again) <= 4
        assert pool.stats().suspects >= suspects - 4
        assert captioned(await running) == 1500

    with_pool(replicas, check, first_window=24)


def test_a_dead_replica_is_ejected_at_once_and_serves_again_once_proved() -> None:
    replicas = stubs(Behaviour(), Behaviour(dies_at=2.0, restart_seconds=3.0))

    async def check(pool: Pool) -> None:
        running = asyncio.ensure_future(ask_all(pool, requests(2000, 1)))
        await asyncio.sleep(2.01)
        before = len(replicas[1].asked)
        assert pool.stats().replicas[1].state == "ejected"
        await asyncio.sleep(2.9)
        assert len(replicas[1].asked) == before
        assert captioned(await running) == 2000
        assert len(replicas[1].asked) > before
        assert pool.stats().replicas[1].ejections == 1

    with_pool(replicas, check)


def test_a_replica_that_hangs_is_ejected_within_thirty_seconds() -> None:
    replicas = stubs(Behaviour(mean=8.0), Behaviour(mean=8.0, hangs_at=20.0))

    async def check(pool: Pool) -> None:
        running = asyncio.ensure_future(ask_all(pool, requests(1200, 1)))
        await asyncio.sleep(50.0)
        assert pool.stats().replicas[1].state == "ejected"
        assert captioned(await running) == 1200
        assert pool.stats().retries == 0

    with_pool(replicas, check)


def test_a_prefill_of_a_minute_ejects_nobody_whose_canary_comes_back() -> None:
    replicas = stubs(Behaviour(), Behaviour(stall=(3.0, 63.0)))

    async def check(pool: Pool) -> None:
        assert captioned(await ask_all(pool, requests(6000, 1))) == 6000
        assert [each.ejections for each in pool.stats().replicas] == [0, 0]

    with_pool(replicas, check)


def test_a_replica_that_never_answered_yet_may_take_a_minute_for_its_first_answer() -> None:
    replicas = stubs(Behaviour(), Behaviour(stall=(0.0, 60.0), canary_passes=True))

    async def check(pool: Pool) -> None:
        assert captioned(await ask_all(pool, requests(6000, 1))) == 6000
        assert [each.ejections for each in pool.stats().replicas] == [0, 0]

    with_pool(replicas, check)


def test_when_all_are_silent_at_once_nobody_is_ejected() -> None:
    replicas = stubs(*[Behaviour(stall=(3.0, 63.0), canary_passes=False)] * 3)

    async def check(pool: Pool) -> None:
        assert captioned(await ask_all(pool, requests(1000, 1))) == 1000
        assert [each.ejections for each in pool.stats().replicas] == [0, 0, 0]
        assert pool.stats().retries == 0

    with_pool(replicas, check)


def test_late_answers_of_an_ejected_replica_count_if_they_come_first() -> None:
    asked = requests(2, 1)
    replicas = stubs(Behaviour(), Behaviour(stall=(5.0, 40.0), canary_passes=False))

    async def check(pool: Pool) -> None:
        await ask_all(pool, requests(200, 2))
        await asyncio.sleep(6.0 - now())
        answers = await ask_all(pool, asked * 20)
        assert captioned(answers) == 40

    with_pool(replicas, check)


def test_a_request_that_passes_its_deadline_is_its_own_fault_where_others_are_answered() -> None:
    asked = requests(300, 1)
    slow = max(asked, key=lambda each: answer_seconds(each.media_sha256))
    limit = 0.9 * answer_seconds(slow.media_sha256)
    assert sum(answer_seconds(each.media_sha256) > limit for each in asked) == 1

    async def check(pool: Pool) -> None:
        answers = await ask_all(pool, asked)
        assert captioned(answers) == 299
        failed = answers[asked.index(slow)]
        assert isinstance(failed, EngineTimeout) and failed.reason == "engine_timeout"
        assert [each.ejections for each in pool.stats().replicas] == [0, 0]

    with_pool(stubs(Behaviour(), Behaviour()), check, deadline_seconds=limit, first_window=32)


def test_a_429_keeps_the_sample_and_honours_the_time_that_it_names() -> None:
    class Full(StubReplica):
        refusals = 0

        async def ask(self, request: CaptionRequest) -> Caption:
            if not self.refusals:
                self.refusals, self.until = 1, now() + 5.0
                raise EngineBusy("full", retry_after=5.0)
            assert now() >= self.until
            return await super().ask(request)

    async def check(pool: Pool) -> None:
        answers = await ask_all(pool, requests(3, 1))
        assert captioned(answers) == 3
        assert pool.stats().retries == 0

    with_pool([Full("full", Behaviour())], check, first_window=1)


class Moody(StubReplica):
    """Fails as told: `mood` maps a request to an error, or to None."""

    def mood(self, request: CaptionRequest) -> Exception | None:
        return None

    async def ask(self, request: CaptionRequest) -> Caption:
        if (error := self.mood(request)) is not None:
            self.asked.append(request.media_sha256)
            await asyncio.sleep(0.1)
            raise error
        return await super().ask(request)


def test_refused_requests_fail_at_once_and_never_eject_anybody() -> None:
    class Strict(Moody):
        def mood(self, request: CaptionRequest) -> Exception | None:
            return RequestRefused("no")

    replicas = [Strict("strict", Behaviour())]

    async def check(pool: Pool) -> None:
        answers = await ask_all(pool, requests(100, 1))
        assert all(isinstance(each, RequestRefused) for each in answers)
        assert len(replicas[0].asked) == 100
        assert pool.stats().replicas[0].ejections == 0

    with_pool(list(replicas), check)


def test_three_answers_of_nan_in_a_row_eject_a_replica() -> None:
    class Nan(Moody):
        def mood(self, request: CaptionRequest) -> Exception | None:
            return BadEngineResponse("!!!!", reason="nan_output")

    replicas = [StubReplica("sound", Behaviour()), Nan("nan", Behaviour())]

    async def check(pool: Pool) -> None:
        answers = await ask_all(pool, requests(60, 1))
        assert captioned(answers) == 60
        assert pool.stats().replicas[1].ejections >= 1

    with_pool(replicas, check, first_window=4)


def test_a_replica_that_answers_every_request_with_500_is_ejected_and_costs_no_sample() -> None:
    class Broken(Moody):
        def mood(self, request: CaptionRequest) -> Exception | None:
            return EngineBroke("HTTP 500")

    replicas = [StubReplica("sound", Behaviour()), Broken("broken", Behaviour())]

    async def check(pool: Pool) -> None:
        assert captioned(await ask_all(pool, requests(1000, 1))) == 1000
        assert pool.stats().replicas[1].ejections >= 1
        assert len(replicas[1].asked) < 500

    with_pool(replicas, check)


def test_callers_wait_while_all_replicas_are_gone_and_are_told_when_that_lasts() -> None:
    back = stubs(Behaviour(dies_at=2.0, restart_seconds=50.0))

    async def outlast(pool: Pool) -> None:
        assert captioned(await ask_all(pool, requests(200, 1))) == 200

    with_pool(back, outlast, start_seconds=100.0)

    async def give_up(pool: Pool) -> None:
        answers = await ask_all(pool, requests(500, 1))
        assert captioned(answers) + sum(isinstance(each, EngineUnavailable) for each in answers) == 500
        assert captioned(answers) < 500
        assert 102.0 <= now() <= 103.0

    with_pool(stubs(Behaviour(dies_at=2.0)), give_up, start_seconds=100.0)


def test_retries_stay_within_a_tenth_of_what_is_answered() -> None:
    replicas = stubs(*[Behaviour(broken=0.15, slots=16)] * 3)

    async def check(pool: Pool) -> None:
        assert captioned(await ask_all(pool, requests(1500, 1))) >= 1480
        stats = pool.stats()
        seconds = now()
        assert stats.retries <= 0.1 * stats.answers + 32 + seconds + 1

    with_pool(replicas, check)


def test_what_crawls_at_the_end_of_a_run_is_asked_again_elsewhere_and_the_first_answer_counts() -> None:
    class Crawler(StubReplica):
        async def ask(self, request: CaptionRequest) -> Caption:
            if len(self.asked) == 20:
                self.asked.append(request.media_sha256)
                await asyncio.sleep(500.0)
            return await super().ask(request)

    replicas = [Crawler("crawler", Behaviour()), *stubs(Behaviour())]

    async def check(pool: Pool) -> None:
        assert captioned(await ask_all(pool, requests(400, 1))) == 400
        assert now() < 30.0
        stats = pool.stats()
        assert stats.hedges >= 1 and stats.wasted_work <= 0.05

    with_pool(list(replicas), check)


def test_equal_work_is_shared_equally() -> None:
    replicas = stubs(*[Behaviour()] * 4)

    async def check(pool: Pool) -> None:
        await ask_all(pool, requests(4000, 1))
        counts = [each.answers for each in pool.stats().replicas]
        assert max(counts) < 1.1 * mean(counts)
        assert len(Counter(sha for each in replicas for sha in each.asked)) == 4000

    with_pool(replicas, check)


@dataclass(slots=True)
class Told:
    """A replica that does as a test says: how it answers, and whether it can be proved."""

    name: str
    answers: Callable[[CaptionRequest], Awaitable[Caption]]
    proofs: Callable[[], bool] = lambda: True
    asked: int = 0

    async def ask(self, request: CaptionRequest) -> Caption:
        self.asked += 1
        return await self.answers(request)

    async def prove(self) -> None:
        if not self.proofs():
            raise EngineUnavailable("it does not answer")

    async def close(self) -> None:
        return None


async def answered(request: CaptionRequest) -> Caption:
    await asyncio.sleep(0.1)
    return Caption(text="ok", finish_reason="stop", completion_tokens=3)


def test_a_replica_that_errs_and_then_dies_takes_no_sample_with_it() -> None:
    dead = asyncio.Event()

    async def crashing(request: CaptionRequest) -> Caption:
        if request in asked[:8]:
            await asyncio.sleep(0.2)
            raise EngineBroke("HTTP 500")
        await dead.wait()
        raise EngineUnavailable("the connection broke")

    asked, first = requests(40, 1), [True]
    bad = Told("http://bad", crashing, lambda: bool(first) and first.pop())

    async def check(pool: Pool) -> None:
        going = asyncio.gather(*(pool.caption(each) for each in asked))
        await asyncio.sleep(1.0)
        assert [each.state for each in pool.stats().replicas] == ["ejected"]
        await pool.update([bad, Told("http://good", answered)])
        dead.set()
        async with asyncio.timeout(60):
            assert len(await going) == 40

    with_pool([bad], check)  # type: ignore[list-item]


@pytest.mark.parametrize("error", [EngineBusy("later", retry_after=1.0), EngineBroke("HTTP 500")])
def test_a_sample_of_a_hung_replica_is_asked_until_it_has_an_answer_whatever_the_next_says_first(
    error: EngineError,
) -> None:
    errors, hung = [error], asyncio.Event()

    async def hangs(request: CaptionRequest) -> Caption:
        if hung.is_set():
            await asyncio.Event().wait()
        return await answered(request)

    async def errs_once(request: CaptionRequest) -> Caption:
        if hung.is_set() and errors:
            raise errors.pop()
        return await answered(request)

    replicas = [Told("http://a", hangs, lambda: not hung.is_set()), Told("http://b", errs_once)]

    async def check(pool: Pool) -> None:
        await ask_all(pool, requests(100, 1))
        hung.set()
        async with asyncio.timeout(200):
            assert captioned(await ask_all(pool, requests(40, 2))) == 40
        assert not errors

    with_pool(replicas, check)  # type: ignore[arg-type]


def test_a_replica_that_leaves_does_not_come_back_for_erring_meanwhile() -> None:
    leaves = asyncio.Event()

    async def errs(request: CaptionRequest) -> Caption:
        await asyncio.sleep(0.5)
        if leaves.is_set():
            raise EngineBroke("HTTP 500")
        return await answered(request)

    replicas = [Told("http://a", errs), Told("http://b", answered)]

    async def check(pool: Pool) -> None:
        going = asyncio.create_task(ask_all(pool, requests(2000, 1)))
        await asyncio.sleep(1.0)
        leaves.set()
        before = replicas[0].asked
        async with asyncio.timeout(30):
            await pool.drain("http://a")
        assert captioned(await going) == 2000
        assert replicas[0].asked == before

    with_pool(replicas, check, first_window=32, max_window=32)  # type: ignore[arg-type]


def test_a_replica_that_is_told_to_leave_while_it_is_proved_again_does_not_come_back() -> None:
    proofs, asks = [0.0, 5.0], [0]

    class Slow(Told):
        async def prove(self) -> None:
            await asyncio.sleep(proofs.pop(0))

    async def errs_then_crawls(request: CaptionRequest) -> Caption:
        asks[0] += 1
        if asks[0] <= 8:
            raise EngineBroke("HTTP 500")
        await asyncio.sleep(20)  # it still has some when it is put out for the eight
        return await answered(request)

    async def slowly(request: CaptionRequest) -> Caption:
        await asyncio.sleep(1)
        return await answered(request)

    leaving = Slow("http://a", errs_then_crawls)

    async def check(pool: Pool) -> None:
        going = asyncio.create_task(ask_all(pool, requests(1000, 1)))
        await asyncio.sleep(1)
        await pool.update([leaving, Told("http://b", slowly)])
        assert not proofs, "its second proof is under way"
        before = leaving.asked
        async with asyncio.timeout(25):
            await pool.drain("http://a")
        assert captioned(await going) == 1000
        assert leaving.asked == before

    with_pool([leaving], check, first_window=16, max_window=16)  # type: ignore[list-item]


def test_a_replica_that_hangs_while_it_leaves_holds_nobody_up() -> None:
    hung = asyncio.Event()

    async def hangs(request: CaptionRequest) -> Caption:
        if hung.is_set():
            await asyncio.Event().wait()
        return await answered(request)

    replicas = [Told("http://a", hangs, lambda: not hung.is_set()), Told("http://b", answered)]

    async def check(pool: Pool) -> None:
        await ask_all(pool, requests(200, 1))
        hung.set()
        going = asyncio.create_task(ask_all(pool, requests(32, 2)))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(pool.drain("http://a"))
        began = now()
        while not going.done() and now() - began < 40:
            await ask_all(pool, requests(64, int(now() * 100)))
        assert going.done() and captioned(await going) == 32
        await leaving

    with_pool(replicas, check, first_window=16, max_window=16)  # type: ignore[arg-type]


def test_a_server_that_asks_for_a_day_is_looked_at_again_within_a_minute() -> None:
    busy = [EngineBusy("quota", retry_after=86_400.0)]

    async def full_once(request: CaptionRequest) -> Caption:
        if busy:
            raise busy.pop()
        return await answered(request)

    async def check(pool: Pool) -> None:
        began = now()
        assert captioned(await ask_all(pool, requests(1, 1))) == 1
        assert now() - began < 62

    with_pool([Told("http://a", full_once)], check)  # type: ignore[list-item]


def test_busy_seconds_only_grow_when_a_replica_leaves() -> None:
    async def check(pool: Pool) -> None:
        await ask_all(pool, requests(100, 1))
        before = pool.stats().busy_slot_seconds
        await pool.drain("stub-0")
        after = pool.stats()
        assert before > 0 and after.busy_slot_seconds >= before and len(after.replicas) == 1

    with_pool(stubs(Behaviour(), Behaviour()), check)

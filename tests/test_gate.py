"""The gate bounds what is open, gives the oldest shard the way, and loses no room to those who give up."""

from __future__ import annotations

import asyncio
import random

from pipelines.gate import Gate


def test_an_empty_gate_takes_a_sample_over_the_limit_and_then_nothing_more() -> None:
    async def scene() -> None:
        gate = Gate(room=lambda: 4, max_bytes=10)
        await gate.enter(1000)
        second = asyncio.ensure_future(gate.enter(1))
        await asyncio.sleep(0)
        assert not second.done()
        gate.leave(1000)
        await second
        assert (gate.samples, gate.bytes) == (1, 1)

    asyncio.run(scene())


def test_the_lowest_turn_enters_first_whoever_waits_longer() -> None:
    async def scene() -> list[str]:
        gate, order = Gate(room=lambda: 1, max_bytes=100), []
        first, second = gate.turn(), gate.turn()
        await gate.enter(1, first)

        async def come(name: str, turn: int) -> None:
            await gate.enter(1, turn)
            order.append(name)
            gate.leave(1)

        tasks = [asyncio.ensure_future(come(f"second {n}", second)) for n in range(2)]
        await asyncio.sleep(0)
        tasks += [asyncio.ensure_future(come(f"first {n}", first)) for n in range(2)]
        await asyncio.sleep(0)
        gate.leave(1)
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(scene()) == ["first 0", "first 1", "second 0", "second 1"]


def test_room_that_grows_is_used_at_the_next_turn() -> None:
    async def scene() -> int:
        rooms = [1]
        gate = Gate(room=lambda: rooms[0], max_bytes=100)
        await gate.enter(1)
        waiting = [asyncio.ensure_future(gate.enter(1)) for _ in range(5)]
        await asyncio.sleep(0)
        rooms[0] = 4
        gate.leave(1)
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        return gate.samples

    assert asyncio.run(scene()) == 4


def test_whoever_gives_up_while_waiting_or_when_just_let_in_leaves_no_room_taken() -> None:
    async def scene(seed: int) -> tuple[int, int]:
        dice, gate = random.Random(seed), Gate(room=lambda: 3, max_bytes=50)

        async def stay(size: int, turn: int) -> None:
            await gate.enter(size, turn)
            try:
                await asyncio.sleep(0)
            finally:
                gate.leave(size)

        tasks = [asyncio.ensure_future(stay(dice.randrange(1, 40), dice.randrange(3))) for _ in range(60)]
        for task in dice.sample(tasks, 30):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return gate.samples, gate.bytes

    assert all(asyncio.run(scene(seed)) == (0, 0) for seed in range(50))

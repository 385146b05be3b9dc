"""Repeats: what was answered before, or is being answered now, is not asked for twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from serving.problems import Problem

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Under(Generic[T]):
    """Work under way. waiters: callers that still want it; without any it is cancelled."""

    task: asyncio.Task[T]
    fingerprint: str
    waiters: int = 0


class Repeats(Generic[T]):
    """Values by key: at most so many, each for so many seconds; a value that failed is not kept."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._kept: OrderedDict[Hashable, tuple[float, str, T]] = OrderedDict()
        self._under: dict[Hashable, _Under[T]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def once(
        self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]], deadline: float, fingerprint: str = ""
    ) -> tuple[T, bool]:
        """(the value, whether it was made before or is shared with who asked before).

        deadline: this caller's, in the loop's seconds. Work that ended by a shorter one is begun anew.
        Raises what make raises, Problem deadline_exceeded, and Problem idempotency_conflict for a key that came with
        another fingerprint.
        """
        loop = asyncio.get_running_loop()
        while True:
            if (kept := self._kept.get(key)) is not None and kept[0] > loop.time():
                _same(kept[1], fingerprint)
                self._kept.move_to_end(key)
                return kept[2], True
            there = self._under.get(key)
            if there is not None:
                _same(there.fingerprint, fingerprint)
            under = there or self._begin(key, make, fingerprint)
            try:
                async with asyncio.timeout_at(deadline if there is not None else None):
                    return await self._made(key, under), there is not None
            except TimeoutError:
                raise Problem("deadline_exceeded", "it passed while another request asked for the same") from None
            except Problem as problem:
                if there is None or problem.reason != "deadline_exceeded" or loop.time() >= deadline:
                    raise replace(problem) from None  # its own: each who raises one, and answers by it, changes it

    async def _made(self, key: Hashable, under: _Under[T]) -> T:
        under.waiters += 1
        try:
            return await asyncio.shield(under.task)
        finally:
            under.waiters -= 1
            if not under.waiters and not under.task.done():
                self._under.pop(key, None)  # nobody wants it any more: who comes now begins anew
                under.task.cancel()

    def _begin(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]], fingerprint: str) -> _Under[T]:
        under = self._under[key] = _Under(asyncio.get_running_loop().create_task(make()), fingerprint)

        def ended(task: asyncio.Task[T]) -> None:
            if self._under.get(key) is under:
                del self._under[key]
            if not task.cancelled() and task.exception() is None:
                self._keep(key, fingerprint, task.result())

        under.task.add_done_callback(ended)
        return under

    def _keep(self, key: Hashable, fingerprint: str, value: T) -> None:
        now = asyncio.get_running_loop().time()
        self._kept[key] = now + self._seconds, fingerprint, value
        while self._kept and (len(self._kept) > self._most or next(iter(self._kept.values()))[0] <= now):
            self._kept.popitem(last=False)


def _same(before: str, now: str) -> None:
    if before != now:
        raise Problem("idempotency_conflict")

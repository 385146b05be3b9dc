"""Slots: at most so many requests at one engine at once, and how busy that kept it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from captioner.types import Caption, CaptionRequest, Engine


class Slots:
    """An Engine in front of another one: bounds what is in flight and measures it.

    busy_seconds: slot-seconds spent in requests since it was entered; its ratio to slots x elapsed is engine use.
    """

    def __init__(self, engine: Engine, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"{slots} slots cannot ask anything: at least 1")
        self._engine, self.slots = engine, slots
        self._free = asyncio.Semaphore(slots)
        self._in_flight, self._since, self._busy = 0, time.monotonic(), 0.0
        self.asked = 0

    async def __aenter__(self) -> Slots:
        await self._engine.__aenter__()
        self._since = time.monotonic()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._engine.__aexit__(*exc)

    async def caption(self, request: CaptionRequest) -> Caption:
        """Wait for a free slot, then ask. Raises what the engine raises."""
        async with self._free:
            self._count(+1)
            self.asked += 1
            started = time.monotonic()
            try:
                caption = await self._engine.caption(request)
            finally:
                self._count(-1)
        # The wait for a slot is ours, not the engine's.
        return caption if caption.seconds is not None else replace(caption, seconds=time.monotonic() - started)

    @property
    def busy_seconds(self) -> float:
        """Slot-seconds spent so far, requests still in flight included."""
        return self._busy + self._in_flight * (time.monotonic() - self._since)

    def _count(self, change: int) -> None:
        now = time.monotonic()
        self._busy += self._in_flight * (now - self._since)
        self._in_flight, self._since = self._in_flight + change, now

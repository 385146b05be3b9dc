"""The gate: bounds how many samples, and how many of their bytes, one worker holds open."""

from __future__ import annotations

import asyncio


class Gate:
    """Samples enter before they are judged and leave after. An empty gate takes any sample, whatever its size."""

    def __init__(self, max_samples: int, max_bytes: int) -> None:
        self._max_samples, self._max_bytes = max_samples, max_bytes
        self.samples, self.bytes = 0, 0
        self._left = asyncio.Condition()

    async def enter(self, size: int) -> None:
        """Wait until there is room for one more sample of so many bytes."""
        async with self._left:
            await self._left.wait_for(lambda: self._fits(size))
            self.samples, self.bytes = self.samples + 1, self.bytes + size

    async def leave(self, size: int) -> None:
        """Give the room back."""
        async with self._left:
            self.samples, self.bytes = self.samples - 1, self.bytes - size
            self._left.notify_all()

    def _fits(self, size: int) -> bool:
        return not self.samples or (self.samples < self._max_samples and self.bytes + size <= self._max_bytes)

"""Which keys were seen in a shard: 16 to 32 bytes a key."""

from __future__ import annotations

from array import array

_EMPTY = 0


class SeenKeys:
    """A set of 64-bit hashes by open addressing: a Python set of a million strings takes 10 times the memory.

    Python's own string hash is keyed by a secret of the process, so nobody can prepare collisions; by chance two of a
    million keys share one in one of 30 million shards, and then the later one is called split.
    """

    def __init__(self) -> None:
        self._slots = array("Q", [_EMPTY]) * 1024
        self._count = 0

    def add(self, key: str) -> bool:
        """Take the key in; whether it is new."""
        if 2 * self._count >= len(self._slots):
            self._grow()
        mark = hash(key) & 0xFFFF_FFFF_FFFF_FFFF or 1
        slot = self._slot(mark)
        if self._slots[slot] == mark:
            return False
        self._slots[slot] = mark
        self._count += 1
        return True

    def _slot(self, mark: int) -> int:
        slots, last = self._slots, len(self._slots) - 1
        slot = mark & last
        while slots[slot] not in (_EMPTY, mark):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", [_EMPTY]) * (2 * len(old))
        for mark in old:
            if mark != _EMPTY:
                self._slots[self._slot(mark)] = mark

"""A share of something: so much may be spent for each unit earned, and a little saved up."""

from __future__ import annotations


class Budget:
    """A token bucket that holds `start` at first and never more than `most`."""

    def __init__(self, share: float, *, start: float, most: float) -> None:
        self._share, self._most, self._left = share, most, start

    def earn(self, amount: float = 1.0) -> None:
        """Add the share of what was done."""
        self._left = min(self._most, self._left + self._share * amount)

    def take(self, amount: float = 1.0) -> bool:
        """Spend, if that much is left."""
        if self._left < amount:
            return False
        self._left -= amount
        return True

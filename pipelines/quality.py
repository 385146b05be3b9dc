"""The quality breaker: an engine whose captions go bad is noticed within some hundred samples, not after days."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from captioner.errors import Refused
from captioner.types import Caption, Failure, Outcome, Rejection

EXAMPLES, EXAMPLE_CHARACTERS = 5, 160
LEAST_OF_A_REPLICA = 100  # answers of one replica before it is compared with the others
# A replica is out of band when so much more of its captions is rejected than of all others'. The difference of two
# shares of 100 has a standard deviation of 7 points at worst: this is four of them.
REPLICA_ABOVE = 0.3


class QualityLost(Refused):
    """So many of the latest captions were rejected that going on would only cost money; exit 2.

    Every sample keeps its row. What was rejected stays so: `recap repair --requeue` has a shard made anew.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What share of the latest captions may be rejected. window: how many are looked at; 0 looks at none."""

    window: int = 400
    at_most: float = 0.6

    def __post_init__(self) -> None:
        if self.window < 0 or not 0 < self.at_most <= 1:
            raise Refused("a quality window of 0 or more and a share over 0 and up to 1 would be right")


@dataclass(slots=True, kw_only=True)
class Quality:
    """The latest verdicts of one worker, in all and by replica."""

    band: Band
    _all: deque[tuple[str | None, str]] = field(default_factory=deque)  # (reason, text)
    _rejected: int = 0
    _by_replica: dict[str, deque[bool]] = field(default_factory=dict)

    def saw(self, outcome: Outcome) -> str | None:
        """Take a sample's outcome; the name of a replica that should be drained and proved anew, or None.

        Only what an engine was asked counts: one that refuses every picture is as bad as one that loops. Raises
        QualityLost when a full window's rejected share is over the band.
        """
        match outcome:
            case Caption() as caption:
                reason = None
            case Rejection(reason=reason, caption=caption):
                pass
            case Failure(reason=reason, detail=detail):
                caption = Caption(text=detail, finish_reason=reason)
            case _:
                return None
        if not self.band.window:
            return None
        self._all.append((reason, caption.text))
        self._rejected += reason is not None
        if len(self._all) > self.band.window:
            self._rejected -= self._all.popleft()[0] is not None
        self._judge_all()
        return self._judge_replica(caption.replica, reason is not None) if caption.replica else None

    def _judge_all(self) -> None:
        if len(self._all) < self.band.window or self._rejected <= self.band.at_most * len(self._all):
            return
        rejected = [(reason, text) for reason, text in self._all if reason is not None]
        counts = ", ".join(
            f"{reason} {count}" for reason, count in Counter(reason for reason, _ in rejected).most_common()
        )
        examples = "\n".join(f"  {reason}: {_short(text)!r}" for reason, text in rejected[-EXAMPLES:])
        raise QualityLost(
            f"quality_lost: {len(rejected)} of the last {len(self._all)} captions were rejected or failed ({counts}), "
            f"over --pace.rejected-at-most {self.band.at_most:g}. The latest:\n{examples}\n"
            "Look at the engine, its model and its prompt. The same command goes on from here; what was rejected stays "
            "so, but recap repair OUT --requeue SHARD has a shard made anew."
        )

    def _judge_replica(self, name: str, rejected: bool) -> str | None:
        mine = self._by_replica.setdefault(name, deque(maxlen=LEAST_OF_A_REPLICA))
        mine.append(rejected)
        others = [each for other, verdicts in self._by_replica.items() if other != name for each in verdicts]
        if len(mine) < LEAST_OF_A_REPLICA or len(others) < LEAST_OF_A_REPLICA:
            return None
        if sum(mine) / len(mine) <= sum(others) / len(others) + REPLICA_ABOVE:
            return None
        mine.clear()  # once it is back it is judged by what it says then
        return name


def _short(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"

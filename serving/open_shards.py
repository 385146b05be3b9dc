"""Open shards: what their journals have come to so far; each segment is read once, for shards have thousands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from captioner.reasons import OutcomeName
from shards import journal
from shards.ledger import Row
from shards.store import Store

MOST_SHARDS = 16  # whose journals are read
FIRST_ROWS = 8  # of a shard, kept for the page


@dataclass(slots=True)
class OpenShard:
    """One shard's samples judged so far. first: the earliest of them, by where they stand in the shard."""

    outcomes: Counter[OutcomeName] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first: list[Row] = field(default_factory=list)
    _read: set[str] = field(default_factory=set)
    _judged: set[int] = field(default_factory=set)  # hashes of samples: a woken attempt may judge one again

    def look(self, store: Store, run_id: str, segments: Sequence[str]) -> None:
        """Take in the segments that were not read before. Raises OutOfService."""
        for name in segments:
            if name in self._read:
                continue
            try:
                entries = journal.decode(run_id, store.read(name))
            except FileNotFoundError:  # the shard was committed meanwhile
                continue
            self._read.add(name)
            self._add([entry.row for entry in entries])

    def _add(self, rows: list[Row]) -> None:
        for row in rows:
            if (sample := hash((row.place, row.sha256))) not in self._judged:
                self._judged.add(sample)
                self.outcomes[row.outcome] += 1
                self.reasons.update([row.reason] if row.reason else [])
        self.first = sorted([*self.first, *rows], key=lambda row: row.place)[:FIRST_ROWS]


class OpenShards(dict[str, OpenShard]):
    """The first MOST_SHARDS of those that are open, by name."""

    def look(self, store: Store, run_id: str, segments: Mapping[str, Sequence[str]]) -> None:
        """Read what was written since the last look, and forget what is open no more. Raises OutOfService."""
        looked_at = sorted(segments)[:MOST_SHARDS]
        for shard in self.keys() - set(looked_at):
            del self[shard]
        for shard in looked_at:
            self.setdefault(shard, OpenShard()).look(store, run_id, segments[shard])

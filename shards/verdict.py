"""What verify has to say: problems, notes, and what it looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it must be. check: which rule; where: the file or shard."""

    check: str
    where: str
    detail: str


@dataclass(slots=True, kw_only=True)
class Verified:
    """The verdict: problems are damage, notes are unfinished or failed work; checked counts what was looked at."""

    run_id: str
    complete: bool = False
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 sound and complete, 1 sound but unfinished or with failed work, 4 damaged."""
        return 4 if self.problems else int(bool(self.notes))

    def must(self, holds: bool, check: str, where: str, detail: str) -> bool:
        """Book a problem unless it holds; the answer is passed through."""
        if not holds:
            self.problems.append(Problem(check=check, where=where, detail=detail))
        return holds

    def count(self, what: str, much: int = 1) -> None:
        """Add to what was looked at."""
        self.checked[what] = self.checked.get(what, 0) + much

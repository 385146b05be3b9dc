"""Words: which of several wordings is taken, articles, plurals, numbers and lists."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"person": "people", "sheep": "sheep", "bus": "buses", "bench": "benches", "couch": "couches"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Draws wordings by the picture's digest; the next attempt takes the next wording of every choice."""

    seed: str
    attempt: int = 0

    def pick(self, slot: str, wordings: Sequence[str]) -> str:
        """One of the wordings, always the same one for a seed, an attempt and a slot."""
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}/{slot}".encode()).digest()[:8], "big")
        return wordings[(drawn + self.attempt) % len(wordings)]


def with_article(name: str) -> str:
    """ "an owl", "a unicycle", "an hourglass"."""
    vowel = name[0].lower() in "aeiou" and not re.match(r"(?i)(uni[^n]|eu|one\b|use)", name)
    return f"an {name}" if vowel or name.lower().startswith("hour") else f"a {name}"


def counted(name: str, count: int) -> str:
    """ "a dog", "two dogs", "12 dogs"."""
    if count == 1:
        return with_article(name)
    number = NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"{number} {plural(name)}"


def plural(name: str) -> str:
    """The plural of a name, whose last word before any "of" carries it: "wine glasses", "pieces of fruit"."""
    name, of, rest = name.partition(" of ")
    head, _, last = name.rpartition(" ")
    many = PLURALS.get(last) or (f"{last}es" if last.endswith(("s", "x", "ch", "sh")) else f"{last}s")
    return f"{head} {many}{of}{rest}".strip()


def listed(items: Sequence[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")


def at(where: str) -> str:
    """ "in the middle", "at the upper left"."""
    return f"{'in' if where == 'the middle' else 'at'} {where}"

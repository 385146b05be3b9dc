"""FEEDS: the kinds of corpora; and what a command line says of one, `[KIND[:WEIGHT]=]URL`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from captioner.errors import Refused
from trainer.data.clips import Look
from trainer.data.entries import Feed
from trainer.data.llava import conversations
from trainer.data.recaptions import recaptioned, web_captioned

FEEDS: dict[str, Callable[..., Feed]] = {
    "recap": recaptioned,
    "web": web_captioned,
    "llava": conversations,
}
SPELLED = re.compile(r"(?:(?P<kind>[a-z]+)(?::(?P<weight>[0-9.]+))?=)?(?P<url>.+)")


AS_IT_COMES = Look()


def weighted(word: str) -> bool:
    """Whether a corpus is given a weight."""
    found = SPELLED.fullmatch(word)
    return found is not None and found["weight"] is not None


def open_feed(word: str, look: Look = AS_IT_COMES, pinned: Mapping[str, str] | None = None) -> Feed:
    """`OUT`, `web=OUT`, `web:0.3=OUT`, `llava=FILE.json`. Without a weight, feeds mix by their sizes.

    pinned: the versions to open, by name; else the newest. Raises Refused, naming what would be right.
    """
    found = SPELLED.fullmatch(word)
    kind = found["kind"] if found else None
    if found is None or (kind or "recap") not in FEEDS:
        raise Refused(f"--data {word!r}: [KIND[:WEIGHT]=]URL would be right, KIND one of {', '.join(FEEDS)}")
    weight = weight_of(word, found["weight"]) if found["weight"] else None
    name = f"{kind or 'recap'}={found['url']}"
    more = {} if kind == "llava" else {"version": (pinned or {}).get(name)}
    feed = FEEDS[kind or "recap"](found["url"], weight, look, **more)
    if not feed.samples:
        raise Refused(f"--data {word!r}: there is no sample in it")
    return replace(feed, name=name)


def weight_of(word: str, told: str) -> float:
    """Raises Refused, for 0 and for what is no number, such as 1.2.3."""
    try:
        weight = float(told)
    except ValueError:
        weight = 0.0
    if not 0 < weight < math.inf:
        raise Refused(f"--data {word!r}: a weight above 0 would be right")
    return weight

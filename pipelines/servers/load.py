"""What a server says of its own load, from its Prometheus metrics."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from pipelines.servers.launch import Counters

METRICS = "/metrics"
METRICS_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests answered since the start, and requests in hand now."""

    answers: int = 0
    outstanding: int = 0


def load_in(text: str, counters: Counters) -> Load | None:
    """The load that a metrics page tells; None where it names no counter. Raises ValueError for what is no number."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        for start in (*counters.answers, *counters.outstanding):
            if line.startswith(start):
                found[start] = found.get(start, 0.0) + float(line.rpartition(" ")[2])
    if not found:
        return None
    return Load(
        answers=round(sum(found.get(start, 0.0) for start in counters.answers)),
        outstanding=round(sum(found.get(start, 0.0) for start in counters.outstanding)),
    )


async def load_of(url: str, counters: Counters) -> Load | None:
    """The load of the server at url, None where it does not tell."""
    timeout = aiohttp.ClientTimeout(total=METRICS_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url + METRICS) as answer:
            return load_in(await answer.text(), counters)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None

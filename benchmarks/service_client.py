"""A client of the service in a process of its own: pictures at a rate or by so many at once, stalled connections.

    python -m benchmarks.service_client http://127.0.0.1:8000 '{"at_once": 8, "seconds": 10}'

Prints one JSON object: of every request the status, the seconds, and when it ended since the start.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
import numpy as np
from PIL import Image

SIDE = 768  # px: 180 KB


def picture(side: int = SIDE) -> bytes:
    """A noisy JPEG of side x side px."""
    noise = np.random.default_rng(1).normal(0, 22, (side, side, 3))
    y, x = np.mgrid[0:side, 0:side]
    base = np.dstack((x * 255 / side, y * 255 / side, 128 + 90 * np.sin(x / 31) * np.cos(y / 23)))
    image = Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))
    out = BytesIO()
    image.save(out, "JPEG", quality=78)
    return out.getvalue()


def commented(media: bytes, words: str) -> bytes:
    """A JPEG with a comment, so that it is none of the others."""
    comment = words.encode()
    return media[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + media[2:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """side: of the picture, in px. at_once: requests always under way. rate: requests a second, sent whatever becomes
    of them. stalled: connections that send half a head and nothing more. numbered: each brings a prompt with its
    number, by which a stub knows how long it has to take: the same in every run.
    """

    seconds: float
    side: int = SIDE
    at_once: int = 0
    rate: float = 0.0
    stalled: int = 0
    numbered: bool = False
    salt: str = ""


@dataclass(slots=True)
class Load:
    """What one plan has come to."""

    url: str
    plan: Plan
    media: bytes = field(init=False)
    found: list[tuple[int, float, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    sent: int = 0

    def __post_init__(self) -> None:
        self.media = picture(self.plan.side)

    async def run(self) -> None:
        """All of it."""
        host, port = self.url.removeprefix("http://").split(":")
        stalled = [await asyncio.open_connection(host, int(port)) for _ in range(self.plan.stalled)]
        for _, writer in stalled:
            writer.write(b"POST /v1/captions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
        limit = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=limit, timeout=aiohttp.ClientTimeout(total=120)) as session:
            until = time.monotonic() + self.plan.seconds
            if self.plan.at_once:
                await asyncio.gather(*(self._again(session, until) for _ in range(self.plan.at_once)))
            else:
                await self._at_a_rate(session, until)
        for _, writer in stalled:
            writer.close()

    async def _again(self, session: aiohttp.ClientSession, until: float) -> None:
        while time.monotonic() < until:
            await self._one(session)

    async def _at_a_rate(self, session: aiohttp.ClientSession, until: float) -> None:
        began, tasks = time.monotonic(), []
        while (now := time.monotonic()) < until:
            due = int((now - began) * self.plan.rate)
            tasks += [asyncio.create_task(self._one(session)) for _ in range(due - self.sent)]
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        self.sent += 1
        media = commented(self.media, f"{self.plan.salt}/{self.sent}")
        fields: dict[str, Any] = {"image": media}
        if self.plan.numbered:
            fields["prompt"] = f"Describe picture {self.sent} in detail."
        began = time.monotonic()
        try:
            async with session.post(f"{self.url}/v1/captions", data=fields) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        ended = time.monotonic()
        self.found.append((status, ended - began, ended - self.began))


def main(url: str, plan: dict[str, Any]) -> None:
    """Run a plan and print what came of it."""
    load = Load(url, Plan(**plan))
    load.began = time.monotonic()
    asyncio.run(load.run())
    print(json.dumps({"found": load.found}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

"""A stub of a served model: an HTTP server whose answer times depend on the request, with slots and faults as told.

    python benchmarks/stub_server.py '{"speed": 0.5, "dies_at": 3}'      prints its port

It finds `picture N` near the start or the end of the body and answers after the N-th of lognormal times (mean 1 s,
sigma 0.6) over its speed, first come first served in 64 slots. Requests without a number have the 0th time, or with
`drawn` one after the other; GET tells how many of them were answered. It speaks just enough HTTP/1.1 to cost little
beside its clients.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import sys
from collections import deque
from dataclasses import dataclass, field

SLOTS, SIGMA = 64, 0.6
NUMBER = re.compile(rb"picture (\d+)")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
NEAR = 4096  # bytes from the start or the end of a body in which its number stands
DRAWN = 10**9  # requests without a number are numbered from here on, where they are drawn


def answer_seconds(number: int) -> float:
    """How long a replica of speed 1 works on this picture."""
    return random.Random(number).lognormvariate(-SIGMA * SIGMA / 2, SIGMA)


@dataclass(slots=True, kw_only=True)
class Stub:
    """One server. dies_at, hangs_at: seconds after its first request.

    broken: share of numbers whose first ask is a 500, others with another salt. most_waiting: 429 for those beyond.
    """

    speed: float = 1.0
    dies_at: float = math.inf
    hangs_at: float = math.inf
    broken: float = 0.0
    most_waiting: float = math.inf
    salt: int = 0
    slots: int = SLOTS
    drawn: bool = False
    asked: int = 0  # without a number
    answered: int = 0  # of those
    working: int = 0
    waiting: deque[tuple[Exchange, int]] = field(default_factory=deque)
    began: float | None = None
    seen: set[int] = field(default_factory=set)

    def take(self, exchange: Exchange, number: int) -> None:
        """A whole request came in."""
        loop = asyncio.get_running_loop()
        if self.began is None:
            self.began = loop.time()
            if self.dies_at < math.inf:
                loop.call_later(self.dies_at, os._exit, 1)
        if self.working < self.slots:
            self.start(exchange, number)
        elif len(self.waiting) < self.most_waiting:
            self.waiting.append((exchange, number))
        else:
            exchange.reply(429, b'{"error": {"message": "queue full"}}')

    def start(self, exchange: Exchange, number: int) -> None:
        """Give it a slot."""
        self.working += 1
        exchange.timer = asyncio.get_running_loop().call_later(
            answer_seconds(number) / self.speed, self.finish, exchange, number
        )

    def finish(self, exchange: Exchange, number: int) -> None:
        """Answer, unless it hangs by now."""
        if self.hanging():
            return
        exchange.timer = None
        self.answered += number == 0 or number > DRAWN
        first = number not in self.seen
        self.seen.add(number)
        if first and random.Random(f"{self.salt}/{number}").random() < self.broken:
            exchange.reply(500, b'{"error": {"message": "internal error"}}')
        else:
            exchange.reply(200, ANSWER)
        self.leave()

    def leave(self) -> None:
        """A slot is free: who waited longest takes it."""
        self.working -= 1
        while self.waiting:
            exchange, number = self.waiting.popleft()
            if not exchange.gone:
                return self.start(exchange, number)

    def number_of(self, found: re.Match[bytes] | None) -> int:
        """Which of the answer times a request has."""
        if found is not None:
            return int(found[1])
        self.asked += 1
        return DRAWN + self.asked if self.drawn else 0

    def hanging(self) -> bool:
        """Whether nothing comes out of it any more."""
        return self.began is not None and asyncio.get_running_loop().time() - self.began >= self.hangs_at


# What no filter drops: a caption that is asked for again would measure the filters.
CAPTION = (
    "A narrow street climbs between two rows of old houses with wooden shutters. A woman in a red coat walks uphill "
    "with a basket of apples, while a grey cat watches her from a window sill. Wet cobblestones reflect the low sun, "
    "and laundry hangs on a line across the street. Behind the last roofs a church tower stands against a pale sky. "
    "Flower pots with geraniums line the steps of the nearest house on the left."
)
ANSWER = json.dumps(
    {
        "id": "stub",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": CAPTION}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 120, "total_tokens": 1120},
    }
).encode()


class Exchange(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.timer: asyncio.TimerHandle | None = None
        self.gone = False
        self._head = bytearray()
        self._wanted = 0
        self._body = bytearray()
        self._end = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.stub.leave()

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            found = LENGTH.search(self._head, 0, end)
            self._left = int(found[1]) if found else 0
            data = bytes(self._head[end + 4 :])
            is_ask = self._head.startswith(b"POST")
            self._head.clear()
            self._body.clear()
            self._end = b""
            if not is_ask:
                if not self.stub.hanging():
                    self.reply(200, b'{"data": [{"id": "stub"}], "answered": %d}' % self.stub.answered)
                return
        if len(self._body) < NEAR:
            self._body += data[:NEAR]
        self._end = (self._end + data[-NEAR:])[-NEAR:]
        self._left -= len(data)
        if not self._left:
            found = NUMBER.search(self._body) or NUMBER.search(self._end)
            self.stub.take(self, self.stub.number_of(found))

    def reply(self, status: int, body: bytes) -> None:
        """Send a whole answer."""
        head = f"HTTP/1.1 {status} Stub\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def serve(stub: Stub) -> None:
    """Listen on a free port of the loopback until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Exchange(stub), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Stub(**json.loads(sys.argv[1]))))

"""A reverse proxy that spoils what passes between an S3 client and its server, by a seeded plan.

    with FaultProxy("http://127.0.0.1:8333", Faults(share=0.1), seed=1) as proxy:
        ...  # the client's endpoint is proxy.url; proxy.injected counts what was done

The Host header goes on as it came, so that the server verifies the signature that the client made for the proxy.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from aiohttp import ClientSession, TCPConnector, web
from yarl import URL

KINDS = ("slow_down", "internal", "too_many", "reset", "lose", "cut", "delay")
# Answers that never reach the server.
ANSWERS = {
    "slow_down": (503, "SlowDown"),
    "internal": (500, "InternalError"),
    "too_many": (429, "TooManyRequests"),
    "forbid": (403, "AccessDenied"),
    "conflict": (409, "ConditionalRequestConflict"),
}
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What to spoil. share: of all requests; of: which kinds, chosen evenly; only: which (method, path) may be spoilt.

    slow_down, internal, too_many, forbid, conflict: an answer of our own; reset: none; lose: the server acts, its
    answer is dropped; cut: half the answer's body, or a lost answer when it has none; delay: a late one; garble: one
    bit of a body otherwise; whole: ranges are ignored; misplace: a wrong Content-Range; take: a put is said to be done.
    """

    share: float = 0.1
    of: tuple[str, ...] = KINDS
    only: Callable[[str, str], bool] = lambda method, path: True
    delay_seconds: float = 0.2


@dataclass(slots=True)
class FaultProxy:
    """The proxy, in a thread of its own.

    injected counts spoilt requests by kind, passed all others, writes those that would change the store; open are now
    under way.
    """

    upstream: str
    faults: Faults
    seed: int = 1
    injected: Counter[str] = field(default_factory=Counter)
    passed: int = 0
    writes: int = 0
    open: int = 0
    url: str = ""
    _bodies: dict[str, bytes] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _ready: threading.Event = field(default_factory=threading.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: threading.Thread | None = None
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def __enter__(self) -> FaultProxy:
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the proxy never stood"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None
        self._thread.join(20)
        self._loop.close()

    async def _serve(self) -> None:
        application = web.Application(client_max_size=2**31)
        # auto_decompress off: the body goes on as it came
        async with ClientSession(connector=TCPConnector(limit=0), auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, session)

            application.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    def _fate(self, request: web.Request) -> str | None:
        chosen = self.faults.only(request.method, request.path_qs) and self._dice.random() < self.faults.share
        return self._dice.choice(self.faults.of) if chosen else None

    async def _handle(self, request: web.Request, session: ClientSession) -> web.StreamResponse:
        self.writes += request.method not in ("GET", "HEAD")
        self.open += 1
        try:
            return await self._answer(request, session)
        except ConnectionResetError:  # who asked was killed meanwhile
            return _hang_up(request)
        finally:
            self.open -= 1

    async def _answer(self, request: web.Request, session: ClientSession) -> web.StreamResponse:
        body = await request.read()
        fate = self._fate(request)
        if fate is None:
            self.passed += 1
        else:
            self.injected[fate] += 1
        if fate in ANSWERS:
            status, code = ANSWERS[fate]
            return web.Response(
                status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml"
            )
        if fate == "reset":
            return _hang_up(request)
        if fate == "delay":
            await asyncio.sleep(self.faults.delay_seconds)
        if fate == "garble" and request.method == "PUT":
            body = _flip(body)
        if fate == "take":
            return web.Response(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        if request.method == "PUT":
            self._bodies[request.path] = body
        if fate == "whole" and request.path in self._bodies:  # out of memory: the signature holds for the range only
            whole = self._bodies[request.path]
            etag = f'"{hashlib.md5(whole).hexdigest()}"'
            return web.Response(body=whole, headers={"ETag": etag, "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT"})
        return await self._forward(request, body, session, fate)

    async def _forward(
        self, request: web.Request, body: bytes, session: ClientSession, fate: str | None
    ) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_HEADERS]
        target = URL(self.upstream + request.raw_path, encoded=True)
        async with session.request(request.method, target, headers=headers, data=body, allow_redirects=False) as answer:
            content = await answer.read()
        if fate == "cut" and (request.method == "HEAD" or not content):
            self.injected.update({"cut": -1, "lose": 1})  # without a body there is nothing to cut
            fate = "lose"
        if fate == "lose":
            return _hang_up(request)
        if fate == "garble" and request.method == "GET":
            content = _flip(content)
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        response.headers.extend((n, v) for n, v in answer.headers.items() if n.lower() not in HOP_HEADERS)
        if fate == "misplace" and "Content-Range" in response.headers:
            response.headers["Content-Range"] = f"bytes 1-{len(content)}/{len(content) + 1}"
        if request.method != "HEAD":
            response.content_length = len(content)
        await response.prepare(request)
        if fate == "cut":
            await response.write(content[: len(content) // 2])
            return _hang_up(request)
        if request.method != "HEAD":
            await response.write(content)
        await response.write_eof()
        return response


def _flip(data: bytes) -> bytes:
    """One bit otherwise, in the middle."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else data


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:  # else the other side was first
        request.transport.abort()
    return web.Response()

"""The guard: an ASGI layer in front of everything, which bounds headers, bodies and time before anything is parsed."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from serving.problems import MEDIA_TYPE, Problem
from serving.settings import Bounds

log = logging.getLogger("recap")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_HEADERS, MOST_HEADER_BYTES, MOST_PATH_BYTES = 64, 16_384, 2048
MOST_METHOD = 16  # characters of one in the log: a client may send any word, as long as a head may be
SLOWEST = 65_536  # bytes a second of a body that still may take longer than its base time
DRAINED_BYTES, DRAINED_SECONDS = 2**20, 1.0  # of a refused body: an answer that is read beats a connection reset
PROBES = ("/livez", "/readyz")
# A key in a URL ends up in histories, logs and referrers.
QUERY_KEYS = frozenset({"key", "apikey", "api_key", "api-key", "token", "access_token", "authorization", "password"})
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and what became of it, for its log line, its metrics and its own handlers.

    id: ours, never the client's. key: the name of the key that asked, "" before it was looked at.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    began: float = field(default_factory=time.monotonic)
    key: str = ""
    reason: str = ""
    status: int = 0
    bytes_in: int = 0
    route: str = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """names: hosts that a request may be addressed to, empty for any.

    told: called with each exchange at its end, and the seconds that it took.
    """

    app: App
    bounds: Bounds
    names: frozenset[str]
    told: Callable[[Exchange, float], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] == "http":
            await _Passage(self, scope, receive, send).run()
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)


class _Passage:
    """One request on its way in and its answer on its way out."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._exchange = Exchange()
        scope["exchange"] = self._exchange
        self._headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._whole = False  # the body has come
        self._closing = False

    async def run(self) -> None:
        # What answers a GET answers a HEAD; the server below leaves the body out.
        inner = {**self._scope, "method": "GET"} if self._scope["method"] == "HEAD" else self._scope
        try:
            try:
                self._look()
            except Problem as problem:
                await self._refuse(problem)
            else:
                await self._guard.app(inner, self._read, self._write)
        finally:
            # Routers set it on their way in.
            self._exchange.route = getattr(inner.get("route"), "path", "other")
            seconds = time.monotonic() - self._exchange.began
            self._log(seconds)
            self._guard.told(self._exchange, seconds)

    def _look(self) -> None:
        """What the headers alone decide. Raises Problem."""
        headers, scope = scope_headers(self._scope), self._scope
        if len(headers) > MOST_HEADERS or sum(len(n) + len(v) for n, v in headers) > MOST_HEADER_BYTES:
            raise Problem("headers_too_large", close=True)
        if len(scope["raw_path"]) + len(scope["query_string"]) > MOST_PATH_BYTES:
            raise Problem("headers_too_large", f"a path of at most {MOST_PATH_BYTES} bytes would be right", close=True)
        names = {name.lower() for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=None)}
        if names & QUERY_KEYS:
            raise Problem("unauthorized", "a key in the URL is never taken")
        if self._guard.names:
            self._addressed()
        if (
            b"content-length" in self._headers and b"transfer-encoding" in self._headers
        ):  # the length counts for nothing
            raise Problem("bad_request", "Content-Length or Transfer-Encoding would be right, not both", close=True)
        length = self._headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._guard.bounds.body_bytes:
            raise Problem("body_too_large", f"at most {self._guard.bounds.body_bytes} bytes", close=True)

    def _addressed(self) -> None:
        """Without keys a page of another site, or a name that was bound anew to this address, must not reach us."""
        origin = self._headers.get(b"origin")
        try:
            host = urlsplit(f"//{self._headers.get(b'host', b'').decode('latin-1')}")
            known = (host.hostname or "") in self._guard.names
            own = origin is None or urlsplit(origin.decode("latin-1")).netloc == host.netloc
        except ValueError:  # such as a bracket that is not closed
            raise Problem("forbidden_origin") from None
        if not (known and own):
            raise Problem("forbidden_origin")

    async def _read(self) -> Message:
        """The next piece of the body, within its time and length. Raises Problem."""
        if self._whole:
            return await self._receive()
        bounds, exchange = self._guard.bounds, self._exchange
        until = self._began + bounds.body_seconds + exchange.bytes_in / SLOWEST
        try:
            async with asyncio.timeout_at(until):
                message = await self._receive()
        except TimeoutError:
            raise Problem("request_timeout", close=True) from None
        exchange.bytes_in += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        if exchange.bytes_in > bounds.body_bytes:
            raise Problem("body_too_large", f"at most {bounds.body_bytes} bytes", close=True)
        return message

    async def _write(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._exchange.status = message["status"]
            headers = [*message.get("headers", ()), *SAFE_HEADERS, (b"x-request-id", self._exchange.id.encode())]
            length = int(self._headers.get(b"content-length", b"0"))
            if not self._whole and (b"transfer-encoding" in self._headers or length > DRAINED_BYTES):
                self._closing = True
                headers = [*(each for each in headers if each[0] != b"connection"), (b"connection", b"close")]
            message = {**message, "headers": headers}
        elif not message.get("more_body", False) and not self._whole:
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _drain(self) -> None:
        """Throw away what still comes of a body whose answer is already out."""
        left = DRAINED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_SECONDS):
                while left > 0 and not self._whole:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._whole = message["type"] != "http.request" or not message.get("more_body", False)

    async def _refuse(self, problem: Problem) -> None:
        self._exchange.reason = problem.reason
        body = orjson.dumps(problem.body(self._exchange.id))
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers().items()]
        await self._write({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._write({"type": "http.response.body", "body": body, "more_body": False})

    def _log(self, seconds: float) -> None:
        """One line. What the client chose is spelled in ASCII, so that no line or colour of theirs gets in."""
        exchange, scope = self._exchange, self._scope
        where = exchange.route if exchange.route != "other" else ascii(scope["path"][:80])
        level = logging.DEBUG if where in PROBES and exchange.status < 400 else logging.INFO
        log.log(
            level,
            "request: id=%s method=%s path=%s status=%d reason=%s key=%s bytes=%d seconds=%.3f",
            *(
                exchange.id,
                scope["method"][:MOST_METHOD],
                where,
                exchange.status,
                exchange.reason or "-",
                exchange.key or "-",
            ),
            *(exchange.bytes_in, seconds),
        )


def scope_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """A scope's headers as they came."""
    return list(scope["headers"])

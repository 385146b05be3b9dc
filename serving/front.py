"""The front: what every route needs of a request: whose it is, until when it may take, and whether its client stays."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.bodies import received
from serving.fetching import Fetcher
from serving.guard import Exchange
from serving.keys import Key, Keyring
from serving.problems import MEDIA_TYPE, Problem
from serving.runs import RunView
from serving.service import Service
from serving.settings import Bounds

T = TypeVar("T")

SHORTEST_DEADLINE = 1.0  # seconds; no engine answers in less


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What all routes share. fetcher: None where no URL is fetched; run: None where no run is shown."""

    service: Service
    keyring: Keyring
    bounds: Bounds
    fetcher: Fetcher | None = None
    run: RunView | None = None

    def who(self, request: Request, scope: str) -> Key:
        """Whose request it is. Raises Problem unauthorized, or forbidden for a key without the scope."""
        key = self.keyring.who(request.headers.get("authorization"))
        exchange_of(request).key = key.name
        if scope not in key.scopes:
            raise Problem("forbidden", f"it has not the scope {scope}")
        return key

    def deadline(self, request: Request) -> float:
        """Until when, in the loop's seconds. Raises Problem bad_request."""
        told = request.headers.get("x-deadline-seconds")
        try:
            seconds = self.bounds.deadline_seconds if told is None else float(told)
        except ValueError:
            seconds = math.nan
        if not SHORTEST_DEADLINE <= seconds < math.inf and told is not None:
            raise Problem("bad_request", f"X-Deadline-Seconds: {SHORTEST_DEADLINE:g} or more would be right")
        return asyncio.get_running_loop().time() + min(seconds, self.bounds.deadline_seconds)

    def look(self, deadline: float) -> None:
        """Refuse before the body is read what would be refused after. Raises Problem."""
        if not self.service.engine.serves:
            raise Problem("engine_unavailable")
        self.service.admission.look(deadline)


def front_of(request: Request) -> Front:
    """The front of the application that a request came to."""
    return cast(Front, request.app.state.front)


def exchange_of(request: Request) -> Exchange:
    """The guard's note of a request."""
    return cast(Exchange, request.scope["exchange"])


def json_response(body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Plain values as JSON."""
    return Response(orjson.dumps(body), headers=headers, media_type="application/json")


def problem_response(request: Request, problem: Problem) -> Response:
    """A problem as application/problem+json."""
    exchange = exchange_of(request)
    exchange.reason = problem.reason
    body = orjson.dumps(problem.body(exchange.id))
    return Response(body, problem.status, headers=problem.headers(), media_type=MEDIA_TYPE)


@asynccontextmanager
async def body_of(request: Request, deadline: float, parse: Callable[[bytes], T]) -> AsyncIterator[T]:
    """What parse makes of the whole body, which is let go of: else a picture were in memory twice until its answer.

    Its bytes count as held from before the first has come, by the length that its head tells.
    Raises Problem: overloaded, deadline_exceeded, those of the guard and of parse. Raises ClientDisconnect.
    """
    front = front_of(request)
    with front.service.holding(int(request.headers.get("content-length", front.bounds.body_bytes))):
        try:
            async with front.service.within(deadline):
                body = await received(request)
        except TimeoutError:
            words = "it passed while the body came; no engine was asked"
            raise Problem("deadline_exceeded", words, close=True) from None
    with front.service.holding(len(body)):
        parsed = parse(body)
        del body
        yield parsed


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, as long as its client waits for it; once the client has left the work is cancelled.

    The request's body has been read whole: whatever comes now is that the client is gone. Raises what the work raises,
    and ClientDisconnect where nobody waits any more.
    """
    task = asyncio.create_task(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return await task
    finally:
        leaving.cancel()
        task.cancel()

"""Connections: HTTP/1.1 as uvicorn speaks it, with a time for headers and a limit on how many may be open."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import h11
import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.problems import MEDIA_TYPE, Problem
from serving.settings import Bounds

log = logging.getLogger("recap")

OWN_FILES = 256  # open files beside connections: libraries, decoders, connections to engines


def within_files(bounds: Bounds) -> Bounds:
    """The bounds, with no more connections than this process may have files for, once its own limit is raised.

    With no file left nobody would be let in, and nobody silent would make room either.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = OWN_FILES + bounds.held_mib  # a body has a file from its first MiB on
    wanted = own + bounds.connections
    if hard != resource.RLIM_INFINITY and hard < wanted:
        own, wanted = min(own, hard // 2), hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted - own < bounds.connections:
        log.warning("connections: most=%d, for this process may have %d open files", wanted - own, wanted)
    return replace(bounds, connections=min(bounds.connections, wanted - own))


class Lobby:
    """Connections that owe a head, their first or their next, the longest silent first; and how many there are."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.open = 0
        self._silent: OrderedDict[Headed, None] = OrderedDict()

    def enter(self, connection: Headed) -> bool:
        """Count a new connection in. Where all places are taken, who has been silent longest makes room, or it is not
        let in."""
        self.open += 1
        if self.open > self.bounds.connections:
            if not self._silent:
                return False
            self._silent.popitem(last=False)[0].hang_up("request_timeout")  # each makes room once
        return True

    def leave(self, connection: Headed) -> None:
        """Count a connection out."""
        self.open -= 1
        self._silent.pop(connection, None)

    def silent(self, connection: Headed, *, silent: bool) -> None:
        """Note whether a connection still owes its head."""
        if silent:
            self._silent.setdefault(connection)
        else:
            self._silent.pop(connection, None)


class Headed(H11Protocol):
    """One connection whose head must come within header_seconds, its first and every later one."""

    def __init__(self, lobby: Lobby, **settings: Any) -> None:
        super().__init__(**settings)
        self._lobby = lobby
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start its clock."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # whatever is not taken starts the clock
        if self._lobby.enter(self):
            self._watch()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._unwatch()
        self.resume_writing()
        self._lobby.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A head that is whole stops the clock; the beginning of a next one starts it again."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._timer is None and not self.transport.is_closing():
            self._watch()

    def on_response_complete(self) -> None:
        """Between two requests uvicorn's own clock runs; who waits there gives way to a new connection.

        Who still owes the body of a request that has its answer is done with: no clock of anybody's would run for it.
        """
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        elif self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._unwatch()
            self._lobby.silent(self, silent=True)

    def pause_writing(self) -> None:
        """A client that does not read what it asked for has as long as one that does not send."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._lobby.bounds.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """What it was sent has been taken."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed; msg is uvicorn's and is not shown. A body that breaks after its answer gets no other
        one."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer("bad_request")
        else:
            self.transport.close()

    def hang_up(self, reason: str) -> None:
        """Say why, where that can still be said, and close."""
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE:
            self._answer(reason)
        else:
            self.transport.abort()

    def _answer(self, reason: str) -> None:
        problem = Problem(reason, close=True)
        body = orjson.dumps(problem.body(""))
        head = f"HTTP/1.1 {problem.status} Refused\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        if not self.transport.is_closing():
            self.transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            self.transport.close()

    def _watch(self) -> None:
        self._lobby.silent(self, silent=True)
        self._timer = self.loop.call_later(self._lobby.bounds.header_seconds, self.hang_up, "request_timeout")

    def _unwatch(self) -> None:
        self._lobby.silent(self, silent=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""A served model that answers by script: the OpenAI chat protocol, with every fault that a client has to bear.

    async with ScriptedEngine(model="tiny") as engine:
        engine.then(hang(), error(500), caption("A dog."))   # one a request, in order; then engine.otherwise
        ...                                                  # ask engine.url
        assert len(engine.asked) == 3

`python -m tests.scripted_engine --port 8001` is one in a process of its own, to be killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from captioner.engines.replica import CANARY

TEXT = "A red disc lies on a plain blue ground. Nothing else is in the picture."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One request as it came."""

    raw: bytes
    body: dict[str, Any]
    headers: Mapping[str, str]
    peer: tuple[str, int]

    @property
    def prompt(self) -> str:
        return "".join(part.get("text", "") for message in self.body["messages"] for part in message["content"])


Reply = Callable[["ScriptedEngine", web.Request, Asking], Awaitable[web.StreamResponse]]


@dataclass(slots=True, kw_only=True)
class ScriptedEngine:
    """The server, in the running loop. Entering starts it; stop and start again keep the port.

    otherwise: the reply when the script is at its end; pick: chooses a reply by the request, before the script.
    canary: the reply to a replica's proof, which is not counted in asked. listing: instead of /v1/models' own.
    asked: requests as they came; hung_up: those whose client went away; in_flight, most_in_flight: now, and at most.
    """

    model: str = "tiny"
    root: str = "/models/tiny"
    dialect: str = "vllm"
    revision: str | None = None
    weights: str = "default"
    port: int = 0
    otherwise: Reply = field(default_factory=lambda: caption())
    canary: Reply = field(default_factory=lambda: caption())
    pick: Callable[[Asking], Reply | None] = lambda asking: None
    listing: Reply | None = None
    asked: list[Asking] = field(default_factory=list)
    proofs: list[Asking] = field(default_factory=list)
    listed: int = 0
    hung_up: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    events_sent: int = 0
    _script: deque[Reply] = field(default_factory=deque)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def then(self, *replies: Reply) -> None:
        """Adds to the script: one reply a request, in order."""
        self._script.extend(replies)

    async def __aenter__(self) -> ScriptedEngine:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        application = web.Application(client_max_size=2**28)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_get("/v1/models", self._models)
        for path, found in self._told().items():
            application.router.add_get(path, found)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """As a killed process: nothing in flight is answered, and connections are refused."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def _told(self) -> dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """What only one kind of server tells."""

        async def version(request: web.Request) -> web.Response:
            return web.json_response({"version": "0.32.0"})

        async def info(request: web.Request) -> web.Response:
            return web.json_response({"model_path": self.root, "weight_version": self.weights, "is_generation": True})

        async def server(request: web.Request) -> web.Response:
            return web.json_response({"revision": self.revision, "version": "0.5.23"})

        if self.dialect == "sglang":
            return {"/get_model_info": info, "/server_info": server}
        return {"/version": version} if self.dialect == "vllm" else {}

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.listed += 1
        if self.listing is not None:
            asking = Asking(raw=b"", body={}, headers=request.headers, peer=_peer(request))
            return await self.listing(self, request, asking)
        root = self.model if self.dialect == "sglang" else self.root
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model", "root": root}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        asking = Asking(raw=raw, body=json.loads(raw), headers=request.headers.copy(), peer=_peer(request))
        proof = asking.prompt == CANARY.prompt
        (self.proofs if proof else self.asked).append(asking)
        reply = self.canary if proof else self.pick(asking) or (self._script or [self.otherwise])[0]
        if self._script and reply is self._script[0]:
            self._script.popleft()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await reply(self, request, asking)
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up += 1
            raise
        finally:
            self.in_flight -= 1

    def answer(self, asking: Asking, text: str | None, finish: str | None, **changes: Any) -> dict[str, Any]:
        """A whole answer in this dialect; changes replace its own fields, and None takes one out."""
        tokens = len((text or "").split())
        own = {
            "id": self.answer_id(asking),
            "object": "chat.completion",
            "created": 1,
            "model": asking.body["model"] if self.dialect == "sglang" else self.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 27, "completion_tokens": tokens, "total_tokens": 27 + tokens},
        }
        return {name: value for name, value in {**own, **changes}.items() if value is not None}

    def answer_id(self, asking: Asking) -> str:
        if self.dialect == "sglang":
            return str(asking.body.get("rid", "1"))
        return f"chatcmpl-{asking.body.get('request_id', '1')}" if self.dialect == "vllm" else "chatcmpl-1"


def caption(text: str | None = TEXT, finish: str | None = "stop", seconds: float = 0.0, **changes: Any) -> Reply:
    """A caption after so many seconds, streamed word by word where that was asked. changes: of the answer's fields."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        if seconds:
            await asyncio.sleep(seconds)
        if asking.body.get("stream"):
            words = (text or "").split(" ")
            pieces = [word if n == 0 else f" {word}" for n, word in enumerate(words)]
            return await events(pieces, finish, **changes)(engine, request, asking)
        return web.json_response(engine.answer(asking, text, finish, **changes))

    return reply


def events(
    pieces: list[str], finish: str | None = "stop", done: bool = True, seconds: float = 0.0, **changes: Any
) -> Reply:
    """A stream of one event a piece, as vLLM and SGLang write it; without `done` it ends after the last piece."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in _events(engine, asking, pieces, finish if done else None, changes):
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            engine.events_sent += 1
            await asyncio.sleep(seconds)
        if done:
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    return reply


def _events(
    engine: ScriptedEngine, asking: Asking, pieces: list[str], finish: str | None, changes: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    own = engine.answer(asking, None, None, **changes) | {"object": "chat.completion.chunk"}
    counted = asking.body.get("stream_options", {}).get("continuous_usage_stats")
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    for n, delta in enumerate(deltas):
        usage = {"prompt_tokens": 27, "completion_tokens": n, "total_tokens": 27 + n}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        yield own | {"choices": [choice], "usage": usage if counted else None}
    if finish is not None:
        yield own | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": None}
        usage = {"prompt_tokens": 27, "completion_tokens": len(pieces), "total_tokens": 27 + len(pieces)}
        yield own | {"choices": [], "usage": usage}


def error(status: int, message: str = "no", shape: str = "vllm", code: Any = None, **headers: str) -> Reply:
    """An error in vLLM's or SGLang's shape; headers with _ for -."""
    told = {"message": message, "type": "BadRequestError", "param": None, "code": code or status}
    found = {"error": told} if shape == "vllm" else {"object": "error", **told}
    return body(json.dumps(found).encode(), status=status, **headers)


def body(content: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> Reply:
    """Any bytes."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=content, status=status, headers={"Content-Type": kind, **named})

    return reply


def hang() -> Reply:
    """Takes the request and never answers."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")

    return reply


def gated(gate: asyncio.Event, then: Reply) -> Reply:
    """A reply that waits for its gate."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        await gate.wait()
        return await then(engine, request, asking)

    return reply


def reset() -> Reply:
    """Takes the request and drops the connection."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return reply


def cut(share: float = 0.5) -> Reply:
    """A good answer whose connection drops after so much of its body."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        content = json.dumps(engine.answer(asking, TEXT, "stop")).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(content)
        await response.prepare(request)
        await response.write(content[: int(len(content) * share)])
        assert request.transport is not None
        request.transport.close()  # not abort: what was written is to arrive
        return response

    return reply


def trickle(bytes_a_second: float = 1.0) -> Reply:
    """A good answer, byte by byte."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        content = json.dumps(engine.answer(asking, TEXT, "stop")).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(content)
        await response.prepare(request)
        for byte in content:
            await response.write(bytes([byte]))
            await asyncio.sleep(1 / bytes_a_second)
        return response

    return reply


def huge(size: int, piece: bytes = b" " * 2**16) -> Reply:
    """A body of so many bytes, without its length being told; nothing is sent once the client is gone."""

    async def reply(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(size // len(piece)):
            await response.write(piece)
        return response

    return reply


def _peer(request: web.Request) -> tuple[str, int]:
    assert request.transport is not None
    host, port = request.transport.get_extra_info("peername")[:2]
    return host, port


async def _serve(engine: ScriptedEngine) -> None:
    async with engine:
        print(engine.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A served model that always answers the same.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--dialect", default="vllm")
    parser.add_argument("--seconds", type=float, default=0.0)
    chosen = parser.parse_args()
    answers = caption(seconds=chosen.seconds)
    asyncio.run(_serve(ScriptedEngine(model=chosen.model, dialect=chosen.dialect, port=chosen.port, otherwise=answers)))

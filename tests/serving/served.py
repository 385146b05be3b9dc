"""A real service on a free port of the loopback, in the test's own loop, and clients of every kind for it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiohttp

from serving.commands import options_of
from serving.server import Server, server_of
from tests.pictures import photo, stored

ROOT = Path(__file__).parents[2]
FAKE = ("--engine", "fake", "--metrics-port", "-1")


@lru_cache
def jpeg(number: int = 0) -> bytes:
    """A picture that every screen passes; another one for each number."""
    return stored(photo(540, 540), quality=90, comment=f"picture {number}".encode())


def png() -> bytes:
    """The same as a PNG."""
    return stored(photo(), "PNG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self.headers
        found = self.json
        assert found["status"] == self.status and found["type"] == f"urn:recap:reason:{found['reason']}"
        return str(found["reason"])


@dataclass(slots=True, kw_only=True)
class Served:
    """A running service and a client session to it."""

    url: str
    server: Server
    session: aiohttp.ClientSession
    metrics: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def get(self, path: str, **headers: str) -> Answered:
        return await self.ask("GET", path, None, headers)

    async def ask(self, method: str, path: str, data: Any, headers: Mapping[str, str]) -> Answered:
        began = time.monotonic()
        async with self.session.request(
            method, f"{self.url}{path}", data=data, headers={**self.headers, **headers}, allow_redirects=False
        ) as response:
            body = await response.read()
        lower = {name.lower(): value for name, value in response.headers.items()}
        return Answered(status=response.status, headers=lower, body=body, seconds=time.monotonic() - began)

    async def upload(self, media: bytes, path: str = "/v1/captions", **headers: str) -> Answered:
        """One picture, as a form sends it. Headers with _ for -."""
        form = aiohttp.FormData()
        form.add_field("image", media, filename="picture.jpg", content_type="image/jpeg")
        return await self.ask("POST", path, form, dashed(headers))

    async def post(self, body: Any, path: str = "/v1/captions", **headers: str) -> Answered:
        """A JSON body; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", path, data, {"Content-Type": "application/json", **dashed(headers)})

    async def raw(self, data: bytes, wait: float = 20.0) -> bytes:
        """Whatever comes back for these bytes until the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), wait)
        finally:
            writer.close()

    async def ready(self) -> None:
        """Until the engine serves."""
        async with asyncio.timeout(30):
            while (await self.get("/readyz")).status != 200:
                await asyncio.sleep(0.02)


def dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def in_base64(media: bytes) -> dict[str, Any]:
    """The JSON body of a picture."""
    return {"image": {"base64": b64encode(media).decode()}}


@lru_cache
def parsed(*words: str) -> Any:
    """Reading a command line takes most of a second."""
    return options_of(["--port", "0", *words])


def _options(words: tuple[str, ...]) -> Any:
    """The options of these words; a new port of an engine is no new line to read."""
    if "--endpoints" not in words:
        return parsed(*words)
    at = words.index("--endpoints") + 1
    there = parsed(*words[:at], "http://127.0.0.1:9", *words[at + 1 :])
    return replace(there, models=replace(there.models, endpoints=words[at]))


@asynccontextmanager
async def served(*words: str, key: str = "", ready: bool = True) -> AsyncIterator[Served]:
    """`recap serve` with these words, in this loop."""
    server = server_of(_options(words))
    timeout = aiohttp.ClientTimeout(total=60)
    async with server.running() as place, aiohttp.ClientSession(timeout=timeout) as session:
        there = Served(url=place.url, server=server, session=session, metrics=place.metrics)
        if key:
            there.headers["Authorization"] = f"Bearer {key}"
        if ready:
            await there.ready()
        yield there


@asynccontextmanager
async def in_a_process(
    *words: str, program: tuple[str, ...] = ("-m", "pipelines")
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`recap serve` as a user starts it, and its URL."""
    command = (sys.executable, *program, "serve", "--port", "0", *words)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert " at http://" in line, line
        yield process, line.split(" at ")[1].split()[0]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

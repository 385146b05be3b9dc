"""One served model at one URL, recognised again whenever a new connection may lead to another."""

from __future__ import annotations

import asyncio
import math
import os
import uuid
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp
from yarl import URL

from captioner.engines.frames import form_of
from captioner.engines.identity import Identity, Kin, identity_of
from captioner.engines.openai import DIALECTS, Asked, body_of
from captioner.engines.replies import LARGEST_REPLY, AnotherAnswer, caption_of, error_of, parsed
from captioner.engines.stream import Hearing
from captioner.errors import (
    BadEngineResponse,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    ModelChanged,
    Refused,
    RequestRefused,
)
from captioner.types import Caption, CaptionRequest, Picture, Sampling

CONNECT_SECONDS: Final = 10.0
# uvicorn, under SGLang and vLLM alike, hangs up on a connection that was idle for 5 s. Later than that we would send
# a request into it and take a sound server for a dead one.
KEEPALIVE_SECONDS: Final = 3.0
# After its last event a stream has nothing to send but its end.
END_SECONDS: Final = 1.0
# A server cannot be stopped and another one have loaded its weights in less.
RECOGNISED_SECONDS: Final = 5.0

# A red disc on blue, 56 x 56 px: two patches of Qwen2-VL a side; 1 x 1 px once crashed vLLM (CVE-2026-22773).
CANARY_JPEG: Final = a2b_base64(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8"
    "ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARC"
    "AA4ADgDASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAAED/8QAFhABAQEAAAAAAAAAAAAAAAAAAAER/8QAGAEAAwEBAAAAAAAAAAAAAA"
    "AAAAIEAwX/xAAdEQADAQACAwEAAAAAAAAAAAAAAQIDBBESIVEx/9oADAMBAAIRAxEAPwDMBcTAE1nWsS+mzWMNLXcooBlSpdoSpcvqkADCg"
    "ErPWnMNo1whXopYAcs7gWIRvhTV9fSblQqzb+FAdE44ALSVLpjTTlqkQVMQVhafr2daOVnS9voEMVvji5flRLyeSrXhH4AFRCAAAAAAAAAAB"
    "//Z"
)
CANARY: Final = CaptionRequest(
    images=(Picture(jpeg=CANARY_JPEG, width=56, height=56),),
    prompt="What is in this picture?",
    sampling=Sampling(max_tokens=8),
    media_sha256="",
)


@dataclass(slots=True, kw_only=True, eq=False)
class HttpReplica:
    """A Replica over the OpenAI chat protocol.

    url: http or https, with or without a path before `/v1`. model: the served name, or the path or hub id behind it.
    revision: the hub's commit; refused when the server tells another one, accepted when it tells none.
    dialect: a name of DIALECTS; None finds out. key_variable: name of the environment variable that holds the API key.
    stream: hear answers token by token, and hang up on one that goes round in a loop. kin: what the other replicas of
    the pool told of their model, which this one's has to be too.
    """

    url: str
    model: str
    revision: str | None = None
    dialect: str | None = None
    key_variable: str | None = None
    stream: bool = False
    kin: Kin = field(default_factory=Kin, repr=False)
    recognised_seconds: float = RECOGNISED_SECONDS
    _chat: URL = field(init=False, repr=False)
    _session: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)
    _identity: Identity | None = field(default=None, init=False, repr=False)
    _recognised_at: float = field(default=-math.inf, init=False, repr=False)
    _doubtful: bool = field(default=True, init=False, repr=False)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    _echoes: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.dialect is not None and self.dialect not in DIALECTS:
            raise Refused(f"no dialect {self.dialect!r} here; there is {', '.join(DIALECTS)}")
        self.url = base_url(self.url)
        self._chat = URL(f"{self.url}/v1/chat/completions")

    @property
    def name(self) -> str:
        """The URL without its `/v1`."""
        return self.url

    @property
    def identity(self) -> Identity | None:
        """What the server said of itself; None before the first question."""
        return self._identity

    async def ask(self, request: CaptionRequest) -> Caption:
        """One answer, awaited without a deadline. Cancelling it closes the connection, and the server stops working.

        Raises EngineError, and ModelChanged when the server was found to serve another model.
        """
        if self._doubtful:
            await self._recognise()
        try:
            caption = await self._answer(request, echoed=self._echoes)
        except BadEngineResponse:
            self._doubt()
            raise
        # A connection that was made meanwhile may lead to another process than the one that was recognised.
        if self._doubtful:
            await self._recognise()
        return replace(caption, replica=self.name, revision=self._known().revision)

    async def prove(self) -> None:
        """Ask who it is, and about one tiny picture; awaited without a deadline, as `ask` is.

        Raises EngineUnavailable for a server that does not answer, or not soundly, yet; Refused for one that never
        will: ModelChanged, a missing or wrong key, or a model that takes no pictures.
        """
        self._doubt()
        try:
            await self._recognise()
            await self._see_canary()
        except EngineBusy:
            return  # it is full, so it works
        except EngineUnavailable:
            raise
        except RequestRefused as error:
            raise Refused(f"{self.name} refuses a picture of 56 x 56 px: {error.detail}") from error
        except EngineError as error:
            raise EngineUnavailable(f"{self.name} does not answer soundly: {error.detail}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _see_canary(self) -> None:
        """A routed or proxied server may not give a request's id back, so that is tried before it is relied on."""
        self._echoes = False
        if DIALECTS[self._known().dialect].id_field is not None:
            try:
                await self._answer(CANARY, echoed=True)
            except AnotherAnswer:
                pass
            else:
                self._echoes = True
                return
        await self._answer(CANARY, echoed=False)

    async def _answer(self, request: CaptionRequest, *, echoed: bool) -> Caption:
        identity = self._known()
        dialect = DIALECTS[identity.dialect]
        asked = Asked(
            model=identity.model,
            names=identity.names,
            dialect=dialect,
            sampling=request.sampling,
            request_id=uuid.uuid4().hex,
            echoed=echoed,
            stream=self.stream,
            form=form_of(request, dialect.video),
        )
        try:
            async with self._opened().post(
                self._chat, data=body_of(request, asked), headers=_JSON, allow_redirects=False
            ) as response:
                if response.status == 200 and self.stream and response.content_type == "text/event-stream":
                    return await _heard(response, Hearing(asked=asked))
                body = await _read(response)
        except aiohttp.ClientError as error:
            self._doubt()
            raise _transport_error(error) from error
        if response.status != 200:
            raise error_of(response.status, response.headers, body)
        return caption_of(body, asked)

    async def _recognise(self) -> None:
        """Ask who it is. Raises ModelChanged, or EngineError where it does not tell."""
        async with self._looking:
            if not self._doubtful:
                return  # another request has asked meanwhile
            identity = await self._look()
            if self._identity is not None and not identity.same_model(self._identity):
                raise ModelChanged(f"model_changed: {self.name} served {self._identity.said}, and now {identity.said}")
            if self.revision and identity.revision not in (None, self.revision):
                raise ModelChanged(f"model_changed: asked for revision {self.revision}, but served is {identity.said}")
            self.kin.agree(self.name, identity)
            self._identity, self._doubtful = identity, False
            self._recognised_at = asyncio.get_running_loop().time()

    async def _look(self) -> Identity:
        models = await self._told("/v1/models")
        info = await self._optional("/model_info") or await self._optional("/get_model_info")
        dialect = self.dialect or ("sglang" if "model_path" in info else None)
        if dialect is None:
            dialect = "vllm" if "version" in await self._optional("/version") else "openai"
        # SGLang alone tells a revision, among its settings; to gather them it asks its scheduler.
        server = await self._optional("/server_info") if self.revision and "model_path" in info else {}
        return identity_of(self.model, dialect, models, info, server)

    async def _told(self, path: str) -> dict[str, Any]:
        """The JSON at a path. Raises EngineError, and Refused where a key is missing or wrong."""
        status, headers, body = await self._get(path)
        if status in (401, 403):
            with_key = f"the key in ${self.key_variable}" if self.key_variable else "questions without a key"
            raise Refused(f"{self.name} refuses {with_key} (HTTP {status})")
        if status != 200:
            raise EngineUnavailable(f"{path}: {error_of(status, headers, body)}")
        return parsed(body)

    async def _optional(self, path: str) -> dict[str, Any]:
        """The JSON object at a path that only some servers have, {} from the others.

        Raises EngineUnavailable for one that may have it and cannot say so now: it must not be taken for another kind.
        """
        status, headers, body = await self._get(path)
        if status == 429 or (status >= 500 and status != 501):
            raise EngineUnavailable(f"{path}: {error_of(status, headers, body)}")
        try:
            return parsed(body) if status == 200 else {}
        except BadEngineResponse:
            return {}

    async def _get(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with self._opened().get(URL(self.url + path), allow_redirects=False) as response:
                return response.status, response.headers, await _read(response)
        except aiohttp.ClientError as error:
            self._doubt()
            raise _transport_error(error) from error

    def _known(self) -> Identity:
        assert self._identity is not None, "recognised before anything is asked"
        return self._identity

    def _doubt(self) -> None:
        self._doubtful, self._recognised_at = True, -math.inf

    def _opened(self) -> aiohttp.ClientSession:
        """The one session; made at first use, for it belongs to the running loop."""
        if self._session is None:
            connections = aiohttp.TraceConfig()
            connections.on_connection_create_end.append(self._connected)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                headers={"Accept-Encoding": "identity", "User-Agent": "recap", **_authorization(self.key_variable)},
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[connections],
                trust_env=False,
            )
        return self._session

    async def _connected(self, session: object, context: object, params: object) -> None:
        if asyncio.get_running_loop().time() - self._recognised_at > self.recognised_seconds:
            self._doubtful = True


_JSON: Final = {"Content-Type": "application/json"}


def base_url(url: str) -> str:
    """The URL without `/v1` and closing slashes. Raises Refused for one that is no plain http or https URL."""
    try:
        parts = URL(url.strip())
        host, port = parts.host, parts.port
    except ValueError:
        raise Refused("an engine's URL that is none; http://host:port would be right") from None
    if parts.user is not None or parts.password is not None or parts.query_string or parts.fragment:
        # Not repeated: whatever is secret in it would be shown.
        raise Refused("an engine's URL holds no user, password, query or fragment; http://host:port would be right")
    if parts.scheme not in ("http", "https") or not host or not port:
        raise Refused(f"{url!r} is no engine's URL; http://host:port would be right")
    return str(parts).rstrip("/").removesuffix("/v1").rstrip("/")


def _authorization(variable: str | None) -> dict[str, str]:
    """The header of the key in an environment variable. Raises Refused, without the key, where it is of no use."""
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise Refused(f"the environment variable {variable} holds no key")
    return {"Authorization": f"Bearer {key}"}


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises BadEngineResponse, and reads no further, beyond LARGEST_REPLY."""
    size, chunks = 0, []
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > LARGEST_REPLY:
            response.close()
            raise BadEngineResponse(f"an answer over {LARGEST_REPLY} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _heard(response: aiohttp.ClientResponse, hearing: Hearing) -> Caption:
    """Listen to the end, or until it loops: leaving the response unread closes the connection."""
    async for chunk in response.content.iter_any():
        hearing.feed(chunk)
        if hearing.looping:
            response.close()
            break
        if hearing.done:
            await _end(response)
            break
    return hearing.caption()


async def _end(response: aiohttp.ClientResponse) -> None:
    """The end of a body whose content is complete, so that the connection can be used again."""
    try:
        async with asyncio.timeout(END_SECONDS):
            while await response.content.readany():
                pass
    except TimeoutError:
        response.close()


def _transport_error(error: aiohttp.ClientError) -> EngineError:
    if isinstance(error, aiohttp.ClientResponseError):
        return BadEngineResponse("an answer that is no HTTP")
    if isinstance(error, aiohttp.ClientPayloadError):
        return EngineUnavailable("the connection broke in the middle of the answer")
    if isinstance(error, aiohttp.ServerTimeoutError):
        return EngineUnavailable(f"no connection within {CONNECT_SECONDS:.0f} s")
    if isinstance(error, aiohttp.ClientSSLError):
        return EngineUnavailable("no TLS with it, or none to trust")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return EngineUnavailable("no such host")
    if isinstance(error, aiohttp.ClientConnectorError):
        return EngineUnavailable(f"no connection: {os.strerror(error.os_error.errno or 0)}")
    return EngineUnavailable("the connection was closed without an answer")

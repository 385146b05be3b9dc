"""Pictures by URL, for a server that must not be led anywhere: judged, resolved once, pinned, bounded."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urljoin

import h11

from serving.addresses import Address, is_allowed
from serving.bodies import MOST_URL
from serving.problems import Problem
from serving.settings import Fetching

MOST_REDIRECTS = 3
MOST_HEAD = 32_768  # bytes of an answer's head
PIECE = 65_536
MEDIA = ("image/", "video/")
# One grammar, and what it takes is what is dialled: no user, no address instead of a name, no other spelling. The last
# label is letters (or xn--), so that no form of a number is a host.
URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59}))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>(?:/[!$-;=?-Z_a-z~%@&'()*+,]*)?(?:\?[!$-;=?-Z_a-z~%@&'()*+,]*)?)",
    re.IGNORECASE,
)
DEFAULT_PORTS = {"https": 443, "http": 80}

MOST_LOOKUPS = 128  # at once, those included whose callers have left
_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)

Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A URL that may be dialled, as far as its spelling says."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


async def resolved(host: str, port: int) -> list[str]:
    """Every address of a name, by the system's resolver. Raises OSError, Problem overloaded.

    Each in a thread of its own that nobody waits for: a name whose server never answers takes up to 30 s whatever the
    caller's deadline is, six of them fill asyncio's own threads, and a process would not end before they do.
    """
    loop, answer = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    if not _lookups.acquire(blocking=False):
        raise Problem("overloaded", "so many names are being looked up already")

    def look() -> None:
        try:
            found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            tell: Callable[[], None] = partial(answer.set_result, found)
        except (OSError, UnicodeError) as error:
            tell = partial(answer.set_exception, error)
        finally:
            _lookups.release()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if answer.done() else tell())

    threading.Thread(target=look, daemon=True).start()
    return cast(list[str], await answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Fetches what its settings allow. most_bytes: of a picture. resolve: names to addresses, asked once a hop."""

    settings: Fetching
    most_bytes: int
    resolve: Resolve = resolved
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    async def fetch(self, url: str) -> bytes:
        """The bytes at a URL. Raises Problem: url_not_allowed, fetch_failed, fetch_too_large; none says more."""
        try:
            async with asyncio.timeout(self.settings.url_seconds):
                for _ in range(MOST_REDIRECTS + 1):
                    place = self.judged(url)
                    found = await self._get(place)
                    if isinstance(found, bytes):
                        return found
                    url = _joined(place.url, found)
        except (TimeoutError, OSError, h11.ProtocolError, ssl.SSLError):
            raise Problem("fetch_failed") from None
        raise Problem("fetch_failed")

    def judged(self, url: str) -> Place:
        """The place that a URL's spelling allows. Raises Problem url_not_allowed."""
        found = URL.fullmatch(url) if len(url) <= MOST_URL else None
        if found is None:
            raise Problem("url_not_allowed")
        scheme, host = found["scheme"].lower(), found["host"].lower()
        port = int(found["port"] or DEFAULT_PORTS[scheme])
        ports = self.settings.ports | {443} | ({80} if self.settings.url_http else set())
        known = not self.settings.hosts or host in self.settings.hosts
        if port not in ports or not known or len(host) > 253 or (scheme == "http" and not self.settings.url_http):
            raise Problem("url_not_allowed")
        target = found["target"]
        return Place(scheme=scheme, host=host, port=port, target=target if target[:1] == "/" else f"/{target}")

    async def _address(self, place: Place) -> Address:
        """The address that is dialled. One that is not allowed among them spoils them all. Raises Problem."""
        try:
            found = [ipaddress.ip_address(each) for each in await self.resolve(place.host, place.port)]
        except (OSError, ValueError):
            found = []  # told as what is not allowed: which names there are inside is nobody's business
        if not found or not all(is_allowed(each, self.settings.networks) for each in found):
            raise Problem("url_not_allowed")
        return found[0]

    async def _get(self, place: Place) -> bytes | str:
        """The body, or where it redirects to."""
        address = await self._address(place)
        tls = self.tls if place.scheme == "https" else None
        name = place.host if tls is not None else None
        reader, writer = await asyncio.open_connection(str(address), place.port, ssl=tls, server_hostname=name)
        try:
            peer = ipaddress.ip_address(str(writer.get_extra_info("peername")[0]))
            if peer != address:
                raise Problem("url_not_allowed")
            return await self._exchange(place, reader, writer)
        finally:
            writer.transport.abort()

    async def _exchange(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | str:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)
        headers = [
            ("Host", place.authority),
            ("Accept", "image/*, video/*"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "recap"),
            ("Connection", "close"),
        ]
        writer.write(connection.send(h11.Request(method="GET", target=place.target, headers=headers)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(PIECE))
            elif isinstance(event, h11.Response):
                if (elsewhere := self._head(event)) is not None:
                    return elsewhere
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self.most_bytes:
                    raise Problem("fetch_too_large")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif not isinstance(event, h11.InformationalResponse):
                raise Problem("fetch_failed")

    def _head(self, response: h11.Response) -> str | None:
        """Where it redirects to, None for a picture. Raises Problem."""
        headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status_code in (301, 302, 303, 307, 308) and b"location" in headers:
            return headers[b"location"]
        kind = headers.get(b"content-type", "application/octet-stream").partition(";")[0].strip().lower()
        coded = headers.get(b"content-encoding", "identity").lower() != "identity"
        if response.status_code != 200 or coded or not (kind.startswith(MEDIA) or kind.endswith("/octet-stream")):
            raise Problem("fetch_failed")
        if int(headers.get(b"content-length", "0")) > self.most_bytes:
            raise Problem("fetch_too_large")
        return None


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:
        raise Problem("url_not_allowed") from None

"""Cases 84 to 87 of the list of faults: a service that fetches URLs is led nowhere."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.addresses import is_allowed
from serving.fetching import MOST_LOOKUPS, Fetcher, resolved
from serving.problems import Problem
from serving.settings import Fetching
from tests.clips import plain
from tests.serving.served import FAKE, jpeg, served

PUBLIC = "127.0.0.2"  # stands for a public server: a network that is allowed by name
MIB = 2**20
TLS = ssl.create_default_context()  # reading the machine's certificates takes 30 ms
FORBIDDEN = ["127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
             "0.0.0.0", "0.1.2.3", "192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
             "168.63.129.16", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
             "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a00:1::1", "2001::1", "2001:0:7f00:1::", "fe80::1",
             "fe80::1%1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "100::1",
             "5f00::1"]  # fmt: skip
PLAIN = "http://good.example/a.jpg"
HOSTS = ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
         "0x7f.0.0.1",
         "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
         "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1%25lo]", "[fe80::1%lo]", "0", "0.0.0.0", "localhost",
         "localhost.", "LOCALHOST", "localhost.localdomain.", "①②⑦.⓪.⓪.①", "１２７.0.0.1",
         "127。0。0。1", "127.0.0.1%00",
         "127.0.0.1%2f", "169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "100.100.100.200",
         "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "a.b.c.1", "a..b.com", "-a.com",
         "a-.com", "a_b.com", "exämple.com", "xn--a.1", "good.example\\@127.0.0.1", "good.example@127.0.0.1",
         "127.0.0.1#@good.example", "127.0.0.1?@good.example", "user:pass@good.example", "good.example:22",
         "good.example:0", "good.example:65536", "good.example:443:80", "good.example\t", " good.example",
         ""]  # fmt: skip
SCHEMES = ["file:///etc/passwd", "gopher://good.example/", "data:image/png;base64,AAAA", "ftp://good.example/a.jpg",
           "dict://good.example", "ldap://good.example", "unix:///var/run/docker.sock", "jar:https://good.example!/",
           "//good.example/a.jpg", "good.example/a.jpg", "https:good.example", "https:/good.example", "https:///a.jpg",
           "https://", PLAIN, "https://good.example/\r\nHost: x", "https://good.example/ a",
           "https://good.example/\x00", "https://good.example/" + "a" * MIB, "javascript:alert(1)",
           "https://good.example/a#b", "HTTPS:\\\\good.example\\a"]  # fmt: skip
VECTORS = [*(f"https://{host}/a.jpg" for host in HOSTS), *(f"http://{host}/" for host in HOSTS[:12]), *SCHEMES]

Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Site:
    """A raw HTTP server at the address that is allowed, and a canary at 127.0.0.1, on the same port."""

    port: int = 0
    canary_hits: int = 0
    heads: list[bytes] = field(default_factory=list)
    reply: bytes = b""
    after: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Each answer of a name in turn, the last one for ever."""
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def fetcher(self, **changes: object) -> Fetcher:
        told = {"allow_urls": True, "url_http": True, "url_networks": f"{PUBLIC}/32", "url_ports": str(self.port)}
        asked = Fetching(**{**told, "url_seconds": 2.0, **changes})  # type: ignore[arg-type]
        return Fetcher(settings=asked, most_bytes=MIB, resolve=self.resolve, tls=TLS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.reply)
            await writer.drain()
            if self.after is not None:
                await self.after(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    there = Site(names={"good.example": [[PUBLIC]]})

    async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.canary_hits += 1
        writer.close()

    async with await asyncio.start_server(there.serve, PUBLIC, 0) as public:
        there.port = public.sockets[0].getsockname()[1]
        async with await asyncio.start_server(canary, "127.0.0.1", there.port):
            yield there


def answer(body: bytes, kind: str = "image/jpeg", status: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


async def refused(fetcher: Fetcher, url: str) -> Problem:
    with pytest.raises(Problem) as found:
        await fetcher.fetch(url)
    return found.value


def test_case_84_over_http_every_hostile_url_is_a_422_with_the_same_words() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--allow-urls") as there:
            texts = set()
            for url in VECTORS:
                found = await there.post({"image": {"url": url}})
                reason = "bad_request_body" if len(url) > 2048 else "url_not_allowed"
                assert (found.status, found.reason) == (422, reason), url[:80]
                if reason == "url_not_allowed":
                    texts.add(str({**found.json, "id": ""}))
            assert len(texts) == 1 and len(VECTORS) >= 80

    asyncio.run(scene())


def test_urls_are_off_unless_they_are_allowed() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            found = await there.post({"image": {"url": "https://good.example/a.jpg"}})
            assert (found.status, found.reason) == (422, "url_not_allowed")

    asyncio.run(scene())


def test_case_85_no_spelling_of_an_address_inside_reaches_the_canary() -> None:
    async def scene() -> None:
        async with site() as there:
            for vector in (each for each in VECTORS if each != PLAIN):  # here http is allowed
                url = vector.replace("/a.jpg", f":{there.port}/a.jpg")
                assert (await refused(there.fetcher(), url)).reason == "url_not_allowed", url[:80]
            for number, address in enumerate(FORBIDDEN):
                there.names[f"n{number}.example"] = [[address]]
                problem = await refused(there.fetcher(), f"http://n{number}.example:{there.port}/")
                assert problem.reason == "url_not_allowed", address
            unknown = await refused(there.fetcher(), f"http://nowhere.example:{there.port}/")
            assert unknown.body("") == problem.body("")
            assert there.canary_hits == 0 and there.heads == []

    asyncio.run(scene())


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_inside_is_not_allowed(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address))


@settings(max_examples=500, deadline=None)
@given(st.ip_addresses(v=4))
def test_no_tunnel_of_an_address_is_allowed_that_is_not_allowed_itself(inside: ipaddress.IPv4Address) -> None:
    number = int(inside)
    tunnels = (number, (0xFFFF << 32) | number, (0x64FF9B << 96) | number, (0x2002 << 112) | (number << 80))
    assert not any(is_allowed(ipaddress.IPv6Address(each)) for each in tunnels)
    if not inside.is_global:
        assert not is_allowed(inside)


def test_case_86_every_hop_of_a_redirect_is_judged_anew_and_there_are_at_most_three() -> None:
    async def scene() -> None:
        async with site() as there:
            there.names["inside.example"] = [["127.0.0.1"]]
            good = f"http://good.example:{there.port}"
            targets = [f"http://127.0.0.1:{there.port}/", f"http://inside.example:{there.port}/", "file:///etc/passwd"]
            targets += [f"http://good.example@127.0.0.1:{there.port}/", f"//127.0.0.1:{there.port}/", "gopher://x/"]
            for target in [*targets, "http://good.example:22/"]:
                there.reply = redirect(target)
                assert (await refused(there.fetcher(), f"{good}/a")).reason == "url_not_allowed", target
            there.heads.clear()
            there.reply = redirect("/again")
            assert (await refused(there.fetcher(), f"{good}/a")).reason == "fetch_failed"
            assert len(there.heads) == 4 and there.canary_hits == 0

    asyncio.run(scene())


def test_case_86_a_name_is_resolved_once_all_its_answers_count_and_the_judged_one_is_dialled() -> None:
    async def scene() -> None:
        async with site() as there:
            there.reply = answer(jpeg())
            there.names |= {"rebinding.example": [[PUBLIC], ["127.0.0.1"]], "mixed.example": [[PUBLIC, "127.0.0.1"]]}
            url = f"http://rebinding.example:{there.port}/a.jpg"
            assert await there.fetcher().fetch(url) == jpeg() and there.asked == ["rebinding.example"]
            assert (await refused(there.fetcher(), url)).reason == "url_not_allowed"
            assert (await refused(there.fetcher(), f"http://mixed.example:{there.port}/")).reason == "url_not_allowed"
            assert there.canary_hits == 0 and len(there.heads) == 1
            head = there.heads[0].lower()
            assert f"host: rebinding.example:{there.port}".encode() in head and b"accept-encoding: identity" in head
            assert b"cookie" not in head and b"authorization" not in head

    asyncio.run(scene())


def test_case_87_a_server_that_dawdles_floods_or_packs_is_given_up_on_within_its_time_and_bytes() -> None:
    async def dawdle(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def flood(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            await writer.drain()

    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"
    scripts: list[tuple[bytes, Callable[[asyncio.StreamWriter], Awaitable[None]] | None, str]] = [
        (b"HTTP/1.1 200 OK\r\nX: ", dawdle, "fetch_failed"),
        (head + b"Content-Length: 1000000\r\n\r\n", dawdle, "fetch_failed"),
        (head + b"Transfer-Encoding: chunked\r\n\r\n", flood, "fetch_too_large"),
        (head + b"Content-Length: 10000000000\r\n\r\n", None, "fetch_too_large"),
        (answer(b"\x1f\x8b" + b"x" * 100, "image/jpeg", "200 OK", "Content-Encoding: gzip"), None, "fetch_failed"),
        (answer(b"<html>", "text/html"), None, "fetch_failed"),
        (answer(b"no", "image/jpeg", "404 Not Found"), None, "fetch_failed"),
        (head + b"Content-Length: 100\r\n\r\nshort", None, "fetch_failed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None, "fetch_failed"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000, None, "fetch_failed"),
        (b"", None, "fetch_failed"),
    ]

    async def scene() -> None:
        async with site() as there:
            url = f"http://good.example:{there.port}/a.jpg"
            for there.reply, there.after, reason in scripts:
                began = asyncio.get_running_loop().time()
                assert (await refused(there.fetcher(url_seconds=0.5), url)).reason == reason, there.reply[:60]
                assert asyncio.get_running_loop().time() - began < 3
            there.reply, there.after = answer(b"x" * 10), None
            assert (
                await refused(there.fetcher(), f"http://good.example:{there.port + 1}/")
            ).reason == "url_not_allowed"

    asyncio.run(scene())


def test_a_picture_or_clip_by_url_is_captioned_as_one_that_was_sent() -> None:
    async def scene() -> None:
        async with site() as there, served(*FAKE, "--allow-urls") as service:
            there.reply = answer(jpeg())
            object.__setattr__(service.server.front, "fetcher", there.fetcher())
            found = await service.post({"image": {"url": f"http://good.example:{there.port}/a.jpg"}})
            assert found.status == 200 and found.json["caption"] == (await service.upload(jpeg())).json["caption"]
            there.reply = answer(plain(), "video/mp4")
            found = await service.post({"video": {"url": f"http://good.example:{there.port}/a.mp4"}})
            assert found.status == 200 and found.json["duration"] == 3.0
            assert b"\r\naccept: image/*, video/*\r\n" in there.heads[-1].lower()

    asyncio.run(scene())


def test_only_hosts_of_the_list_are_asked_where_there_is_one() -> None:
    async def scene() -> None:
        async with site() as there:
            there.reply = answer(jpeg())
            there.names["other.example"] = [[PUBLIC]]
            fetcher = there.fetcher(url_hosts="good.example, pictures.example")
            assert await fetcher.fetch(f"http://good.example:{there.port}/a.jpg") == jpeg()
            assert (await refused(fetcher, f"http://other.example:{there.port}/a.jpg")).reason == "url_not_allowed"

    asyncio.run(scene())


def test_names_that_never_answer_hold_up_no_other_name_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *more: Any, **named: Any) -> Any:
        if not host.startswith("never"):
            return real(host, *more, **named)
        gate.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def scene() -> None:
        lost = [asyncio.create_task(resolved(f"never{number}.example", 443)) for number in range(MOST_LOOKUPS - 1)]
        async with asyncio.timeout(20):
            await asyncio.sleep(0)
            assert await resolved("127.0.0.1", 443) == ["127.0.0.1"]
            lost.append(asyncio.create_task(resolved("never.example", 443)))
            await asyncio.sleep(0)
            with pytest.raises(Problem, match="overloaded"):
                await resolved("127.0.0.1", 443)
        for each in lost:
            each.cancel()

    try:
        asyncio.run(scene())  # and does not wait for the gate
        assert not gate.is_set()
    finally:
        gate.set()

"""Cases 79 to 83 of the list of faults: bodies that are too large, too slow, or not what they say."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from base64 import b64encode
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.requests import Request

from captioner.media.clip_format import kind_of
from captioner.prompts import MAX_CHARACTERS
from serving.bodies import CaptionBody, checked_prompt, from_json, wish_of
from serving.chat import ChatBody
from serving.front import body_of
from serving.problems import Problem
from tests.pictures import BAD_PICTURES, made
from tests.serving.served import FAKE, in_base64, jpeg, served

HEAD = b"POST /v1/captions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"


def part(name: str = "image", data: bytes = b"x", more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_case_79_a_body_over_the_limit_is_a_413_before_it_is_read_and_the_connection_is_closed() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--body-mib", "2") as there:
            answer = await there.raw(HEAD + FORM + b"Content-Length: 700000000\r\n\r\n", wait=5)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ") and b"connection: close" in head.lower()
            assert b'"reason":"body_too_large"' in body

    asyncio.run(scene())


def test_case_79_a_chunked_body_is_a_413_as_soon_as_it_passes_the_limit_and_little_of_it_is_held() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--body-mib", "8") as there:
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(HEAD + FORM + b"Transfer-Encoding: chunked\r\n\r\n")
            before, sent, piece = resident(), 0, b"40000\r\n" + b"x" * 0x40000 + b"\r\n"
            answering = asyncio.create_task(reader.read())
            try:
                while sent < 200 * 2**20 and not answering.done():
                    writer.write(piece)
                    sent += 0x40000
                    await asyncio.wait_for(writer.drain(), 5)
                    if sent == 7 * 2**20:
                        held = resident() - before
            except (ConnectionError, TimeoutError):
                pass
            try:
                answer = await asyncio.wait_for(answering, 5)
                assert answer.startswith(b"HTTP/1.1 413 ")
            except ConnectionError:
                pass  # it was closed on a client that would not stop
            assert sent <= 20 * 2**20 and held < 4 * 2**20, (sent, held)
            assert (await there.upload(jpeg())).status == 200

    asyncio.run(scene())


def test_a_chunked_body_that_also_tells_a_length_is_refused_for_it_would_be_held_as_that_many_bytes() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            both = b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            answer = await there.raw(HEAD + FORM + both + b"100000\r\n" + b"x" * 2**20, wait=10)
            assert answer.startswith(b"HTTP/1.1 400 ") and b"not both" in answer
            assert there.server.service._held == 0

    asyncio.run(scene())


def test_case_80_a_stalled_head_and_a_stalled_body_are_a_408_and_closed() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--header-seconds", "0.5", "--body-seconds", "0.6") as there:
            heads = (b"", b"POST /v1/capt", HEAD)
            length = b"Content-Length: 1000\r\n\r\n"
            chunked = b"Transfer-Encoding: chunked\r\n\r\n5\r\n--b"
            bodies = (HEAD + FORM + each for each in (length, length + b"--b\r\nContent-", chunked))
            for answer in await asyncio.gather(*(there.raw(stalled, wait=5) for stalled in (*heads, *bodies))):
                assert answer.startswith(b"HTTP/1.1 408 ") and b"request_timeout" in answer

    asyncio.run(scene())


def test_case_80_a_body_that_trickles_in_does_not_live_longer_than_one_that_stalls() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--body-seconds", "0.6") as there:
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(HEAD + FORM + b"Content-Length: 100000\r\n\r\n")
            answering = asyncio.create_task(reader.read())
            async with asyncio.timeout(5):
                while not answering.done():
                    writer.write(b"x")
                    await asyncio.sleep(0.05)
            assert answering.result().startswith(b"HTTP/1.1 408 ")

    asyncio.run(scene())


def test_a_second_head_on_a_connection_has_its_time_too() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--header-seconds", "0.5") as there:
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
            writer.write(b"GET /livez HT")
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")
            writer.close()

    asyncio.run(scene())


def test_at_the_limit_of_connections_the_longest_silent_one_makes_room() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--connections", "8") as there:
            silent = [await asyncio.open_connection("127.0.0.1", there.port) for _ in range(20)]
            assert (await there.upload(jpeg())).status == 200
            closed = [each for each in silent if each[0].at_eof() or b"408" in await _now(each[0])]
            assert len(closed) >= 12
            for _, writer in silent:
                writer.close()

    async def _now(reader: asyncio.StreamReader) -> bytes:
        try:
            return await asyncio.wait_for(reader.read(100), 0.05)
        except TimeoutError:
            return b""

    asyncio.run(scene())


@pytest.mark.parametrize(
    "body",
    [
        b"".join(part(f"p{n}") for n in range(1000)) + b"--b--\r\n",
        part(more="; x=" + "y" * 10_000_000) + b"--b--\r\n",
        b"z" * 10_000_000 + b"\r\n" + part() + b"--b--\r\n",
        part(data=b"x" * 1000),
        b"--b\r\n" + b"A: b\r\n" * 2000 + b"\r\nx\r\n--b--\r\n",
        b"",
        b"--b",
        b"--b\r\n\r\n" + b"\r\n--b--",
    ],
    ids=["1000 parts", "10 MB header", "10 MB preamble", "no end", "2000 headers", "empty", "cut", "no name"],
)
def test_case_81_a_hostile_form_costs_little_and_is_a_400(body: bytes) -> None:
    spent = []
    for _ in range(3):  # what runs beside us on the machine can only add
        began = time.process_time()
        with pytest.raises(Problem) as found:
            wish_of("multipart/form-data; boundary=b", body)
        spent.append(time.process_time() - began)
        assert found.value.reason in ("bad_multipart", "bad_request_body")
    assert min(spent) <= 0.05


def test_case_81_over_http_a_hostile_form_is_a_400() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            for body in (b"".join(part(f"p{n}") for n in range(1000)), part(more="; x=" + "y" * 2**20), b"z" * 2**20):
                found = await there.ask("POST", "/v1/captions", body, headers)
                assert (found.status, found.reason) in ((400, "bad_multipart"), (422, "bad_request_body"))

    asyncio.run(scene())


GOOD = b64encode(jpeg()).decode()
BODIES: list[tuple[str, Any]] = [
    ("image.base64", {"image": {"base64": GOOD.rstrip("=") + "A"}}),
    ("image.base64", {"image": {"base64": GOOD[:80] + "\n" + GOOD[80:]}}),
    ("image.base64", {"image": {"base64": " " + GOOD}}),
    ("image.base64", {"image": {"base64": "data:text/html;base64," + GOOD}}),
    ("image.base64", {"image": {"base64": "data:image/jpeg," + GOOD}}),
    ("image.base64", {"image": {"base64": ""}}),
    ("image.base64", {"image": {"base64": "é" + GOOD}}),
    ("image.base64", {"image": {"base64": 5}}),
    ("image", {"image": {"base64": GOOD, "url": "https://example.org/a.jpg"}}),
    ("image", {"image": {}}),
    ("image", {"image": GOOD}),
    ("image", {"image": None}),
    ("image", {}),
    ("image", []),
    ("the body", b"{"),
    ("the body", b"\xff\xfe"),
    ("the body", b'{"image": ' + b"[" * 100_000),
    ("prompt", {"image": {"base64": GOOD}, "prompt": ""}),
    ("prompt", {"image": {"base64": GOOD}, "prompt": 7}),
    ("prompt", {"image": {"base64": GOOD}, "prompt": "x" * 5000}),
    ("max_tokens", {"image": {"base64": GOOD}, "max_tokens": 0}),
    ("max_tokens", {"image": {"base64": GOOD}, "max_tokens": 1e9}),
    ("max_tokens", {"image": {"base64": GOOD}, "max_tokens": True}),
    ("max_tokens", {"image": {"base64": GOOD}, "max_tokens": "12"}),
    ("temperature", {"image": {"base64": GOOD}, "temperature": 1}),
    ("image.media_io_kwargs", {"image": {"base64": GOOD, "media_io_kwargs": {}}}),
    ("?", {"image": {"base64": GOOD}, "\x1b[31m\r\n": 1}),
]


def test_case_82_a_body_that_is_not_what_it_should_be_is_a_422_that_names_the_field() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for field, body in BODIES:
                found = await there.post(body)
                assert (found.status, found.reason) == (422, "bad_request_body"), body
                detail = found.json["detail"]
                assert detail.isprintable() and (field in detail or (field == "image" and "the body" in detail)), detail
            good = await there.post({"image": {"base64": "data:image/jpeg;base64," + GOOD}})
            assert good.status == 200

    asyncio.run(scene())


def test_bodies_of_many_little_things_are_refused_before_they_are_parsed() -> None:
    many = 2**18
    chat = b'{"model": "m", "messages": [{"role": "user", "content": [%s]}]}'
    bodies: list[tuple[type[BaseModel], bytes]] = [
        (ChatBody, chat % b",".join([b"0"] * many)),
        (ChatBody, chat % b",".join([b'{"type": "text", "text": "a"}'] * many)),
        (ChatBody, chat % (b"[" * many)),
        (CaptionBody, b'{"image": {}, %s}' % b",".join(b'"%d":0' % number for number in range(many))),
        (CaptionBody, b'{"image": {}, "more": [%s]}' % b",".join([b"0"] * many)),
    ]
    for kind, body in bodies:
        with pytest.raises(Problem) as found:
            from_json(kind, body)
        assert "quotes, commas and brackets" in found.value.detail
    words = "a, b " * (MAX_CHARACTERS // 5)
    assert from_json(CaptionBody, json.dumps({**in_base64(jpeg()), "prompt": words}).encode()).prompt == words


def test_a_picture_full_of_boundaries_is_refused_before_it_is_parsed() -> None:
    body = part(data=b"\r\n--bx" * 2**18) + b"--b--\r\n"
    with pytest.raises(Problem) as found:
        wish_of("multipart/form-data; boundary=b", body)
    assert found.value.reason == "bad_multipart" and "parts would be right" in found.value.detail
    full = b"".join(part(name, data=b"2") for name in ("image", "prompt", "max_tokens")) + b"--b--\r\n"
    assert wish_of("multipart/form-data; boundary=b", full).max_tokens == 2


def test_a_part_s_name_may_stand_without_quotes_as_some_clients_write_it() -> None:
    bare = (
        b"--b\r\nContent-Disposition: form-data; name=%s; filename=a.jpg; filename*=utf-8''a.jpg\r\n\r\nx\r\n--b--\r\n"
    )
    assert wish_of('multipart/form-data; boundary="b"', bare % b"image").media == b"x"
    for name in (b"images", b'"image', b'image"', b"ima-ge"):
        with pytest.raises(Problem, match="bad_request_body"):
            wish_of("multipart/form-data; boundary=b", bare % name)


@pytest.mark.parametrize(
    "prompt",
    [
        "One line.\r\nAnother.",
        "خانه\u200cها را بشمار",
        "Who are they? 👩\u200d👧",
        "Décrivez\u00a0: vite",
        "שלום\u200f.",
        "写真は？",
    ],
)
def test_a_prompt_of_any_language_is_taken_by_form_and_json_and_its_lines_end_alike(prompt: str) -> None:
    form = part() + part("prompt", prompt.encode()) + b"--b--\r\n"
    given = [
        wish_of("multipart/form-data; boundary=b", form),
        wish_of("application/json", json.dumps({**in_base64(b"x"), "prompt": prompt}).encode()),
    ]
    assert [each.prompt for each in given] == [prompt.replace("\r\n", "\n")] * 2


def test_a_prompt_as_long_as_it_may_be_is_not_too_long_because_a_form_ends_its_lines_by_two_characters() -> None:
    words = "ab\r\n" * (MAX_CHARACTERS // 3)
    form = part() + part("prompt", words.encode()) + b"--b--\r\n"
    assert wish_of("multipart/form-data; boundary=b", form).prompt == words.replace("\r\n", "\n").strip()


@pytest.mark.parametrize(
    "prompt", ["<|im\u200b_start|>", "<\u200d|im_end|>", "＜|im_start|>", "a\x1bb", "a\u0085b", "\ue000", "\u200b"]
)
def test_a_prompt_with_a_control_or_a_token_is_refused_whatever_hides_it(prompt: str) -> None:
    with pytest.raises(Problem, match="bad_request_body"):
        checked_prompt(prompt)


def test_case_82_another_kind_of_body_is_a_415() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for kind in ("text/plain", "image/jpeg", "application/x-www-form-urlencoded", "multipart/mixed", "x"):
                found = await there.ask("POST", "/v1/captions", jpeg(), {"Content-Type": kind})
                assert (found.status, found.reason) == (415, "unsupported_media_type"), kind

    asyncio.run(scene())


def test_case_83_bad_pictures_are_422_with_our_reasons_and_no_words_of_a_library() -> None:
    async def scene() -> None:
        as_datacomp = ("--resolution.more-than", "512", "--resolution.mode", "both", "--body-mib", "64")
        async with served(*FAKE, *as_datacomp) as there:
            for bad in BAD_PICTURES:
                found = await there.upload(media := made(bad))
                reason = bad.reason if media else "bad_request_body"
                if kind_of(media) == "video":  # here it is taken for what it is, and this one is cut
                    reason = "bad_container"
                assert (found.status, found.reason) == (422, reason), bad.name
                words = json.dumps([found.json["title"], found.json.get("detail", "")])
                assert not any(each in words for each in ("0x7", "Traceback", "PIL", "Error", "/usr", "/lib")), words
            assert (await there.post(in_base64(jpeg()))).status == 200

    asyncio.run(scene())


def test_heads_that_are_none_or_too_large_are_refused_and_closed() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            many = b"".join(b"X-%d: y\r\n" % n for n in range(200))
            long = b"X-Long: " + b"y" * 30_000 + b"\r\n"
            for head, status in ((many, b"431"), (long, b"431"), (b"X: " + b"y" * 66_000, b"400")):
                answer = await there.raw(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n", wait=5)
                assert answer.startswith(b"HTTP/1.1 " + status), answer[:80]
            for wrong in (b"\x16\x03\x01", b"GET /\x00 HTTP/1.1\r\n\r\n", b"hello\r\n\r\n"):
                answer = await there.raw(wrong + b"\r\n\r\n", wait=5)
                assert answer.startswith(b"HTTP/1.1 400 ") and b"uvicorn" not in answer
            path = await there.raw(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", wait=5)
            assert path.startswith(b"HTTP/1.1 431 ")

    asyncio.run(scene())


def test_all_pictures_under_way_may_hold_so_many_bytes_and_no_more() -> None:
    async def scene() -> None:
        slow = ("--pace.slots", "8", "--fake.seconds", "0.5", "--held-mib", "1", "--body-mib", "1")
        async with served(*FAKE, *slow, "--resolution.more-than", "0") as there:
            size = 2**20 * 2 // 5
            asks = [there.upload(jpeg(n) + b"\0" * (size - len(jpeg(n)))) for n in range(4)]
            found = await asyncio.gather(*asks)
            assert sorted(each.status for each in found) == [200, 200, 503, 503]

    asyncio.run(scene())


def test_a_body_that_has_been_parsed_is_let_go_of_while_its_picture_waits_for_the_answer() -> None:
    async def scene() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(1000), "more_body": False}

        async with served(*FAKE) as there:
            app = SimpleNamespace(state=SimpleNamespace(front=there.server.front))
            request = Request({"type": "http", "headers": [], "app": app}, receive)
            bodies: list[bytes] = []
            deadline = asyncio.get_running_loop().time() + 30
            async with body_of(request, deadline, bodies.append):
                references = sys.getrefcount(bodies[0])
                assert references == 2  # the list's, and that of the count
                assert len(bodies[0]) == 1000 == there.server.service._held
            assert there.server.service._held == 0

    asyncio.run(scene())

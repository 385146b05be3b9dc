"""One picture in, one caption out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.keys import Key, add_key
from tests.pictures import photo, stored
from tests.scripted_engine import ScriptedEngine, caption
from tests.serving.served import FAKE, in_base64, jpeg, png, served


def scripted(engine: ScriptedEngine, *words: str) -> tuple[str, ...]:
    return ("--engine", "vllm", "--model", engine.model, "--preset", "qwen2-vl", "--endpoints", engine.url,
            "--metrics-port", "-1", *words)  # fmt: skip


def test_a_form_and_json_give_the_same_caption_with_all_that_a_record_has() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--cache-entries", "0") as there:
            form, body = await there.upload(jpeg()), await there.post(in_base64(jpeg()))
            assert form.status == body.status == 200
            assert form.json["caption"] == body.json["caption"] and form.json["id"] != body.json["id"]
            told = form.json
            assert told["accepted"] is True and told["reason"] is None and told["finish_reason"] == "stop"
            assert (told["engine"], told["model"], told["prompt_id"]) == ("fake", "recap-fake", "describe-image-1")
            assert (told["width"], told["height"]) == (540, 540)
            assert told["usage"]["completion_tokens"] > 0 and told["signals"]["length.words"] > 0
            assert "engine;dur=" in form.headers["server-timing"]

    asyncio.run(scene())


def test_a_dropped_caption_comes_with_its_text_and_the_reason_that_a_batch_would_have_given() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--fake.refused", "0", "--length.min-words", "500") as there:
            found = await there.upload(jpeg())
            assert found.status == 200
            assert found.json["accepted"] is False and found.json["reason"] == "too_short" and found.json["caption"]
            assert found.json["attempts"] == 3

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (stored(photo(200, 200)), "below_min_resolution"),
        (stored(photo(2600, 260)), "extreme_aspect"),
        (jpeg()[:3000], "truncated_image"),
        (b"no picture at all", "undecodable"),
        (b"%PDF-1.7 ", "unsupported_format"),
    ],
)
def test_a_bad_picture_is_a_422_with_the_reason_that_a_batch_would_have_given(media: bytes, reason: str) -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            found = await there.upload(media)
            assert (found.status, found.reason) == (422, reason)

    asyncio.run(scene())


def test_an_engine_sees_pixels_of_ours_and_the_words_that_were_asked_for() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            media = png()
            found = await there.post(in_base64(media) | {"prompt": "Name the colours.", "max_tokens": 77})
            assert found.status == 200 and found.json["prompt_id"].startswith("request-")
            asked = engine.asked[0]
            assert asked.prompt == "Name the colours." and asked.body["max_tokens"] == 77
            assert b"data:image/jpeg;base64," in asked.raw and media[:40] not in asked.raw
            usual = await there.upload(media)
            assert usual.json["prompt_id"] == "describe-image-1" and engine.asked[1].prompt == "Describe this image."

    asyncio.run(scene())


def test_a_prompt_with_special_tokens_is_refused_and_the_experts_take_none() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for prompt in ("Say <|im_start|>system", "</s>", "  ", "a\x00b"):
                found = await there.post(in_base64(jpeg()) | {"prompt": prompt})
                assert (found.status, found.reason) == (422, "bad_request_body") and "prompt" in found.json["detail"]

    asyncio.run(scene())


def test_an_echo_of_the_request_s_own_prompt_is_no_good_caption() -> None:
    async def scene() -> None:
        words = "Name every colour that you can find here, please."
        async with ScriptedEngine(otherwise=caption(words)) as engine, served(*scripted(engine)) as there:
            found = await there.post(in_base64(jpeg()) | {"prompt": words})
            assert found.json["accepted"] is False and found.json["reason"] == "prompt_echo"

    asyncio.run(scene())


def test_the_same_picture_is_asked_once_and_anew_where_that_is_wished() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            first, again = await there.upload(jpeg()), await there.upload(jpeg())
            assert (first.json["cached"], again.json["cached"], len(engine.asked)) == (False, True, 1)
            assert (await there.upload(jpeg(), Cache_Control="no-cache")).json["cached"] is False
            assert (await there.post(in_base64(jpeg()) | {"max_tokens": 9})).json["cached"] is False
            assert len(engine.asked) == 3

    asyncio.run(scene())


def test_no_tenant_has_another_s_answers_neither_by_the_picture_nor_by_an_idempotency_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    names = (("one", "alice"), ("two", "alice"), ("one-of-bob", "bob"))
    keys = [add_key(path, Key(name=name, tenant=tenant, sha256="0" * 64), days=1) for name, tenant in names]
    asks = [{"Authorization": f"Bearer {key}"} for key in keys]

    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine), "--keys", str(path)) as there:
            found = [(await there.upload(jpeg(), **ask)).json["cached"] for ask in asks]
            assert found == [False, True, False] and len(engine.asked) == 2
            again = [
                await there.upload(jpeg(n), **ask, Idempotency_Key="1") for n, ask in zip((1, 1, 2), asks, strict=True)
            ]
            assert [each.status for each in again] == [200, 200, 200] and len(engine.asked) == 4
            assert again[0].json["id"] == again[1].json["id"] != again[2].json["id"]

    asyncio.run(scene())


def test_who_captions_is_told_without_where_it_is() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            await there.upload(jpeg())
            found = await there.get("/v1/engines")
            assert found.json["serving"] is True and found.json["replicas"][0]["state"] == "serving"
            assert found.json["takes_prompt"] is True and str(engine.port) not in found.body.decode()

    asyncio.run(scene())


def test_what_answers_a_get_answers_a_head_without_the_body() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for path in ("/livez", "/", "/static/caption.js"):
                head, whole = await there.ask("HEAD", path, None, {}), await there.get(path)
                assert (head.status, head.body) == (200, b"")
                assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))
            assert (await there.ask("HEAD", "/v1/captions", None, {})).headers["allow"] == "POST"

    asyncio.run(scene())


def test_metrics_stand_on_a_port_of_their_own_and_name_replicas_as_workers_do() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine), "--metrics-port", "0") as there:
            await there.upload(jpeg())
            await asyncio.sleep(0.5)
            assert (await there.get("/metrics")).status == 404
            place = there.metrics
            async with there.session.get(place) as response:
                text = await response.text()
            assert 'recap_http_requests_total{reason="none",route="/v1/captions",status="200"} 1.0' in text
            assert f'recap_replica_answers_total{{replica="{engine.url}"}} 1.0' in text

    asyncio.run(scene())

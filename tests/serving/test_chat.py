"""Clients of the OpenAI protocol get captions."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import openai
import pytest

from tests.scripted_engine import TEXT, ScriptedEngine
from tests.serving.served import FAKE, Served, jpeg, served
from tests.serving.test_captions import scripted


def messages(media: bytes, text: str = "What is in it?") -> Any:
    url = "data:image/jpeg;base64," + b64encode(media).decode()
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "system", "content": "You are terse."}, {"role": "user", "content": parts}]


def client(there: Served) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{there.url}/v1", api_key="none", max_retries=0)


def test_the_openai_client_gets_a_caption_whole_and_word_by_word() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there, client(there) as ai:
            assert [each.id async for each in ai.models.list()] == ["tiny"]
            found = await ai.chat.completions.create(model="tiny", messages=messages(jpeg()), max_tokens=60)
            assert found.choices[0].message.content == TEXT and found.choices[0].finish_reason == "stop"
            assert found.usage is not None and found.usage.completion_tokens > 0
            assert found.model_extra is not None and found.model_extra["recap"]["accepted"] is True
            assert engine.asked[0].prompt == "What is in it?" and engine.asked[0].body["max_tokens"] == 60
            stream = await ai.chat.completions.create(model="tiny", messages=messages(jpeg(2)), stream=True)
            words = [each.choices[0].delta.content or "" async for each in stream]
            assert "".join(words) == TEXT and len(words) > 10
            counted: Any = {"stream": True, "stream_options": {"include_usage": True}}
            events = [
                each
                async for each in await ai.chat.completions.create(model="tiny", messages=messages(jpeg()), **counted)
            ]
            assert events[-1].choices == [] and events[-1].usage is not None and events[-2].usage is None
            assert events[-1].usage.completion_tokens == found.usage.completion_tokens

    asyncio.run(scene())


def test_what_is_refused_tells_an_openai_client_why() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there, client(there) as ai:
            with pytest.raises(openai.UnprocessableEntityError) as bad:
                await ai.chat.completions.create(model="x", messages=messages(b"no picture"))
            assert bad.value.code == "undecodable"
            with pytest.raises(openai.UnprocessableEntityError) as two:
                await ai.chat.completions.create(model="x", messages=messages(jpeg()), n=2)
            assert two.value.code == "bad_request_body" and "n: Input should be less than" in two.value.message
            for said in ("just text", [{"type": "text", "text": "no picture"}]):
                with pytest.raises(openai.UnprocessableEntityError):
                    await ai.chat.completions.create(model="x", messages=[{"role": "user", "content": said}])  # type: ignore[list-item,misc]
            inside: Any = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.jpg"}}]
            with pytest.raises(openai.UnprocessableEntityError) as led:
                await ai.chat.completions.create(model="x", messages=[{"role": "user", "content": inside}])
            assert led.value.code == "url_not_allowed"

    asyncio.run(scene())

"""What any OpenAI-compatible server is asked in these tests, in the plainest way."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

KEY = "sk-of-a-test-9f27"
BEARER = {"Authorization": f"Bearer {KEY}"}
PROMPT = "Describe this image in detail."
TIMEOUT = aiohttp.ClientTimeout(total=120)


class Refusal(Exception):
    """A status other than 200, or no answer at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def question(jpeg: bytes, max_tokens: int) -> dict[str, Any]:
    """One picture and a prompt, to be answered greedily."""
    data = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    content = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": PROMPT}]
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": max_tokens}


async def caption(url: str, jpeg: bytes, max_tokens: int = 24) -> Reply:
    """One caption. Raises Refusal."""
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, headers=BEARER) as session,
            session.post(f"{url}/v1/chat/completions", json=question(jpeg, max_tokens)) as answer,
        ):
            if answer.status != 200:
                raise Refusal(f"{answer.status}: {(await answer.text())[:500]}")
            told = await answer.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Refusal(f"{type(error).__name__}: {error}") from error
    (choice,) = told["choices"]
    return Reply(
        text=choice["message"]["content"],
        finish_reason=choice["finish_reason"],
        prompt_tokens=told["usage"]["prompt_tokens"],
        completion_tokens=told["usage"]["completion_tokens"],
    )


async def models(url: str, headers: Mapping[str, str] = BEARER) -> list[str]:
    """The names that it serves. Raises Refusal."""
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session,
            session.get(f"{url}/v1/models") as answer,
        ):
            if answer.status != 200:
                raise Refusal(f"{answer.status}: {(await answer.text())[:500]}")
            return [each["id"] for each in (await answer.json())["data"]]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Refusal(f"{type(error).__name__}: {error}") from error

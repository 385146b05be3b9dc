"""POST /v1/chat/completions and GET /v1/models: as much of the OpenAI protocol as a client that captions needs."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from captioner.prompts import MAX_CHARACTERS
from serving.answers import PNG_EXAMPLE, problems
from serving.bodies import MOST_TOKENS, MOST_URL, Wish, checked_prompt, from_base64, from_json
from serving.captions import ASKING, LOOKING, media_of
from serving.front import Front, body_of, front_of, json_response, problem_response, while_connected
from serving.keys import Key
from serving.problems import Problem
from serving.service import Answer, Asked

router = APIRouter()
_WORD = re.compile(r"\s*\S+\s*")


class ImageUrl(BaseModel):
    """A data URL, or an https URL where this service fetches any."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(BaseModel):
    """The picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class TextPart(BaseModel):
    """The prompt, where the engine takes any."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)]


class ChatMessage(BaseModel):
    """What the user says, or a system message, which is not passed on."""

    role: Literal["system", "developer", "user"]
    content: str | list[Annotated[ImagePart | TextPart, Field(discriminator="type")]]


class StreamOptions(BaseModel):
    """include_usage: whether a last event, of no choices, tells the tokens."""

    model_config = ConfigDict(strict=True)
    include_usage: bool | None = None


class ChatBody(BaseModel):
    """One picture to caption, as an OpenAI client asks for it. Sampling is the preset's; what says otherwise is not
    passed on."""

    model_config = ConfigDict(extra="ignore", strict=True)
    model: str = Field(max_length=300)
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=8)]
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


_EXAMPLE = {
    "model": "recap-experts",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Describe this image."},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_EXAMPLE}"}},
            ],
        }
    ],
}
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/ChatBody"},
            "examples": {"one": {"value": _EXAMPLE}},
        }
    },
}


@router.post(
    "/v1/chat/completions",
    summary="Caption one picture, by the OpenAI protocol",
    responses={
        200: {
            "description": "A chat completion, or its events where `stream` is asked for",
            "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
        },
        **problems(*ASKING),
    },
    openapi_extra={"requestBody": _BODY, "security": [{"key": []}, {}]},
)
async def chat(request: Request) -> Response:
    """The last user message's picture and text. `recap` in the answer says what a batch run would have done with it.

    Streamed words come once the whole caption has been judged. Text is not used where the engine takes no prompt.
    """
    try:
        return await _completed(request)
    except Problem as problem:
        words = f"{problem.kind.title}: {problem.detail}" if problem.detail else problem.kind.title
        told = {"message": words, "type": "invalid_request_error", "code": problem.reason}
        shown = {**(problem.shown or {}), "error": {**told, "param": None}}
        problem.shown = shown  # where OpenAI's clients look
        return problem_response(request, problem)


async def _completed(request: Request) -> Response:
    front = front_of(request)
    key, deadline = front.who(request, "caption"), front.deadline(request)
    with front.service.shares.take(key):
        front.look(deadline)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem("unsupported_media_type")
        async with body_of(request, deadline, partial(_parsed, front)) as (wish, streamed, counted):
            answer = await while_connected(request, _answer(front, key, wish, deadline))
    model = front.service.recipe.model
    if streamed:
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(_events(answer, model, counted), media_type="text/event-stream", headers=headers)
    return json_response(_completion(answer, model), {"Cache-Control": "no-store"})


async def _answer(front: Front, key: Key, wish: Wish, deadline: float) -> Answer:
    async with media_of(front, key, wish, deadline) as media:
        return await front.service.answer(Asked(key=key, wish=wish, media=media, deadline=deadline))


def _parsed(front: Front, body: bytes) -> tuple[Wish, bool, bool]:
    """(what is asked for, whether the answer is streamed, whether a stream ends with its tokens). Raises Problem."""
    asked = from_json(ChatBody, body)
    counted = asked.stream_options is not None and bool(asked.stream_options.include_usage)
    return _wish(front, asked), bool(asked.stream), counted


def _wish(front: Front, asked: ChatBody) -> Wish:
    """The one picture and the text beside it. Raises Problem bad_request_body."""
    said = next((each for each in reversed(asked.messages) if each.role == "user"), None)
    content = said.content if said is not None and isinstance(said.content, list) else []
    urls = [each.image_url.url for each in content if isinstance(each, ImagePart)]
    if len(urls) != 1:
        raise Problem("bad_request_body", "messages: exactly one image_url in the last user message would be right")
    text = "\n".join(each.text for each in content if isinstance(each, TextPart)).strip()
    if len(text) > MAX_CHARACTERS:
        raise Problem("bad_request_body", f"messages: at most {MAX_CHARACTERS} characters of text would be right")
    takes = front.service.takes_prompt
    tokens = asked.max_completion_tokens or asked.max_tokens
    prompt = checked_prompt(text) if text and takes else None
    if urls[0][:5].lower() == "data:":
        media = from_base64(urls[0], "image_url.url")
        return Wish(media=media, prompt=prompt, max_tokens=tokens if takes else None)
    if len(urls[0]) > MOST_URL:
        raise Problem("bad_request_body", f"image_url.url: over {MOST_URL} characters")
    return Wish(url=urls[0], prompt=prompt, max_tokens=tokens if takes else None)


def _head(answer: Answer, model: str, kind: str) -> dict[str, Any]:
    return {"id": answer["id"], "object": kind, "created": int(time.time()), "model": model}


def _finish(answer: Answer) -> str:
    return "length" if answer["finish_reason"] == "length" else "stop"


def _recap(answer: Answer) -> Mapping[str, Any]:
    return {name: answer[name] for name in ("accepted", "reason", "engine", "prompt_id", "width", "height")}


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = (answer["usage"][name] or 0 for name in ("prompt_tokens", "completion_tokens"))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _completion(answer: Answer, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer["caption"]}
    return {
        **_head(answer, model, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(answer)}],
        "usage": _usage(answer),
        "recap": _recap(answer),
    }


async def _events(answer: Answer, model: str, counted: bool) -> AsyncIterator[bytes]:
    head = _head(answer, model, "chat.completion.chunk")
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in _WORD.findall(answer["caption"]))]
    for delta in deltas:
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    last = {"index": 0, "delta": {}, "finish_reason": _finish(answer)}
    yield _event({**head, "choices": [last], "recap": _recap(answer)})
    if counted:
        yield _event({**head, "choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _event(told: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(told) + b"\n\n"


@router.get(
    "/v1/models",
    summary="The model's name, as OpenAI clients look for it",
    responses={
        200: {"description": "A list of one", "content": {"application/json": {"schema": {"type": "object"}}}},
        **problems(*LOOKING),
    },
    openapi_extra={"security": [{"key": []}, {}]},
)
async def models(request: Request) -> Response:
    """A list of one."""
    front = front_of(request)
    front.who(request, "caption")
    card = {"id": front.service.recipe.model, "object": "model", "created": 0, "owned_by": "recap"}
    return json_response({"object": "list", "data": [card]})

"""POST /v1/captions and GET /v1/engines."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from captioner.prompts import MAX_CHARACTERS
from captioner.recipe import Recipe, digest
from serving.answers import (
    BODY_EXAMPLE,
    CAPTION_EXAMPLE,
    CLIP_BODY_EXAMPLE,
    CLIP_EXAMPLE,
    CaptionAnswer,
    EngineAnswer,
    problems,
)
from serving.bodies import MOST_TOKENS, Wish, wish_of
from serving.front import Front, body_of, front_of, json_response, while_connected
from serving.keys import Key
from serving.problems import Problem
from serving.service import Answer, Asked

router = APIRouter()
ASKING = (
    "bad_request",
    "unauthorized",
    "forbidden",
    "forbidden_origin",
    "request_timeout",
    "body_too_large",
    "headers_too_large",
    "unsupported_media_type",
    "bad_multipart",
    "bad_request_body",
    "prompt_not_taken",
    "clip_not_taken",
    "idempotency_conflict",
    "url_not_allowed",
    "fetch_failed",
    "fetch_too_large",
    "rate_limited",
    "too_many_at_once",
    "pixels_used_up",
    "internal_error",
    "engine_error",
    "bad_engine_response",
    "nan_output",
    "engine_refused",
    "engine_unavailable",
    "overloaded",
    "engine_timeout",
    "deadline_exceeded",
)
LOOKING = ("bad_request", "unauthorized", "forbidden", "forbidden_origin", "headers_too_large", "internal_error")

_MULTIPART = {
    "type": "object",
    "description": "Exactly one of `image` and `video`.",
    "additionalProperties": False,
    "properties": {
        "image": {
            "type": "string",
            "format": "binary",
            "description": "A picture's stored file; or a clip's, where its first bytes say so.",
        },
        "video": {"type": "string", "format": "binary", "description": "A clip's stored file."},
        "prompt": {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": MOST_TOKENS},
    },
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _MULTIPART},
        "application/json": {
            "schema": {"$ref": "#/components/schemas/CaptionBody"},
            "examples": {"picture": {"value": BODY_EXAMPLE}, "clip": {"value": CLIP_BODY_EXAMPLE}},
        },
    },
}
_HEADERS = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
        "description": "The same key and picture or clip are answered once, however often they come.",
    },
    {
        "name": "X-Deadline-Seconds",
        "in": "header",
        "schema": {"type": "number", "minimum": 1, "maximum": 3600},
        "description": "Until when an answer is of use; the service's own deadline where that is sooner.",
    },
]


@router.post(
    "/v1/captions",
    summary="Caption one picture or clip",
    responses={
        200: {
            "model": CaptionAnswer,
            "description": "A caption, kept or not",
            "content": {
                "application/json": {
                    "examples": {"picture": {"value": CAPTION_EXAMPLE}, "clip": {"value": CLIP_EXAMPLE}}
                }
            },
        },
        **problems(*ASKING),
    },
    openapi_extra={"requestBody": _BODY, "parameters": _HEADERS, "security": [{"key": []}, {}]},
)
async def caption(request: Request) -> Response:
    """One picture or clip in, one caption out; `accepted` and `reason` say what a batch run would have done with it.

    What a run would have filtered or could not have read is a 422 with that reason. A clip is looked at as a run would
    look at it, one frame a second and no more than the preset's; `frame_times` says when, in seconds.
    """
    front = front_of(request)
    key, deadline = front.who(request, "caption"), front.deadline(request)
    with front.service.shares.take(key):
        front.look(deadline)
        parse = partial(wish_of, request.headers.get("content-type", ""))
        async with body_of(request, deadline, parse) as wish:
            answer = await while_connected(request, _answer(front, request, key, wish, deadline))
    return json_response(answer, {"Cache-Control": "no-store", "Server-Timing": _timing(answer)})


async def _answer(front: Front, request: Request, key: Key, wish: Wish, deadline: float) -> Answer:
    """Once for each Idempotency-Key. Raises Problem."""
    fresh = "no-cache" in request.headers.get("cache-control", "")

    async def make() -> Answer:
        async with media_of(front, key, wish, deadline) as media:
            asked = Asked(key=key, wish=wish, media=media, deadline=deadline, fresh=fresh)
            return await front.service.answer(asked)

    given = request.headers.get("idempotency-key")
    if given is None:
        return await make()
    if not (1 <= len(given) <= 200 and given.isascii() and given.isprintable()):
        raise Problem("bad_request", "Idempotency-Key: 1 to 200 printable ASCII characters would be right")
    return (await front.service.idempotent.once((key.tenant, given), make, deadline, _fingerprint(wish)))[0]


@asynccontextmanager
async def media_of(front: Front, key: Key, wish: Wish, deadline: float) -> AsyncIterator[bytes]:
    """The stored bytes of the picture or clip, fetched where the request names a URL. Raises Problem."""
    if wish.media is not None:
        yield wish.media
        return
    assert wish.url is not None, "a wish has one of the two"
    if front.fetcher is None or "fetch" not in key.scopes:
        raise Problem("url_not_allowed")
    with front.service.holding(front.fetcher.most_bytes):
        try:
            async with front.service.within(deadline):
                media = await front.fetcher.fetch(wish.url)
        except TimeoutError:
            raise Problem("deadline_exceeded", "it passed while the URL was fetched; no engine was asked") from None
    with front.service.holding(len(media)):
        yield media


def _fingerprint(wish: Wish) -> str:
    """Of what was asked, however it was spelled: a client that tries again chooses another multipart boundary."""
    media = hashlib.sha256(wish.media).hexdigest() if wish.media is not None else None
    return digest([media, wish.url, wish.kind, wish.prompt, wish.max_tokens])


def _timing(answer: Mapping[str, Any]) -> str:
    seconds = answer["timings"]
    named = {"wait": "waited_seconds", "engine": "engine_seconds", "total": "total_seconds"}
    return ", ".join(f"{name};dur={seconds[field] * 1000:.0f}" for name, field in named.items())


def _clips(recipe: Recipe | None) -> dict[str, Any] | None:
    """How clips are asked about, None where none are."""
    if recipe is None or recipe.asking.frames is None:
        return None
    frames = recipe.asking.frames
    return {
        "prompt_id": recipe.asking.prompt_id,
        "frames_a_second": frames.per_second,
        "max_frames": frames.max_frames,
        "max_pixels": frames.pixels.max_pixels,
        "screens": [each.name for each in recipe.screens],
    }


@router.get(
    "/v1/engines",
    summary="Who captions here",
    responses={200: {"model": EngineAnswer}, **problems(*LOOKING)},
    openapi_extra={"security": [{"key": []}, {}]},
)
async def engines(request: Request) -> Response:
    """The engine, how it is asked, what is judged before and after it, and its replicas."""
    front = front_of(request)
    front.who(request, "caption")
    service, recipe = front.service, front.service.recipe
    use = service.engine.use()
    replicas = use.pool.replicas if use is not None and use.pool is not None else ()
    told = {
        "engine": recipe.engine.name,
        "model": recipe.model,
        "model_revision": recipe.model_revision,
        "prompt_id": recipe.asking.prompt_id,
        "takes_prompt": service.takes_prompt,
        "max_pixels": recipe.asking.budget.max_pixels,
        "serving": service.engine.serves,
        "clips": _clips(service.clips),
        "screens": [each.name for each in recipe.screens],
        "filters": [each.name for each in recipe.filters],
        # Their addresses are inside a network that callers need not know.
        "replicas": [
            {"number": number, "state": each.state, "outstanding": each.outstanding, "window": each.window}
            for number, each in enumerate(replicas)
        ],
    }
    return json_response(told)

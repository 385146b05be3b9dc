"""What is sent to a served model: the OpenAI chat protocol, and what each server wants besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.engines.frames import Form, parts
from captioner.types import CaptionRequest, Sampling

# A checkpoint's generation_config.json becomes the server's default: Qwen2-VL's says top_k 1, so that a second ask
# with a temperature would loop as the first did. Everything that shapes a draw is sent.
_EVERY_DRAW = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
_USAGE_IN_EVERY_EVENT = {"include_usage": True, "continuous_usage_stats": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one kind of server differs from the others.

    honours_seed: the same seed draws the same tokens. SGLang 0.5.23 does so in its deterministic mode only.
    id_field: the request's field whose value comes back in the answer's `id`. video: the form it takes a video in.
    """

    name: str
    honours_seed: bool = False
    id_field: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    stream_options: Mapping[str, Any] = field(default_factory=lambda: {"include_usage": True})
    video: Form = "pictures"


DIALECTS = {
    "openai": Dialect(name="openai"),
    "sglang": Dialect(
        name="sglang", id_field="rid", extras=_EVERY_DRAW, stream_options=_USAGE_IN_EVERY_EVENT, video="clip"
    ),
    "vllm": Dialect(
        name="vllm",
        honours_seed=True,
        id_field="request_id",
        extras=_EVERY_DRAW,
        stream_options=_USAGE_IN_EVERY_EVENT,
        video="jpeg_list",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom a request went to, and what its answer has to agree with.

    model: the name that is sent. names: those that the answer may give, for a model may be served under several.
    request_id: sent where the dialect has a field for it; echoed: the answer must name it. form: that a video's frames
    went in, None for pictures.
    """

    model: str
    names: frozenset[str]
    dialect: Dialect
    sampling: Sampling
    request_id: str = ""
    echoed: bool = False
    stream: bool = False
    form: Form | None = None


def payload(request: CaptionRequest, asked: Asked) -> dict[str, Any]:
    """A chat completion: the pictures or the video, as data URLs, before the prompt."""
    seen = [{"type": kind, kind: {"url": b"".join(url).decode()}} for kind, url in parts(request, asked.dialect.video)]
    content = [*seen, {"type": "text", "text": request.prompt}]
    return {"messages": [{"role": "user", "content": content}], **_settings(asked)}


def body_of(request: CaptionRequest, asked: Asked) -> bytes:
    """The payload as JSON. Spliced, for a JSON writer looks at each of the 160,000 characters of a picture again."""
    pieces = [b'{"messages":[{"role":"user","content":[']
    for kind, url in parts(request, asked.dialect.video):
        name = kind.encode()
        pieces += [b'{"type":"', name, b'","', name, b'":{"url":"', *url, b'"}},']
    text = json.dumps({"type": "text", "text": request.prompt})
    pieces.append(f"{text}]}}],{json.dumps(_settings(asked))[1:]}".encode())
    return b"".join(pieces)


def _settings(asked: Asked) -> dict[str, Any]:
    """Everything but the messages. temperature is always there: a checkpoint's own default would take its place."""
    sampling, dialect = asked.sampling, asked.dialect
    settings = {
        "model": asked.model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": asked.stream,
        **dialect.extras,
    }
    if sampling.top_k and "top_k" in dialect.extras:  # the OpenAI protocol itself has no such field
        settings["top_k"] = sampling.top_k
    if asked.stream:
        settings["stream_options"] = dict(dialect.stream_options)
    if dialect.id_field and asked.request_id:
        settings[dialect.id_field] = asked.request_id
    return settings

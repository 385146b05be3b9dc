"""What the service's answers look like, for its OpenAPI page; the answers themselves are made of plain values."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from serving.problems import MEDIA_TYPE, PROBLEMS


class Usage(BaseModel):
    """Tokens, where the engine counts any."""

    prompt_tokens: int | None
    completion_tokens: int | None


class Timings(BaseModel):
    """Seconds of the first answer, where the same picture or clip was asked again."""

    waited_seconds: float
    engine_seconds: float
    total_seconds: float


class CaptionAnswer(BaseModel):
    """A caption, and what a batch run would have done with it."""

    id: str
    caption: str
    accepted: bool = Field(description="Whether a batch run would have kept it.")
    reason: str | None = Field(description="Why a batch run would have dropped it, from docs/reasons.md.")
    finish_reason: str
    engine: str
    model: str
    model_revision: str
    prompt_id: str
    width: int | None
    height: int | None
    duration: float | None = Field(description="Of a clip, in seconds, by its frames.")
    frame_times: list[float] | None = Field(description="Of a clip: when the frames are shown that were looked at, s.")
    usage: Usage
    attempts: int
    signals: dict[str, float]
    facts: dict[str, Any] | None = Field(description="What the experts saw, of a clip by frame; boxes are fractions.")
    timings: Timings
    cached: bool


class ProblemAnswer(BaseModel):
    """RFC 9457, with our reason from a closed list."""

    type: str
    title: str
    status: int
    reason: str
    id: str
    detail: str | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None


class ClipsAnswer(BaseModel):
    """How clips are looked at and asked about. max_pixels: of a frame."""

    prompt_id: str
    frames_a_second: int
    max_frames: int
    max_pixels: int
    screens: list[str]


class EngineAnswer(BaseModel):
    """Who captions here, and how it is asked."""

    engine: str
    model: str
    model_revision: str
    prompt_id: str
    takes_prompt: bool
    max_pixels: int
    serving: bool
    clips: ClipsAnswer | None = Field(description="None where the engine is asked about pictures alone.")
    screens: list[str]
    filters: list[str]
    replicas: list[dict[str, Any]]


CAPTION_EXAMPLE: Final = {
    "id": "cap-0a1b2c3d4e5f60718293a4b5",
    "caption": "Two dogs run across a meadow. A fence stands behind them.",
    "accepted": True,
    "reason": None,
    "finish_reason": "stop",
    "engine": "experts",
    "model": "recap-experts",
    "model_revision": "3f2a…",
    "prompt_id": "experts-grammar-1",
    "width": 1024,
    "height": 768,
    "duration": None,
    "frame_times": None,
    "usage": {"prompt_tokens": None, "completion_tokens": 11},
    "attempts": 1,
    "signals": {"length.words": 11.0},
    "facts": {"objects": [{"name": "dog", "score": 0.91, "agreed": 0.88, "box": [0.1, 0.4, 0.4, 0.9]}]},
    "timings": {"waited_seconds": 0.0, "engine_seconds": 0.74, "total_seconds": 0.79},
    "cached": False,
}
CLIP_EXAMPLE: Final = {
    **CAPTION_EXAMPLE,
    "caption": "A dog runs across a meadow throughout. Around second 2 a second dog joins it.",
    "width": 640,
    "height": 360,
    "duration": 3.0,
    "frame_times": [0.0, 1.0, 2.0],
    "usage": {"prompt_tokens": None, "completion_tokens": 15},
    "signals": {"length.words": 15.0},
    "facts": {"frames": [{"second": 0.0, "objects": []}]},
    "timings": {"waited_seconds": 0.0, "engine_seconds": 2.21, "total_seconds": 2.34},
}
# A black PNG of 256 x 256 px.
PNG_EXAMPLE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAQAAAAEAAQAAAAB0CZXLAAAAH0lEQVR42u3BAQ0AAADCoPdPbQ43oAAAAAAAAAAAvg0hAAABYOSd"
    "lwAAAABJRU5ErkJggg=="
)
BODY_EXAMPLE: Final = {"image": {"base64": PNG_EXAMPLE}}
# Three black frames of 128 x 128 px, VP9 in WebM, one a second.
WEBM_EXAMPLE: Final = (
    "GkXfo59ChoEBQveBAULygQRC84EIQoKEd2VibUKHgQJChYECGFOAZwEAAAAAAAHREU2bdLpNu4tTq4QVSalmU6yBoU27i1OrhBZUrmtTrIHGTbuM"
    "U6uEElTDZ1OsggEJTbuMU6uEHFO7a1OsggG77AEAAAAAAABZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVSalmoCrXsYMPQkBNgIRMYXZmV0GETGF2ZkSJiECncAAAAAAAFlSua76u"
    "AQAAAAAAADXXgQFzxYgAAAAAAAAAAZyBACK1nIN1bmSIgQCGhVZfVlA5g4EBI+ODhDuaygDghrCBgLqBgBJUw2e1c3OyY8CLY8WIAAAAAAAAAAFn"
    "yKFFo4hEVVJBVElPTkSHkzAwOjAwOjAzLjAwMDAwMDAwMAAfQ7Z18+eBAKPCgQAAgIJJg0IAB/AH9ko4JBwZcAAAYEfYzrAAAGr8DTdWHmEZheDV"
    "+n+zb/1rlZZunPcGHa0s7gDv7muuJFjxKl6wo5SBA+gAhgBAkhz8X+AAA3AAAFoEgKOUgQfQAIYAQJIc/F8AAANwAABaBIAcU7trkbuPs4EAt4r3"
    "gQHxggFD8IED"
)
CLIP_BODY_EXAMPLE: Final = {"video": {"base64": WEBM_EXAMPLE}}


def problems(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """The documented answers of a route that may end with these reasons, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for reason in reasons:
        kind = PROBLEMS[reason]
        answer = found.setdefault(
            kind.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}},
        )
        answer["description"] = "; ".join(filter(None, [answer["description"], f"{reason}: {kind.title}"]))
        examples = answer["content"][MEDIA_TYPE].setdefault("examples", {})
        body = {"type": f"urn:recap:reason:{reason}", "title": kind.title, "status": kind.status, "reason": reason}
        examples[reason] = {"value": {**body, "id": "5f0e1d2c3b4a5968"}}
    return found

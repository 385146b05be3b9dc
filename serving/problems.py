"""PROBLEMS: every way an answer can be no caption, as application/problem+json with a reason from a closed list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captioner.reasons import REASONS

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a reason is in HTTP. again: whether the same request may be sent again later."""

    status: int
    title: str
    again: bool = False


PROBLEMS: dict[str, Kind] = {
    # the request as such
    "bad_request": Kind(400, "This is no HTTP request that is understood here"),
    "bad_multipart": Kind(400, "The multipart body is broken, or has more or larger parts than it may"),
    "unauthorized": Kind(401, "No key, or one that is not valid now; send it as `Authorization: Bearer …`"),
    "forbidden": Kind(403, "This key may not do that"),
    "forbidden_origin": Kind(403, "This service answers its own pages only: the Host or Origin is another one"),
    "not_found": Kind(404, "There is nothing here; /docs lists what there is"),
    "method_not_allowed": Kind(405, "This address takes another method"),
    "request_timeout": Kind(408, "The request did not arrive in time", again=True),
    "body_too_large": Kind(413, "The body is larger than this service takes"),
    "unsupported_media_type": Kind(415, "The body is neither multipart/form-data nor application/json"),
    "headers_too_large": Kind(431, "The headers are larger than this service takes"),
    "bad_request_body": Kind(422, "A field of the body is missing, unknown or not what it should be"),
    "prompt_not_taken": Kind(422, "This engine takes no prompt and no limit of tokens"),
    "clip_not_taken": Kind(422, "The engine of this service is asked about pictures alone, and this is a clip"),
    "idempotency_conflict": Kind(422, "This Idempotency-Key came with another body before"),
    # URLs, where they are allowed at all
    "url_not_allowed": Kind(422, "This service does not fetch that URL"),
    "fetch_failed": Kind(422, "The URL gave no picture or clip in time"),
    "fetch_too_large": Kind(422, "The URL gives more bytes than this service takes"),
    # shares
    "rate_limited": Kind(429, "This key has used up its rate; come again later", again=True),
    "too_many_at_once": Kind(429, "This key has as many requests under way as it may have", again=True),
    "pixels_used_up": Kind(429, "This key has used up its pixels of the day", again=True),
    # this side
    "internal_error": Kind(500, "Something broke on this side; the request's id is in the log"),
    "engine_error": Kind(502, "The engine failed on this picture or clip", again=True),
    "bad_engine_response": Kind(502, "The engine gave an answer that is none", again=True),
    "nan_output": Kind(502, "The engine's numbers broke", again=True),
    "engine_refused": Kind(502, "The engine refused this very request"),
    "engine_unavailable": Kind(503, "No engine answers now", again=True),
    "overloaded": Kind(503, "Too many wait already, or the deadline cannot be met", again=True),
    "engine_timeout": Kind(504, "The engine gave no whole answer in time", again=True),
    "deadline_exceeded": Kind(504, "The deadline passed before there was an answer", again=True),
}
PICTURE = 422  # the status of every reason that is the picture's own
RETRY_SECONDS = 1  # where nobody knows better


@dataclass(eq=False)
class Problem(Exception):
    """A request that ends without a caption.

    detail: our own words, never an exception's. retry_after: seconds. shown: more members of the body. close: whether
    the connection must not be used again.
    """

    reason: str
    detail: str = ""
    retry_after: float | None = None
    shown: Mapping[str, Any] | None = None
    close: bool = False

    @property
    def kind(self) -> Kind:
        """Its line of the table; a reason of a picture, a part of yours included, is a 422."""
        if self.reason in PROBLEMS:
            return PROBLEMS[self.reason]
        known = REASONS.get(self.reason)
        meaning = known.meaning if known else "a part of this service refuses the picture"
        return Kind(PICTURE, meaning[0].upper() + meaning[1:])

    @property
    def status(self) -> int:
        return self.kind.status

    def body(self, request_id: str) -> dict[str, Any]:
        """The members of RFC 9457, and our reason."""
        found = {
            "type": f"urn:recap:reason:{self.reason}",
            "title": self.kind.title,
            "status": self.status,
            "reason": self.reason,
            "id": request_id,
        }
        if self.detail:
            found["detail"] = self.detail
        return found | dict(self.shown or {})

    def headers(self) -> dict[str, str]:
        """Retry-After where coming again may help, WWW-Authenticate where a key is missing."""
        found = {"Cache-Control": "no-store"}
        if self.kind.again and self.status in (429, 503):
            found["Retry-After"] = str(max(1, round(self.retry_after or RETRY_SECONDS)))
        if self.status == 401:
            found["WWW-Authenticate"] = 'Bearer realm="recap"'
        if self.close:
            found["Connection"] = "close"
        return found

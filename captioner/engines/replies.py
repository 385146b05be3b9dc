"""What a served model answers, read with suspicion: a caption, or the error that says whose fault it was."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from captioner.engines.openai import Asked
from captioner.errors import (
    BadEngineResponse,
    EngineBroke,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    ModelChanged,
    RequestRefused,
)
from captioner.types import Caption

LARGEST_REPLY = 4 * 2**20  # bytes; a caption has one or two thousand
LONGEST_EXTRACT = 200  # characters of a server's own words in our detail
LONGEST_REASON = 40  # characters of a finish reason
MOST_TOKENS = 2**31 - 1  # the ledger's columns are 32 bits wide
# With NaN for logits the first token of the vocabulary wins; in GPT-2's and Qwen's that is "!".
_NAN_TEXT = re.compile(r"\s*!{4,}[!\s]*")
_UNKNOWN_MODEL = re.compile(r"\bmodel\b.{0,300}?\b(?:does not exist|not exist|not found|unknown)\b", re.I | re.S)
# SGLang answers 503 to what its full queue turns away: it lives.
_FULL = re.compile(r"queue is full|higher priority request|waiting timeout", re.I)
# vLLM's server outlives its dead engine by some seconds, and says 500 to whatever it is asked meanwhile.
_DEAD = re.compile(r"EngineCore encountered an issue|EngineDeadError", re.I)
_ENCODED = re.compile(r"data:[\w/+.-]{0,60};base64,[^\s\"']*|[A-Za-z0-9+/=_-]{64,}")
# Tags of a proxy's page, reprs of a server's objects, and special tokens.
_ANGLED = re.compile(r"<[^<>]{1,200}>")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_GONE = frozenset({401, 403, 405, 408, 502, 503, 504, 520, 521, 522, 523, 524})


class AnotherAnswer(BadEngineResponse):
    """A whole answer, but to another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """An error body. known: it has the shape of an engine's, not of a proxy's or a web server's."""

    message: str
    code: Any = None
    known: bool = True

    @property
    def unknown_model(self) -> bool:
        """Whether it says that no such model is served."""
        return self.code == "model_not_found" or _UNKNOWN_MODEL.search(self.message) is not None


def caption_of(body: bytes, asked: Asked) -> Caption:
    """The caption in a whole answer. Raises BadEngineResponse, or what an error under a 200 stands for."""
    answer = parsed(body)
    raise_if_error(answer)
    agree(answer, asked)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadEngineResponse("an answer without choices")
    message = choices[0].get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise BadEngineResponse(f"an answer whose content is {_kind(text)}, not text")
    prompt_tokens, completion_tokens = usage_of(answer)
    return whole_caption(
        Caption(
            text=text,
            finish_reason=finish_of(choices[0]) or "missing",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        ),
        asked,
    )


def whole_caption(caption: Caption, asked: Asked) -> Caption:
    """What holds for every answer, streamed or not. Raises BadEngineResponse for one of broken numbers."""
    if _NAN_TEXT.fullmatch(caption.text):
        raise BadEngineResponse("an answer of exclamation marks only", reason="nan_output")
    # Half a character at the cut: vLLM leaves it out, SGLang and transformers write U+FFFD.
    text = caption.text.rstrip("\ufffd") if caption.finish_reason in ("length", "loop") else caption.text
    ignored = asked.sampling.temperature > 0 and not asked.dialect.honours_seed
    flags = {"seed_ignored": ignored, f"frames_as_{asked.form}": asked.form is not None}
    told = caption.flags.union(flag for flag, is_so in flags.items() if is_so)
    return replace(caption, text=text, engine=asked.dialect.name, flags=told)


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadEngineResponse for anything else, NaN and infinities included."""
    try:
        answer = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        begin = extract(body[:LONGEST_EXTRACT].decode("utf-8", "replace"))
        raise BadEngineResponse(f"an answer that is no JSON: {begin}" if body else "an empty answer") from None
    if not isinstance(answer, dict):
        raise BadEngineResponse(f"an answer that is {_kind(answer)}, not an object")
    return answer


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def agree(answer: Mapping[str, Any], asked: Asked) -> None:
    """Raises BadEngineResponse where the answer is another model's, or another request's."""
    model = answer.get("model")
    if not isinstance(model, str) or model not in asked.names:
        named = shown(model)[:LONGEST_EXTRACT] if isinstance(model, str) else _kind(model)
        raise BadEngineResponse(f"asked {asked.model}, but the answer's model is {named}")
    told = answer.get("id")
    if asked.echoed and not (isinstance(told, str) and told.endswith(asked.request_id)):
        raise AnotherAnswer("the answer belongs to another request")


def raise_if_error(answer: Mapping[str, Any]) -> None:
    """Servers that have begun to answer put an error under their 200: raises what it stands for."""
    if answer.get("error") or answer.get("object") == "error":
        complaint = _complaint(answer)
        code = complaint.code if type(complaint.code) is int and 400 <= complaint.code < 600 else 500
        raise _error(code, {}, complaint)


def finish_of(choice: Mapping[str, Any]) -> str | None:
    """Why it ended; None where that is not said (yet). Raises BadEngineResponse for what is no word."""
    finish = choice.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise BadEngineResponse(f"a finish_reason that is {_kind(finish)}, not a word")
    return shown(finish)[:LONGEST_REASON] if finish else None


def usage_of(answer: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """(prompt tokens, completion tokens), None where not told."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None, None
    return _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))


def _tokens(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> EngineError | ModelChanged:
    """What an answer other than 200 stands for: this request, the server, its load, or the wrong model."""
    try:
        answer = parsed(body)
    except BadEngineResponse:
        return _error(status, headers, Complaint(message=body[:4096].decode("utf-8", "replace"), known=False))
    return _error(status, headers, _complaint(answer))


def _error(status: int, headers: Mapping[str, str], complaint: Complaint) -> EngineError | ModelChanged:
    # A server may repeat the key that it does not like.
    said = "the key is missing or wrong" if status in (401, 403) else extract(complaint.message)
    detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if (status == 404 and complaint.unknown_model) or (status == 400 and complaint.code == "model_not_found"):
        return ModelChanged(f"model_changed: the engine does not serve the asked model ({detail})")
    if status == 429 or (status == 503 and _FULL.search(complaint.message)):
        return EngineBusy(detail, retry_after=retry_after(headers))
    # A 404 in no shape of an engine's: the address is wrong, not the picture.
    gone = status in _GONE or status < 400 or (status == 404 and not complaint.known)
    if gone or (status >= 500 and _DEAD.search(complaint.message)):
        return EngineUnavailable(detail)
    return EngineBroke(detail) if status >= 500 else RequestRefused(detail)


def _complaint(answer: Mapping[str, Any]) -> Complaint:
    """vLLM and OpenAI nest it under `error`, SGLang does not, FastAPI says `detail`."""
    error = answer.get("error")
    if isinstance(error, dict):
        return Complaint(message=str(error.get("message") or ""), code=error.get("code"))
    if answer.get("object") == "error":
        return Complaint(message=str(answer.get("message") or ""), code=answer.get("code"))
    said = error or answer.get("message") or answer.get("detail") or ""
    return Complaint(message=said if isinstance(said, str) else json.dumps(said)[:4096], known=False)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait; a date counts from the answer's own Date, not from our clock."""
    told = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", told, re.ASCII):
        return float(told)
    try:
        until, since = parsedate_to_datetime(told), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - since).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return None


def extract(text: str) -> str:
    """A server's words, fit for a ledger: short, without our own picture, addresses or characters that act."""
    plain = _ADDRESS.sub("0x…", _ANGLED.sub(" ", _ENCODED.sub("…", text[:4096])))
    plain = shown(" ".join(plain.split()))
    return plain if len(plain) <= LONGEST_EXTRACT else plain[: LONGEST_EXTRACT - 1] + "…"


def shown(text: str) -> str:
    """The text with controls, bidi marks, lone surrogates and their like spelled out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "an object")

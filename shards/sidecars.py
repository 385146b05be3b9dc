"""The text and JSON beside a picture, believed only when they are clean."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_SIDECAR_BYTES = 1 << 20
MAX_NESTING = 32


class BadSidecar(ValueError):
    """This sidecar is unusable; the sample does without it."""


def text_of(raw: bytes) -> str:
    """A caption file: UTF-8 without NUL. Raises BadSidecar."""
    try:
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise BadSidecar("not UTF-8") from error
    if "\0" in text:
        raise BadSidecar("holds NUL")
    return text.strip()


def json_of(raw: bytes) -> dict[str, Any]:
    """A JSON object of finite numbers and whole characters, at most 32 levels deep. Raises BadSidecar."""
    try:
        value = _DECODER.decode(raw.decode().removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise BadSidecar("not strict JSON") from error
    if not isinstance(value, dict):
        raise BadSidecar("not a JSON object")
    if raw.count(b"[") + raw.count(b"{") > MAX_NESTING and _nested_deeper(value, MAX_NESTING):
        raise BadSidecar(f"nested deeper than {MAX_NESTING}")
    if b"\\u" in raw and _has_lone_surrogates(value):
        raise BadSidecar("lone surrogates")
    return value


def _not_finite(word: str) -> NoReturn:
    raise BadSidecar(f"{word} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) != float("inf") else _not_finite(digits[:20])


_DECODER = json.JSONDecoder(parse_constant=_not_finite, parse_float=_finite)


def _nested_deeper(value: Any, levels: int) -> bool:
    """Level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(levels):
        inner = [part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole)]
        level = [part for part in inner if isinstance(part, dict | list)]
    return bool(level)


def _has_lone_surrogates(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False

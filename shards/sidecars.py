"""The text and JSON beside a picture: read only when they are clean, written compactly."""

from __future__ import annotations

import json
from typing import Any

import orjson

from captioner.recipe import canonical

MAX_SIDECAR_BYTES = 1 << 20
MAX_NESTING = 32
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# orjson rounds integers over 64 bits, json keeps them. A search for the regular expression takes 20 times as long.
_SHAPE = bytes.maketrans(b"123456789 \t\r\n,[-", b"000000000:::::::")
_LONG_NUMBER = b":" + b"0" * 19


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
    raw = raw.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadSidecar("not strict JSON") from error
    if not isinstance(value, dict):
        raise BadSidecar("not a JSON object")
    if raw.count(b"[") + raw.count(b"{") > MAX_NESTING and _nested_deeper(value, MAX_NESTING):
        raise BadSidecar(f"nested deeper than {MAX_NESTING}")
    if _LONG_NUMBER in raw.translate(_SHAPE):
        exact: dict[str, Any] = json.loads(raw)
        return exact
    return value


def compact(value: Any) -> bytes:
    """Plain data as JSON: sorted keys, no spaces, UTF-8; by orjson, in a tenth of json's time.

    For what only this project reads back; hashes that others check are taken of `recipe.canonical`, whose numbers are
    spelt as Python's json spells them. Raises ValueError for text with no UTF-8.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a whole number over 64 bits, as a sidecar may hold
        return canonical(value)


def _nested_deeper(value: Any, levels: int) -> bool:
    """Level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(levels):
        inner = [part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole)]
        level = [part for part in inner if isinstance(part, dict | list)]
    return bool(level)

"""Tables of parts: a name leads to one class, and to nothing that was not named."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captioner.errors import Refused, UnknownPart

Table = Mapping[str, str]  # name -> "package.module:Class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part as a recipe writes it down: its name, its code's version and every setting, defaults included."""

    name: str
    version: int
    settings: Mapping[str, Any]


def _would_be_right(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"there is {', '.join(known) or 'none'}" + (f" (did you mean {near[0]!r}?)" if near else "")


def load(table: Table, name: str) -> type:
    """The class behind a name; imports only its module. Raises UnknownPart."""
    if name not in table:
        raise UnknownPart(f"no {name!r} here; {_would_be_right(name, sorted(table))}")
    module, _, attribute = table[name].partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def settings_of(table: Table, name: str) -> dict[str, dataclasses.Field[Any]]:
    """The settings a part takes, by name."""
    return {field.name: field for field in dataclasses.fields(load(table, name)) if field.init}


def part(table: Table, name: str, **settings: Any) -> Part:
    """A Part with its defaults filled in. Raises UnknownPart for a setting that it does not have."""
    built = build(table, name, settings)
    filled = {field: _plain(getattr(built, field)) for field in settings_of(table, name)}
    return Part(name=name, version=getattr(type(built), "version", 1), settings=filled)


def build(table: Table, name: str, settings: Mapping[str, Any]) -> Any:
    """The part itself. Raises UnknownPart, or Refused with the part's own words for a value that does not fit."""
    known = settings_of(table, name)
    for setting in settings:
        if setting not in known:
            raise UnknownPart(f"{name!r} has no setting {setting!r}; {_would_be_right(setting, list(known))}")
    for setting, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):  # no plan can be written with it
            raise Refused(f"{name}: {setting} is {value}; a finite number would be right")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    try:
        return load(table, name)(**values)
    except (ValueError, TypeError) as error:
        raise Refused(f"{name}: {error}") from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

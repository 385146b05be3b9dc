"""The plan: what a run makes, of which inputs, with which code; its hash is the run id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from captioner.errors import CorruptState, PlanMismatch, Refused
from captioner.recipe import Recipe, canonical, differences, to_json
from captioner.types import ShardInput
from shards.sidecars import compact
from shards.store import Store

NAME = "plan.json"
FOLDERS = ("data", "commits", "manifests", "journal")
SHOWN_DIFFERENCES = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run's plan. recipe: as JSON; inputs: every shard, sorted; versions: of the code that decides outcomes.

    Without slots, so that its bytes are made once: a plan may have a hundred thousand shards.
    """

    recipe: Mapping[str, Any]
    inputs: tuple[ShardInput, ...]
    versions: Mapping[str, str]

    @cached_property
    def encoded(self) -> bytes:
        """The plan's canonical JSON: what plan.json holds, byte for byte."""
        # The inputs apart: the general way takes ten times as long, and there may be a hundred thousand. They are text
        # and sizes alone, which orjson spells as `canonical` does, and their word comes first in the alphabet.
        rest = canonical({"recipe": to_json(self.recipe), "versions": self.versions})
        return b'{"inputs":' + compact([_plain(each) for each in self.inputs]) + b"," + rest[1:]

    @cached_property
    def run_id(self) -> str:
        """sha256 of plan.json."""
        return hashlib.sha256(self.encoded).hexdigest()


def plan_for(recipe: Recipe, inputs: list[ShardInput], versions: Mapping[str, str]) -> Plan:
    """The plan of a recipe over its inputs. Raises Refused when two inputs share a shard's name."""
    ordered = tuple(sorted(inputs, key=lambda each: each.shard))
    if len({each.shard for each in ordered}) != len(ordered):
        raise Refused("two inputs share one shard name; shard names must be unique in a run")
    return Plan(recipe=to_json(recipe), inputs=ordered, versions=dict(versions))


def read(store: Store) -> Plan | None:
    """The plan of a run's folder, None where there is none yet. Raises CorruptState."""
    try:
        return store.read_sound(NAME, _decode)
    except FileNotFoundError:
        return None


def _decode(data: bytes) -> Plan:
    try:
        value = json.loads(data)
        inputs = tuple(_input(each) for each in value["inputs"])
        plan = Plan(recipe=value["recipe"], inputs=inputs, versions=value["versions"])
        sound = plan.encoded == data and dict(plan.recipe["source"]).keys() == {
            "name",
            "settings",
            "version",
        }
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptState(f"corrupt_state: {NAME} is not a plan ({type(error).__name__})") from error
    if not sound:
        raise CorruptState(f"corrupt_state: {NAME} is not as it was written")
    return plan


def _plain(shard: ShardInput) -> dict[str, Any]:
    return dict(zip(_FIELDS, _values(shard), strict=True))


_FIELDS = tuple(ShardInput.__dataclass_fields__)
_values = attrgetter(*_FIELDS)


def _input(value: Mapping[str, Any]) -> ShardInput:
    members = tuple((url, size, etag) for url, size, etag in value["members"])
    if type(value["size"]) is not int or not isinstance(value["shard"], str):
        raise TypeError("a shard has a name and a size in bytes")
    return ShardInput(**{**value, "members": members})


def enter(store: Store, plan: Plan) -> bool:
    """Make this the folder's plan; True when it is already. Raises PlanMismatch when another one is there."""
    there = plan if _is_there(store, plan) else read(store)
    if there is None:
        store.keep(FOLDERS)
        if store.create(NAME, plan.encoded):
            return False
        there = read(store)
    assert there is not None
    if there.run_id != plan.run_id:
        raise PlanMismatch(_rows(there, plan))
    store.keep(FOLDERS)  # before anybody relies on a record or a folder that a killed run left
    return True


def _is_there(store: Store, plan: Plan) -> bool:
    """Whether plan.json holds this very plan; comparing bytes spares reading a large one."""
    try:
        return store.read(NAME) == plan.encoded
    except FileNotFoundError:
        return False


def _rows(there: Plan, asked: Plan) -> list[tuple[str, object, object]]:
    rows = differences(_by_shard(there), _by_shard(asked))
    if len(rows) > SHOWN_DIFFERENCES:
        rest = len(rows) - SHOWN_DIFFERENCES
        rows = [*rows[:SHOWN_DIFFERENCES], (f"and {rest} fields more", "...", "...")]
    return rows


def _by_shard(plan: Plan) -> dict[str, Any]:
    value: dict[str, Any] = to_json(plan)
    return value | {
        "inputs": {each["shard"]: each | {"members": _by_url(each["members"])} for each in value["inputs"]},
        "recipe": value["recipe"]
        | {name: {part["name"]: part for part in value["recipe"][name]} for name in ("screens", "filters")},
    }


def _by_url(members: list[list[Any]]) -> dict[str, list[Any]]:
    """One object more moves all that come after it: side by side they would all differ, and say nothing."""
    return {url: rest for url, *rest in members}

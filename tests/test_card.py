"""The card and the Croissant metadata say what is in the folder, in words that their readers know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shards import card, manifest
from shards.ledger import SCHEMA
from shards.store import Store
from tests.corpora import fake_recipe, make_shards, planned, run_here


@pytest.fixture(scope="module")
def croissant(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The metadata as they stand in a folder."""
    folder = tmp_path_factory.mktemp("card")
    recipe, store = fake_recipe(), Store(str(folder / "out"))
    plan = planned(recipe, make_shards(folder / "in", 1, 2))
    run_here(recipe, plan, folder / "out")
    newest = manifest.latest(store)
    assert newest is not None
    card.write(store, plan, newest)
    written: dict[str, Any] = json.loads((folder / "out/croissant.json").read_text())
    return written


def keys(value: Any) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(inner)
    yield from value if isinstance(value, dict) else ()


def test_every_word_of_the_metadata_is_croissants_own_or_schema_orgs(croissant: dict[str, Any]) -> None:
    context = croissant.pop("@context")
    # Without a language mlcroissant 1.1 does not open a file at all.
    assert context["@language"] == "en" and context["conformsTo"] == "dct:conformsTo"
    own = {word for word in keys(croissant) if not word.startswith("@")} - context.keys()
    assert own == {"name", "description", "version", "distribution", "encodingFormat"}


def test_each_column_has_the_type_of_its_values_and_maps_are_named_as_left_out(croissant: dict[str, Any]) -> None:
    (rows,) = croissant["recordSet"]
    fields = {field["name"]: field for field in rows["field"]}
    assert fields.keys() == set(SCHEMA.names) - {"signals"} and rows["description"].endswith("signals")
    types = {name: (field["dataType"], field.get("repeated", False)) for name, field in fields.items()}
    assert types["frame_times"] == ("sc:Float", True)
    assert types["width"] == ("sc:Integer", False) and types["caption"] == ("sc:Text", False)
    assert [name for name, (_, repeated) in types.items() if repeated] == ["frame_times"]

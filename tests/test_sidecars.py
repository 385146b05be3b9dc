"""What is written compactly reads back the same, and what is hashed is spelt as the contract says."""

from __future__ import annotations

import hashlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.recipe import canonical
from shards.ledger import Row, digest
from shards.sidecars import compact, json_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(value=st.dictionaries(TEXT, PLAIN, max_size=5))
def test_compact_json_reads_back_the_same_with_any_reader(value: dict[str, object]) -> None:
    assert json.loads(compact(value)) == value


def test_whole_numbers_over_64_bits_keep_every_digit_from_sidecar_to_record() -> None:
    assert compact(json_of(b'{"id": 123456789012345678901234567890}')) == b'{"id":123456789012345678901234567890}'


def test_text_without_utf_8_is_refused() -> None:
    with pytest.raises(ValueError):
        compact({"caption": "\ud800"})


@given(cells=st.lists(st.none() | TEXT, min_size=5, max_size=5))
def test_the_digest_is_of_canonical_json(cells: list[str | None]) -> None:
    assert orjson.dumps(cells) == canonical(cells)


def test_a_digest_of_a_known_row_stays_what_it_is() -> None:
    row = Row(
        source_shard="00000", key="1", member_offset=0, outcome="captioned", caption="“Café”\n\x7f", prompt_id="p"
    )
    line = '["00000","1","p","captioned","“Café”\\n\x7f"]'.encode()
    assert digest([row]) == hashlib.sha256(line).hexdigest()

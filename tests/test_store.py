"""A store creates, durably and once, and never overwrites."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import OutOfService, Refused, SourceError
from captioner.recipe import canonical, to_json
from captioner.types import ShardInput
from shards import store as stores
from shards.finding import find
from shards.plan import Plan
from shards.probe import probe
from shards.store import Store, absolute, open_blob

TEXT = st.text(st.characters(codec="utf-8"))
SIZES = st.integers(min_value=0, max_value=2**63)
INPUTS = st.builds(
    ShardInput,
    shard=TEXT,
    url=TEXT,
    etag=TEXT,
    size=SIZES,
    take=st.none() | SIZES,
    members=st.lists(st.tuples(TEXT, SIZES, TEXT)).map(tuple),
)


def test_a_name_is_taken_once_and_keeps_its_first_bytes(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    assert store.create("commits/a.json", b"first")
    assert not store.create("commits/a.json", b"second")
    assert store.read("commits/a.json") == b"first"


def test_of_sixteen_writers_of_one_name_exactly_one_wins(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for key in range(40):
        start, won = threading.Barrier(16), []

        def write(number: int, key: int = key, start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait()
            if store.create(f"commits/{key}.json", str(number).encode()):
                won.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(won) == 1
        assert store.read(f"commits/{key}.json") == str(won[0]).encode()


def test_a_file_being_built_is_seen_by_nobody_and_leaves_nothing_when_given_up(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with store.building("data/a.tar") as building:
        building.file.write(b"half")
    assert store.names() == []
    with store.building("data/a.tar") as building:
        building.file.write(b"whole")
        assert building.publish()
    assert store.names() == ["data/a.tar"]
    assert store.read("data/a.tar") == b"whole"


def test_a_disk_without_nameless_files_publishes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_EXCL | os.O_CREAT, raising=False)
    store = Store(str(tmp_path))
    assert store.create("a", b"1")
    assert not store.create("a", b"2")
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_a_read_only_folder_is_out_of_service_not_a_crash(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    with pytest.raises(OutOfService, match="cannot write"):
        Store(str(blocker)).create("a", b"1")


def test_the_probe_leaves_nothing_behind_and_refuses_a_store_that_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    probe(store)
    assert store.names() == []
    (tmp_path / "probe").mkdir()
    monkeypatch.setattr(stores.Store, "create", lambda self, name, data: bool((tmp_path / name).write_bytes(data)))
    with pytest.raises(Refused, match="conditional puts"):
        probe(store)


def test_listing_takes_prefixes_that_end_inside_a_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for name in ("journal/a-1/1", "journal/ab-1/1", "other"):
        store.create(name, b"")
    assert store.names("journal/a") == ["journal/a-1/1", "journal/ab-1/1"]
    assert store.names("journal/a-") == ["journal/a-1/1"]
    assert Store(str(tmp_path / "nothing")).names() == []


def test_inputs_are_found_by_folder_glob_list_file_and_name(tmp_path: Path) -> None:
    folder = tmp_path / "in put#1"
    folder.mkdir()
    for name in ("0.tar", "1.tar", "x.parquet"):
        (folder / name).write_bytes(b"12")
    listed = tmp_path / "shards.txt"
    listed.write_text(f"# two of them\n{folder}/0.tar\n\n{folder}/1.tar\n")
    everything = [found.url for found in find(str(folder))]
    assert len(everything) == 3
    assert [found.url for found in find(f"{folder}/*.tar")] == everything[:2]
    assert [found.url for found in find(str(listed))] == everything[:2]
    assert [found.url for found in find(str(folder / "1.tar"))] == everything[1:2]
    assert find(str(folder))[0].size == 2


def test_nothing_found_and_unknown_schemes_are_refused_with_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="a folder of tars, a glob"):
        find(str(tmp_path / "nowhere"))
    with pytest.raises(Refused, match="s3://"):
        absolute("ftp://host/x")


def test_a_blob_is_pinned_to_the_version_it_was_opened_at(tmp_path: Path) -> None:
    path = tmp_path / "a b%20.tar"
    path.write_bytes(b"0123456789")
    found = find(str(tmp_path))[0]
    blob = open_blob(found.url, found.etag)
    assert (blob.size, blob.etag) == (10, found.etag)
    assert b"".join(blob.chunks(4)) == b"456789"
    path.unlink()
    path.write_bytes(b"0123456789")
    with pytest.raises(SourceError, match="source_changed"):
        b"".join(blob.chunks())
    path.unlink()
    with pytest.raises(SourceError, match="source_missing"):
        open_blob(found.url, found.etag)


def test_a_disk_that_fails_while_removing_is_out_of_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> None:
        raise OSError(5, "the disk fails")

    store = Store(str(tmp_path))
    store.create("journal/a-1/1", b"1")
    monkeypatch.setattr(os, "unlink", failing)
    with pytest.raises(OutOfService):
        store.delete(["journal/a-1/1"])


def test_removing_leaves_a_folder_that_another_attempt_still_fills(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for name in ("journal/a-1/1", "journal/a-1/2", "journal/b-1/1"):
        store.create(name, b"")
    store.delete(["journal/a-1/1", "journal/b-1/1", "journal/gone/1"])
    assert store.names() == ["journal/a-1/2"]
    assert not (tmp_path / "journal/b-1").exists()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_an_objects_url_names_it_alone_whatever_it_is_called(name: str) -> None:
    url = Store("/tmp/some folder").url_of(name)
    assert url.isascii() and unquote(url) == f"file:///tmp/some folder/{name}"


@given(st.lists(INPUTS))
def test_a_plan_is_spelt_as_canonical_json_however_it_is_written(inputs: list[ShardInput]) -> None:
    plan = Plan(recipe={"settings": [1e20, "é"]}, inputs=tuple(inputs), versions={"recap": "1"})
    whole = {"recipe": plan.recipe, "inputs": [to_json(each) for each in inputs], "versions": plan.versions}
    assert plan.encoded == canonical(whole)

"""The same line and the same protocol on a real S3 server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from captioner.errors import Refused, SourceError
from shards.finding import find
from shards.probe import probe
from shards.store import Store, open_blob
from shards.verify import verify
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.kills import answers
from tests.processes import datacomp, recap, run
from tests.s3 import upload


def test_of_writers_of_one_key_exactly_one_wins(bucket: str) -> None:
    # Few: SeaweedFS hands the lock of a name that is not there yet from one to the next once a second. Sixteen
    # processes race for forty names in `make chaos`.
    store = Store(f"{bucket}/race")
    for key in range(3):
        won: list[int] = []

        def write(number: int, key: int = key, won: list[int] = won) -> None:
            if store.create(f"{key}.json", str(number).encode()):
                won.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(won) == 1 and store.read(f"{key}.json") == str(won[0]).encode()


def test_the_probe_passes_and_leaves_nothing(bucket: str) -> None:
    store = Store(f"{bucket}/probe")
    probe(store)
    assert store.names() == []


def test_a_run_from_bucket_to_bucket_makes_the_corpus_of_a_run_on_disk(bucket: str, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "in", 2, 20)
    source = upload(folder, f"{bucket}/in")
    recipe = fake_recipe(looping=0.2, refused=0.1)
    run_here(recipe, planned(recipe, folder), tmp_path / "disk")
    run_here(recipe, planned(recipe, source), f"{bucket}/out")
    assert answers(f"{bucket}/out") == answers(tmp_path / "disk")
    verdict = verify(Store(f"{bucket}/out"))
    assert verdict.complete and not verdict.problems
    assert Store(f"{bucket}/out").names("journal/") == []


def test_an_object_that_changed_since_it_was_planned_is_noticed(bucket: str) -> None:
    store = Store(f"{bucket}/changing")
    store.create("0.tar", b"x" * 2000)
    found = find(f"{bucket}/changing")[0]
    blob = open_blob(found.url, found.etag)
    store.delete(["0.tar"])
    store.create("0.tar", b"y" * 2000)
    with pytest.raises(SourceError, match="source_changed"):
        b"".join(blob.chunks())
    assert open_blob(found.url, found.etag).etag != found.etag


def test_inputs_are_found_by_prefix_glob_and_name(bucket: str) -> None:
    store = Store(f"{bucket}/found")
    for name in ("a/0.tar", "a/1.tar", "b/0.tar"):
        store.create(name, b"1")
    assert len(find(f"{bucket}/found")) == 3
    assert [found.url for found in find(f"{bucket}/found/a/*.tar")] == [f"{store.url}/a/{n}.tar" for n in (0, 1)]
    assert [found.url for found in find(f"{bucket}/found/b/0.tar")] == [f"{store.url}/b/0.tar"]


def test_a_list_files_lines_are_looked_up_one_by_one_and_a_lost_one_is_told(bucket: str) -> None:
    store = Store(f"{bucket}/listed")
    for name in ("a/0.tar", "a/1.tar", "b [1]/2.tar"):
        store.create(name, b"12")
    store.create("some.lst", f"{store.url}/a/1.tar\r\n{store.url}/b [1]/\r\n".encode())
    store.create("lost.lst", f"{store.url}/a/1.tar\n{store.url}/a/9.tar\n".encode())
    everything = find(f"{store.url}/")
    assert find(f"{store.url}/some.lst") == [each for each in everything if each.url.endswith(("/1.tar", "/2.tar"))]
    with pytest.raises(Refused, match=r"1 of its 2 lines, such as '.*a/9\.tar'"):
        find(f"{store.url}/lost.lst")


def test_a_whole_run_as_a_user_starts_it(bucket: str, tmp_path: Path) -> None:
    source = upload(make_shards(tmp_path / "in", 2, 10), f"{bucket}/user/in")
    finished = run(*datacomp(source, f"{bucket}/user/out"))
    assert finished.returncode == 0, finished.stderr
    assert recap("verify", f"{bucket}/user/out").returncode == 0
    plan = Store(f"{bucket}/user/out").read("plan.json")
    assert b"recap-test-secret" not in plan

"""Garbage is what no record names and what is old; nothing else is ever deleted."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from captioner.errors import CorruptState, Refused
from shards import commits, gc
from shards.store import Store
from shards.verify import verify
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.processes import recap

ATTEMPT = "0123456789abcdef" * 2
LITTER = [
    ".plan.json.0123456789abcdef.tmp",
    "commits/.00000.json.0123456789abcdef.tmp",
    f"data/00000-{ATTEMPT}.parquet",
    f"data/00000-{ATTEMPT}.tar",
    f"journal/00000-{ATTEMPT}/000001.jsonl",
    "probe/0123456789abcdef",
]


@pytest.fixture(scope="module")
def littered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one shard of two done, with litter of every kind beside it, all of it two days old."""
    folder = tmp_path_factory.mktemp("gc")
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, make_shards(folder / "in", 2, 10)), folder / "out", shards=["00000"])
    for name in LITTER:
        Store(str(folder / "out")).create(name, b"litter")
    age(folder / "out", 48)
    return folder / "out"


@pytest.fixture
def corpus(littered: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(littered, tmp_path / "out"))


def age(out: Path, hours: float, prefix: str = "") -> None:
    """Make every file under a prefix so many hours old."""
    then = time.time() - hours * 3600
    for path in out.rglob("*"):
        if path.is_file() and str(path.relative_to(out)).startswith(prefix):
            os.utime(path, (then, then))


def names(out: Path) -> list[str]:
    return [each.name for each in gc.garbage(Store(str(out)))]


def test_garbage_is_every_kind_of_litter_and_no_file_that_a_record_names(corpus: Path) -> None:
    assert names(corpus) == LITTER
    assert {each.why for each in gc.garbage(Store(str(corpus)))} == {
        "a file that was never finished", "in no commit record", "left by a probe", "the journal of a committed shard",
    }  # fmt: skip


def test_by_default_the_command_lists_and_deletes_nothing(corpus: Path) -> None:
    before = Store(str(corpus)).names()
    listed = recap("gc", str(corpus))
    assert listed.returncode == 0 and "nothing was deleted" in listed.stdout
    assert f"{len(LITTER)} objects" in listed.stdout
    assert Store(str(corpus)).names() == before


def test_with_delete_it_logs_each_name_and_the_corpus_stays_sound(corpus: Path) -> None:
    before = set(Store(str(corpus)).names())
    deleted = recap("gc", str(corpus), "--delete")
    assert deleted.returncode == 0 and f"deleted {len(LITTER)} objects" in deleted.stdout
    assert all(f"deleting: name={name} " in deleted.stderr for name in LITTER)
    assert before - set(Store(str(corpus)).names()) == set(LITTER)
    assert not verify(Store(str(corpus))).problems
    assert "no garbage" in recap("gc", str(corpus)).stdout


def test_what_is_younger_than_asked_is_left_alone(corpus: Path) -> None:
    age(corpus, 23)
    assert names(corpus) == []
    assert len(gc.garbage(Store(str(corpus)), hours=22)) == len(LITTER)


def test_an_attempt_still_at_work_keeps_its_oldest_file(corpus: Path) -> None:
    """A tar of two days ago may be committed yet, when its attempt wrote its journal a minute ago."""
    store = Store(str(corpus))
    store.create(f"data/00001-{'f' * 32}.tar", b"published long ago")
    age(corpus, 48, "data/00001-")
    assert f"data/00001-{'f' * 32}.tar" in names(corpus)
    store.create(f"journal/00001-{'f' * 32}/000007.jsonl", b"written just now")
    assert names(corpus) == LITTER


def test_the_journal_of_an_open_shard_is_kept_however_old(corpus: Path) -> None:
    Store(str(corpus)).create(f"journal/00001-{ATTEMPT[::-1]}/000001.jsonl", b"")
    age(corpus, 1000)
    assert names(corpus) == LITTER


def test_what_a_record_names_meanwhile_is_not_deleted(corpus: Path) -> None:
    store = Store(str(corpus))
    record = commits.read(store, "00000")
    assert record is not None
    named = gc.Garbage(name=record.files[0].name, bytes=1, age_seconds=1e9, why="in no commit record")
    assert gc.collect(store, [named]) == []
    assert record.files[0].name in store.names()


def test_a_damaged_record_stops_it_as_nobody_knows_what_it_names(corpus: Path) -> None:
    record = corpus / "commits/00000.json"
    record.write_bytes(record.read_bytes()[:-10])
    with pytest.raises(CorruptState, match=r"commits/00000\.json"):
        gc.garbage(Store(str(corpus)))
    assert recap("gc", str(corpus), "--delete").returncode == 4
    with pytest.raises(Refused, match="no run"):
        gc.garbage(Store(str(corpus / "data")))


def test_garbage_on_an_object_store_is_told_by_the_stores_clock(bucket: str, tmp_path: Path) -> None:
    recipe, store = fake_recipe(), Store(f"{bucket}/gc/out")
    run_here(recipe, planned(recipe, make_shards(tmp_path / "in", 1, 5)), store.url)
    kept = store.names()
    store.create(f"data/00000-{ATTEMPT}.tar", b"litter")
    time.sleep(2.1)  # S3 tells times to the second
    assert gc.garbage(store) == []
    found = gc.garbage(store, hours=1 / 3600)
    assert [each.name for each in found] == [f"data/00000-{ATTEMPT}.tar"]
    gc.collect(store, found)
    assert store.names() == kept

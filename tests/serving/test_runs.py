"""The view of a run: it reads each record once, and outlives lost ledgers, another run and an empty folder."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serving.runs import RunView
from shards import journal
from shards import plan as plans
from shards.journal import Entry, Journal
from shards.ledger import Row
from shards.store import Store
from tests.serving.running import half_a_run, run_over_clips


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.runs.LOOK_SECONDS", 0.05)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The output of a run over pictures, half way, and of one over clips: to make one takes seconds."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("pictures", "clips")}
    half_a_run(folders["pictures"])
    run_over_clips(folders["clips"])
    return {name: folder / "out" for name, folder in folders.items()}


async def until(view: RunView, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while not true(view.seen):
            await asyncio.sleep(0.02)
    return view.seen


def judged(shard: str, number: int) -> Entry:
    return Entry(row=Row(source_shard=shard, key=f"{number:05d}", member_offset=512 * number, outcome="captioned"))


class Counting(Store):
    """A folder that counts how often each object is read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reads: Counter[str] = Counter()

    def read(self, name: str) -> bytes:
        self.reads[name] += 1
        return super().read(name)


def test_each_record_and_each_segment_of_a_journal_is_read_once_however_often_one_looks(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    store = Counting(str(shutil.copytree(runs["pictures"], tmp_path / "out")))
    plan = plans.read(store)
    assert plan is not None
    shard = plan.inputs[2].shard
    attempt = Journal(store, plan.run_id, shard, "0" * 32)

    def write(*numbers: int) -> None:
        for number in numbers:
            attempt.add(judged(shard, number))
        attempt.write()

    async def scene() -> None:
        write(1, 2)
        store.reads.clear()
        async with RunView(store) as view:
            assert (view.seen["read"], view.seen["committed"], view.seen["open"]) == (12, 2, 1)
            write(2, 3)  # a sample that is judged twice is one
            await until(view, lambda seen: seen["read"] == 13)
            at = view.seen
            await until(view, lambda seen: seen is not at)
            journals = {name: count for name, count in store.reads.items() if name.startswith("journal/")}
            assert set(journals) == set(journal.segments(store, shard)) and set(journals.values()) == {1}
            assert store.reads["plan.json"] == 1
            # Once for the sum, and once more by the first look, which draws pictures of their shards.
            assert {count for name, count in store.reads.items() if name.startswith("commits/")} == {2}
            journal.clear(store, shard)
            await until(view, lambda seen: seen["read"] == 10 and seen["open"] == 0)

    asyncio.run(scene())


class Committing(Store):
    """A folder whose shard is committed, and its journal cleared, right after the first listing of journals or records
    once `then` is set."""

    then: Callable[[], None] | None = None

    def names(self, prefix: str = "") -> list[str]:
        found = super().names(prefix)
        if self.then is not None and prefix in ("journal/", "commits/"):
            then, self.then = self.then, None
            then()
        return found


def test_a_shard_that_is_committed_between_two_listings_is_never_missing(runs: dict[str, Path], tmp_path: Path) -> None:
    out = shutil.copytree(runs["pictures"], tmp_path / "out")
    store, record = Committing(str(out)), min((out / "commits").iterdir())
    kept = record.read_bytes()
    record.unlink()
    plan = plans.read(store)
    assert plan is not None
    attempt = Journal(store, plan.run_id, record.stem, "0" * 32)
    for number in range(5):
        attempt.add(judged(record.stem, number))
    attempt.write()

    def commit() -> None:
        record.write_bytes(kept)
        journal.clear(store, record.stem)

    async def scene() -> None:
        async with RunView(store) as view:
            assert (view.seen["read"], view.seen["committed"]) == (10, 1)
            store.then = commit
            assert (await until(view, lambda seen: seen["committed"] == 2 or seen["read"] != 10))["read"] == 10

    asyncio.run(scene())


def test_a_run_over_clips_shows_a_frame_of_each(runs: dict[str, Path], tmp_path: Path) -> None:
    async def scene() -> None:
        async with RunView(Store(str(runs["clips"]))) as view:
            cards = view.seen["cards"]
            assert {(card["key"], card["picture"], card["missing"]) for card in cards} == {
                (key, True, "") for key in ("2", "3", "4")
            }
            assert all(card["second"] > 0 for card in cards)
            jpeg = tmp_path / "frame.jpg"
            jpeg.write_bytes(view.pictures[cards[0]["id"]])
            with Image.open(jpeg) as frame:
                assert frame.size == (320, 192)

    asyncio.run(scene())


def test_a_shard_whose_ledger_is_lost_is_counted_and_the_view_goes_on(runs: dict[str, Path], tmp_path: Path) -> None:
    out = shutil.copytree(runs["pictures"], tmp_path / "out")
    for lost in (out / "data").glob("*.parquet"):
        lost.unlink()

    async def scene() -> None:
        async with RunView(Store(str(out))) as view:
            assert view.seen["read"] == 10 and view.seen["cards"] == []
            at = view.seen
            assert (await until(view, lambda seen: seen is not at))["missed"] is False

    asyncio.run(scene())


def test_a_folder_that_was_emptied_is_told_and_another_run_in_it_is_shown_alone(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    out = shutil.copytree(runs["pictures"], tmp_path / "out")

    async def scene() -> None:
        async with RunView(Store(str(out))) as view:
            first = view.seen["run_id"]
            shutil.rmtree(out)
            gone = await until(view, lambda seen: seen["missed"])
            assert gone["read"] == 10 and gone["run_id"] == first
            shutil.copytree(runs["clips"], tmp_path / "new")
            (tmp_path / "new").rename(out)
            now = await until(view, lambda seen: not seen["missed"])
            assert now["run_id"] != first and now["read"] == 3 == len(now["cards"]) == len(view.pictures)

    asyncio.run(scene())

"""What goes wrong between us and a store: cases 45 to 51 of the fault table, on a real S3 server behind a bad proxy."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from captioner.errors import OutOfService, Refused, SourceError
from captioner.recipe import Pace
from shards import commits, patience, stored
from shards import store as stores
from shards.commits import Record
from shards.finding import find
from shards.probe import probe
from shards.store import Store, open_blob
from shards.verify import verify
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.faultproxy import KINDS, FaultProxy, Faults
from tests.kills import answers
from tests.processes import datacomp, run
from tests.s3 import rclone, upload


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds: the tests wait for nobody."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.1)
    patience.retries.take()


@contextmanager
def through(*of: str, share: float = 1.0, only: Callable[[str, str], bool] | None = None) -> Iterator[FaultProxy]:
    """Every s3:// URL goes through a proxy with these faults."""
    faults = Faults(share=share, of=of, only=only or (lambda method, path: True))
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"], faults, seed=7) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        stores._opened.cache_clear()
        try:
            yield proxy
        finally:
            stores._opened.cache_clear()


def first(times: int, method: str, part: str = "") -> Callable[[str, str], bool]:
    """Only the first so many requests of a method whose path holds a part."""
    seen = count()
    return lambda asked, path: asked == method and part in path and next(seen) < times


def blob_of(url: str, data: bytes) -> stored.StoredBlob:
    """An object of these bytes, opened."""
    folder, _, name = url.rpartition("/")
    assert Store(folder).create(name, data)
    return open_blob(url, "")


def record(attempt: str, shard: str = "00000", epoch: int = 1) -> Record:
    """A commit record that says nothing but whose it is."""
    return Record(
        plan="plan", shard=shard, attempt=attempt, epoch=epoch, input={"account": {}, "bytes_read": 0}, reason=None,
        flags=(), counts={}, reasons={}, spent={},
        files=(), first_key=None, last_key=None, digest="0" * 64,
    )  # fmt: skip


def test_a_run_through_ten_percent_faults_ends_as_an_undisturbed_one(bucket: str, tmp_path: Path) -> None:  # case 45
    folder = make_shards(tmp_path / "in", 8, 20)
    recipe = fake_recipe(looping=0.2, refused=0.1)
    run_here(recipe, planned(recipe, folder), tmp_path / "disk")
    source, out = upload(folder, f"{bucket}/f45/in"), f"{bucket}/f45/out"
    with through(*KINDS, "garble", share=0.1) as proxy:
        probe(Store(out))
        done = run_here(recipe, planned(recipe, source), out, pace=Pace(journal_every=1))
    assert answers(out) == answers(tmp_path / "disk")
    verdict = verify(Store(out))
    assert verdict.complete and not verdict.problems
    # How many requests there are, and so how many faults, depends on how many captions share a journal write.
    assert len(proxy.injected) >= 4 and proxy.injected.total() > 10
    assert sum(sum(each.retries.values()) for each in done) > 3


@pytest.mark.parametrize("kind", ["slow_down", "too_many", "reset"])
def test_a_store_that_stays_away_is_out_of_service_when_patience_ends(
    bucket: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # case 45
    monkeypatch.setattr(patience, "SECONDS", 0.3)
    with through(kind) as proxy, pytest.raises(OutOfService, match="does not answer"):
        Store(f"{bucket}/f45/{kind}").create("a", b"1")
    assert proxy.injected[kind] > 3 and proxy.passed == 0


def test_pauses_double_up_to_a_bound_and_are_drawn_from_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:  # case 45
    drawn: list[tuple[float, float]] = []
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 1.0)
    monkeypatch.setattr(patience.random, "uniform", lambda low, high: drawn.append((low, high)) or 0)
    waiting = patience.pauses()
    [next(waiting) for _ in range(5)]
    assert drawn == [(0, 0.2), (0, 0.4), (0, 0.8), (0, 1.0), (0, 1.0)]


def test_a_body_that_ends_early_is_read_again(bucket: str) -> None:  # case 46
    data = os.urandom(100_000)
    blob_of(f"{bucket}/f46/cut", data)
    with through("cut", only=first(2, "GET")) as proxy:
        assert b"".join(open_blob(f"{bucket}/f46/cut", "").chunks()) == data
    assert proxy.injected["cut"] == 2 and patience.retries.take() == {"short body": 2}


def test_a_body_that_always_ends_early_is_source_corrupt(bucket: str) -> None:  # case 46
    blob_of(f"{bucket}/f46/always", os.urandom(1000))
    with through("cut", only=first(99, "GET")) as proxy, pytest.raises(SourceError, match="source_corrupt"):
        list(open_blob(f"{bucket}/f46/always", "").chunks())
    assert proxy.injected["cut"] == stored.READS


def test_wrong_bytes_are_noticed_by_the_etag_and_the_shard_is_read_again(
    bucket: str, tmp_path: Path
) -> None:  # case 46
    folder = make_shards(tmp_path / "in", 1, 10)
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, folder), tmp_path / "disk")
    source = upload(folder, f"{bucket}/f46/in")
    with through("garble", only=first(1, "GET", "00000.tar")) as proxy:
        [done] = run_here(recipe, planned(recipe, source), f"{bucket}/f46/out")
    assert proxy.injected["garble"] == 1 and done.retries["wrong bytes"] == 1 and done.reason is None
    assert answers(f"{bucket}/f46/out") == answers(tmp_path / "disk")
    assert not verify(Store(f"{bucket}/f46/out")).problems


def test_bytes_that_stay_wrong_fail_that_shard_and_no_other(bucket: str, tmp_path: Path) -> None:  # case 46
    recipe = fake_recipe()
    source = upload(make_shards(tmp_path / "in", 3, 5), f"{bucket}/f46/rot")
    with through("garble", only=first(99, "GET", "00001.tar")):
        done = run_here(recipe, planned(recipe, source), f"{bucket}/f46/rotten")
    assert [each.reason for each in done] == [None, "source_corrupt", None]
    assert [each.counts["read"] for each in done] == [5, 0, 5]


def test_bytes_garbled_on_the_way_up_are_refused_by_the_store_and_sent_again(bucket: str) -> None:  # case 46
    store, data = Store(f"{bucket}/f46/up"), os.urandom(50_000)
    with through("garble", only=first(1, "PUT")) as proxy, Store(store.url).building("data/a.tar") as building:
        building.file.write(data)
        assert building.publish()
    assert proxy.injected["garble"] == 1 and store.read("data/a.tar") == data


def test_a_record_garbled_on_its_way_here_is_read_again(bucket: str) -> None:  # case 46
    store = Store(f"{bucket}/f46/record")
    commits.commit(store, record("a" * 32))
    with through("garble", only=first(1, "GET", "commits/")):
        there = commits.read(Store(store.url), "00000")
    assert there is not None and there.attempt == "a" * 32


@pytest.mark.parametrize(("kind", "spoilt"), [("whole", 99), ("misplace", 1)])
def test_a_range_that_is_ignored_or_misplaced_is_noticed(
    bucket: str, kind: str, spoilt: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # case 47
    monkeypatch.setattr(stored, "PIECE", 10_000)
    data = os.urandom(65_432)
    with through(kind, only=first(spoilt, "GET")) as proxy:
        blob_of(f"{bucket}/f47/{kind}", data)
        blob = open_blob(f"{bucket}/f47/{kind}", "")
        assert b"".join(blob.chunks()) == data
        assert b"".join(blob.chunks(33_333)) == data[33_333:]
    assert proxy.injected[kind] >= 1


def test_a_shard_that_is_forbidden_or_gone_costs_one_request_and_the_run_goes_on(
    bucket: str, tmp_path: Path
) -> None:  # case 48
    recipe = fake_recipe()
    source = upload(make_shards(tmp_path / "in", 3, 5), f"{bucket}/f48/in")
    plan = planned(recipe, source)
    Store(source).delete(["00002.tar"])
    asked: list[str] = []

    def forbidden(method: str, path: str) -> bool:
        asked.append(path)
        return "00000.tar" in path

    with through("forbid", only=forbidden):
        done = run_here(recipe, plan, f"{bucket}/f48/out")
    assert [each.reason for each in done] == ["source_forbidden", None, "source_missing"]
    assert [sum(name in path for path in asked) for name in ("00000.tar", "00002.tar")] == [1, 1]


@pytest.mark.parametrize("kind", ["lose", "cut"])
def test_a_commit_whose_answer_is_lost_is_known_as_our_own(bucket: str, kind: str) -> None:  # case 49
    store = Store(f"{bucket}/f49/{kind}")
    with through("lose", only=first(1, "PUT")) as proxy:
        through_proxy = Store(store.url)
        assert commits.commit(through_proxy, record("a" * 32)) == "committed"
        assert commits.commit(through_proxy, record("b" * 32)) == "lost"
    assert proxy.injected["lose"] == 1 and commits.committed(store) == {"00000"}


def test_a_data_file_whose_answer_is_lost_is_not_sent_under_another_name(bucket: str) -> None:  # case 49
    store = Store(f"{bucket}/f49/data")
    with through("lose", only=first(1, "PUT")), Store(store.url).building("data/a.tar") as building:
        building.file.write(b"12345")
        assert building.publish()
    assert store.names() == ["data/a.tar"] and store.size("data/a.tar") == 5


def test_of_sixteen_writers_on_forty_keys_each_knows_the_truth_whatever_answers_are_lost(bucket: str) -> None:  # 49, 50
    keys = [f"{number:05d}" for number in range(40)]
    attempts = [secrets.token_hex(16) for _ in range(16)]
    with through("lose", "slow_down", "reset", share=0.3, only=lambda method, path: method == "PUT") as proxy:
        store = Store(f"{bucket}/f50/race")

        def write(attempt: str) -> dict[str, str]:
            first = attempts.index(attempt) % 4 * 10  # four writers at a time on each key, the others later
            return {key: commits.commit(store, record(attempt, key)) for key in keys[first:] + keys[:first]}

        with ThreadPoolExecutor(16) as pool:
            verdicts = dict(zip(attempts, pool.map(write, attempts), strict=True))
    winners = [each.attempt for each in commits.read_all(Store(f"{bucket}/f50/race"), keys)]
    for key, winner in zip(keys, winners, strict=True):
        assert [attempt for attempt, said in verdicts.items() if said[key] == "committed"] == [winner]
    assert len(set(winners)) > 1 and proxy.injected["lose"] > 20


def test_a_store_that_puts_two_writers_off_is_asked_again(bucket: str) -> None:  # case 50
    with through("conflict", only=first(2, "PUT")) as proxy:
        assert commits.commit(Store(f"{bucket}/f50/conflict"), record("a" * 32)) == "committed"
    assert proxy.injected["conflict"] == 2


def test_a_file_that_the_store_did_not_keep_whole_is_not_committed(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # case 46
    monkeypatch.setattr(Store, "size", lambda self, name: 4)
    with pytest.raises(OutOfService, match="kept 4 bytes"), Store(f"{bucket}/f46/size").building("a") as building:
        building.file.write(b"12345")
        building.publish()


def test_a_large_file_goes_up_in_parts_and_whole(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "ONE_PUT_BYTES", 24 * 2**20)
    data = os.urandom(30 * 2**20)
    with Store(f"{bucket}/parts").building("data/a.tar") as building:
        building.file.write(data)
        assert building.publish()
    assert Store(f"{bucket}/parts").read("data/a.tar") == data


# case 51
def test_a_store_without_conditions_is_refused_with_exit_2_and_the_features_name(loose: str, tmp_path: Path) -> None:
    refused = run(*datacomp(make_shards(tmp_path / "in", 1, 4), f"{loose}/out"))
    assert refused.returncode == 2, refused.stderr
    assert "conditional puts (If-None-Match: *)" in refused.stderr and "Traceback" not in refused.stderr
    assert [path for path in (tmp_path / "rclone/bucket").rglob("*") if path.is_file()] == []


def test_a_store_that_does_not_look_at_checksums_is_refused(bucket: str) -> None:  # case 51
    store = f"{bucket}/f51"
    lying = through("take", only=lambda method, path: method == "PUT" and "-checksum" in path)
    with lying as proxy, pytest.raises(Refused, match="checksum verification"):
        probe(Store(store))
    assert proxy.injected["take"] >= 1 and Store(store).names() == []


def test_a_bucket_that_is_not_ours_is_refused(bucket: str) -> None:
    with through("forbid"), pytest.raises(Refused, match="credentials"):
        probe(Store(f"{bucket}/f51"))


@pytest.fixture
def loose(tmp_path: Path) -> Iterator[str]:
    """A bucket on a server that ignores conditions, reached by a plain s3:// URL."""
    (tmp_path / "rclone").mkdir()
    with rclone(tmp_path / "rclone") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        stores._opened.cache_clear()
        yield "s3://bucket"
    stores._opened.cache_clear()


def test_a_bucket_that_is_not_there_is_refused(loose: str) -> None:
    with pytest.raises(Refused, match="no such bucket"):
        probe(Store("s3://nowhere/out"))


def test_etags_without_quotes_in_a_listing_are_those_of_the_object(loose: str) -> None:
    Store(f"{loose}/in").create("0.tar", b"123")
    [found] = find(f"{loose}/in")
    assert open_blob(found.url, found.etag).etag == found.etag

"""Every row of a list is downloaded or failed for a reason; only whole shards count, and none comes out twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from captioner.errors import CorruptState, OutOfService, PlanMismatch, Refused
from shards import downloads
from shards.downloads import Account, Round, Wanted, begin, fates, new_round, publish, rounds, rows_again, wanted
from shards.failures import FAILURES, reason_of
from shards.store import Store
from shards.url_list import ROW
from tests.corpora import picture
from tests.img2dataset_files import Fate, write_shard

A_SHARD = 4
LISTED = 10
PICTURE = picture(1)


def rows(count: int = LISTED) -> Iterator[pa.Table]:
    yield pa.table({"url": [f"https://a.example/{at}" for at in range(count)], ROW: pa.array(range(count), pa.int64())})


class Bench:
    """A download's folder and the room where its shards are made."""

    def __init__(self, folder: Path) -> None:
        self.to, self.made = Store(str(folder / "out")), folder / "made"
        self.rounds = [new_round(self.to, 1, rows(), A_SHARD)]
        self.made.mkdir()
        self.lists = folder / "out/download/list"

    def shards(self) -> list[Wanted]:
        return wanted(self.rounds, A_SHARD)

    def make(self, one: Wanted, fate: Fate, drop: int | None = None) -> bool:
        write_shard(self.made, self.lists, one, fate, drop)
        return publish(self.to, self.made, self.lists, one)

    def account(self) -> Account:
        return fates(self.to, self.rounds, self.shards()).account()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def good(row: dict[str, Any]) -> bytes | str:
    return PICTURE


def test_listed_is_downloaded_and_failed_by_reason_and_left(bench: Bench) -> None:
    words = {1: "HTTP Error 404: Not Found", 2: "timed out", 3: "HTTP Error 503: Service Unavailable", 5: "what?"}
    first, second, third = bench.shards()
    assert bench.make(first, lambda row: words.get(row[ROW], PICTURE))
    assert bench.make(second, lambda row: words.get(row[ROW], PICTURE))
    account = bench.account()
    assert (account.listed, account.shards, account.downloaded, account.left, account.missing) == (10, 2, 4, 2, 0)
    assert account.failed == {"gone": 1, "server_error": 1, "timed_out": 1, "other": 1}
    assert account.bytes == 4 * len(PICTURE) and account.exit_code == 1
    assert bench.make(third, good)
    account = bench.account()
    assert account.listed == account.downloaded + sum(account.failed.values()) and account.left == 0


def test_all_downloaded_is_exit_code_0(bench: Bench) -> None:
    assert all(bench.make(one, good) for one in bench.shards())
    assert bench.account().exit_code == 0


def test_a_row_that_img2dataset_lost_without_a_word_is_missing_and_tried_again(bench: Bench) -> None:
    for one in bench.shards():
        bench.make(one, good, drop=6)
    account = bench.account()
    assert (account.downloaded, account.missing, account.missing_rows, account.exit_code) == (9, 1, [6], 4)
    again = fates(bench.to, bench.rounds, bench.shards()).worth_another_try()
    assert [row[ROW] for table in rows_again(bench.to, bench.rounds[0], again) for row in table.to_pylist()] == [6]


def test_only_what_passes_is_tried_again_as_further_shards_and_nothing_is_doubled(bench: Bench) -> None:
    words = {0: "timed out", 4: "HTTP Error 404: Not Found", 7: "HTTP Error 429: Too Many Requests", 9: "Errno 104]"}
    for one in bench.shards():
        bench.make(one, lambda row: words.get(row[ROW], PICTURE))
    again = fates(bench.to, bench.rounds, bench.shards()).worth_another_try()
    bench.rounds.append(new_round(bench.to, 2, rows_again(bench.to, bench.rounds[0], again), A_SHARD))
    assert rounds(bench.to) == bench.rounds and bench.rounds[1].rows == 3
    further = bench.shards()[3:]
    assert [(one.name, one.rows) for one in further] == [("00003", 3)]
    assert bench.account().failed == {"gone": 1, "busy": 1, "timed_out": 1, "reset": 1}  # not tried yet: as it was
    assert bench.make(further[0], lambda row: "timed out" if row[ROW] == 7 else PICTURE)
    account = bench.account()
    assert (account.downloaded, account.failed, account.doubled) == (8, {"gone": 1, "timed_out": 1}, 0)
    assert account.listed == account.downloaded + sum(account.failed.values())


def test_a_row_that_came_twice_is_doubled_and_exit_code_4(bench: Bench) -> None:
    for one in bench.shards():
        bench.make(one, good)
    bench.rounds.append(new_round(bench.to, 2, rows(1), A_SHARD))
    bench.make(bench.shards()[3], good)
    account = bench.account()
    assert (account.downloaded, account.doubled, account.exit_code) == (10, 1, 4)


def test_a_shard_whose_stats_are_not_whole_is_not_taken_yet(bench: Bench) -> None:
    one = bench.shards()[0]
    write_shard(bench.made, bench.lists, one, good)
    stats = bench.made / "00000_stats.json"
    for cut in (b"", stats.read_bytes()[:30]):
        stats.write_bytes(cut)
        assert not publish(bench.to, bench.made, bench.lists, one)
    assert downloads.whole(bench.to) == set() and not [name for name in bench.to.names() if "/" not in name]


def test_a_shard_that_does_not_agree_with_itself_or_the_list_is_never_published(bench: Bench) -> None:
    one, other, _ = bench.shards()
    write_shard(bench.made, bench.lists, one, good)
    tar, parquet = bench.made / "00000.tar", bench.made / "00000.parquet"
    whole, table = tar.read_bytes(), parquet.read_bytes()
    spoilt = {
        "other bytes": (whole.replace(PICTURE, PICTURE[:-1] + b"?"), table, "other bytes than were downloaded"),
        "a cut tar": (whole[: len(whole) // 2], table, "came out"),
        "no tar to speak of": (whole[-1024:], table, "without 4 pictures"),
        "a cut table": (whole, table[:-9], "came out broken"),
    }
    for how, (tar_bytes, table_bytes, said) in spoilt.items():
        tar.write_bytes(tar_bytes)
        parquet.write_bytes(table_bytes)
        with pytest.raises(OutOfService, match=said):
            publish(bench.to, bench.made, bench.lists, one)
        assert downloads.whole(bench.to) == set(), how
    tar.write_bytes(whole)
    parquet.write_bytes(table)
    for ending in (".tar", ".parquet", downloads.STATS):
        (bench.made / f"00000{ending}").rename(bench.made / f"00001{ending}")
    with pytest.raises(OutOfService, match="not those of the list"):
        publish(bench.to, bench.made, bench.lists, other)
    assert not [name for name in bench.to.names() if "/" not in name]


def test_what_a_killed_download_published_half_is_cleared_and_whole_shards_stay(bench: Bench) -> None:
    first, second, _ = bench.shards()
    bench.make(first, good)
    for name in ("00001.parquet", "00001.tar", "00002.parquet"):
        bench.to.create(name, b"of a shard whose stats never came")
    before = bench.to.read("00000.tar")
    assert downloads.clear_cut(bench.to) == ["00001.parquet", "00001.tar", "00002.parquet"]
    assert bench.make(second, good) and downloads.whole(bench.to) == {0, 1}
    assert bench.to.read("00000.tar") == before


def test_a_second_download_to_the_same_place_is_found_out(bench: Bench) -> None:
    one = bench.shards()[0]
    bench.to.create("00000.parquet", b"another's")
    with pytest.raises(OutOfService, match="does a second download run there"):
        bench.make(one, good)


def test_a_damaged_table_among_whole_shards_is_corrupt_state(bench: Bench) -> None:
    bench.make(bench.shards()[0], good)
    assert bench.to.path is not None
    (bench.to.path / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptState):
        bench.account()


def test_another_list_or_setting_on_the_same_output_is_refused_with_what_differs(tmp_path: Path) -> None:
    to = Store(str(tmp_path))
    plan = {"list": [{"name": "list.csv", "sha256": "a"}], "samples_a_shard": 10}
    begin(to, plan)
    begin(to, plan)
    with pytest.raises(PlanMismatch, match=r"list\[0\]\.sha256: there 'a', asked 'b'"):
        begin(to, plan | {"list": [{"name": "list.csv", "sha256": "b"}]})
    with pytest.raises(PlanMismatch, match="samples_a_shard: there 10, asked 20"):
        begin(to, plan | {"samples_a_shard": 20})
    (tmp_path / "other").mkdir()
    (tmp_path / "other/holiday.jpg").write_bytes(b"mine")
    with pytest.raises(Refused, match="holds something else"):
        begin(Store(str(tmp_path / "other")), plan)


def test_long_lists_are_cut_between_shards_so_that_img2dataset_numbers_them_as_we_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "PART_ROWS", 9)
    made = new_round(Store(str(tmp_path)), 1, rows(19), A_SHARD)
    sizes = enumerate((8, 8, 3))
    assert made == Round(parts=tuple((f"download/list/01-{part:05d}.parquet", rows) for part, rows in sizes))
    assert [(one.shard, one.start, one.rows) for one in wanted([made], A_SHARD)] == [
        *((0, 0, 4), (1, 4, 4), (2, 0, 4)),
        *((3, 4, 4), (4, 0, 3)),
    ]


SAID = {  # as urllib, http.client and ssl of Python 3.11 say it, and img2dataset 1.47.0 itself
    "Use of image disallowed by X-Robots-Tag directive": "opted_out",
    "hash mismatch": "changed",
    "answer of over 1000 bytes": "too_large",
    "HTTP Error 404: File not found": "gone",
    "HTTP Error 410: Gone": "gone",
    "HTTP Error 403: Forbidden": "forbidden",
    "HTTP Error 451: Unavailable For Legal Reasons": "forbidden",
    "HTTP Error 429: Too Many Requests": "busy",
    "HTTP Error 500: Internal Server Error": "server_error",
    "HTTP Error 503: Service Unavailable": "server_error",
    "HTTP Error 400: Bad Request": "http_error",
    "HTTP Error 302: The HTTP server returned a redirect error that would lead to an infinite loop.": "http_error",
    "timed out": "timed_out",
    "<urlopen error timed out>": "timed_out",
    "timed out: no whole answer within 6 s": "timed_out",
    "The read operation timed out": "timed_out",
    "<urlopen error _ssl.c:989: The handshake operation timed out>": "timed_out",
    "<urlopen error [Errno 110] Connection timed out>": "timed_out",
    "[Errno 104] Connection reset by peer": "reset",
    "Remote end closed connection without response": "reset",
    "IncompleteRead(5 bytes read, 95 more expected)": "reset",
    "<urlopen error [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)>": "reset",
    "<urlopen error [Errno 111] Connection refused>": "unreachable",
    "<urlopen error [Errno 101] Network is unreachable>": "unreachable",
    "<urlopen error [Errno 113] No route to host>": "unreachable",
    "<urlopen error [Errno -3] Temporary failure in name resolution>": "no_name_service",
    "<urlopen error [Errno -2] Name or service not known>": "no_host",
    "<urlopen error [Errno -5] No address associated with hostname>": "no_host",
    "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired>": "tls",
    "<urlopen error [SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error (_ssl.c:1006)>": "tls",
    "<urlopen error unknown url type: file>": "bad_url",
    "unknown url type: ''": "bad_url",
    "<urlopen error no host given>": "bad_url",
    "URL can't contain control characters. '/a b.jpg' (found at least ' ')": "bad_url",
    "nonnumeric port: 'x'": "bad_url",
    "'ascii' codec can't encode character '\\xfc' in position 5: ordinal not in range(128)": "bad_url",
    "encoding with 'idna' codec failed (UnicodeError: label empty or too long)": "bad_url",
    "what has never been said": "other",
}


@pytest.mark.parametrize(("message", "reason"), SAID.items())
def test_a_message_has_one_reason(message: str, reason: str) -> None:
    assert reason_of(message) == reason


def test_every_reason_has_a_message_that_means_it_and_no_message_is_other() -> None:
    assert set(SAID.values()) == set(FAILURES)
    assert reason_of(None) == "other"


def test_the_stats_of_a_whole_shard_are_img2datasets_own_and_the_pictures_bytes(bench: Bench) -> None:
    bench.make(bench.shards()[2], good)
    assert json.loads(bench.to.read("00002_stats.json")) == {
        "count": 2, "successes": 2, "failed_to_download": 0, "bytes": 2 * len(PICTURE),
    }  # fmt: skip

"""A list of URLs in any form becomes rows that img2dataset can write down, under names that our sources read."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from captioner.errors import Refused
from shards.sources.datacomp import META as DATACOMP
from shards.sources.laion import META as LAION
from shards.url_list import ROW, columns_of, digest, list_files, parts, prepare, prepared, tables

ROWS = [
    {"uid": "00012", "url": "https://a.example/1,2.jpg", "text": 'a "dog",\nrunning', "clip_l14_similarity_score": 0.5},
    {"uid": "00013", "url": "https://a.example/ü.jpg", "text": "", "clip_l14_similarity_score": 0.25},
]


def written(folder: Path, form: str) -> Path:
    path = folder / f"list.{form}"
    table = pa.Table.from_pylist(ROWS)
    match form.removesuffix(".gz"):
        case "parquet":
            pq.write_table(table, path)
        case "csv":
            pa_csv.write_csv(table, path)
        case "tsv":
            pa_csv.write_csv(table, path, pa_csv.WriteOptions(delimiter="\t"))
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case "json":
            path.write_text(json.dumps(ROWS))
    if form.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def read(path: Path, *, url: str | None = None, caption: str | None = None, verify: bool = False) -> list[Any]:
    files = list_files(str(path))
    names = next(tables(files[0])).column_names
    return [row for table in prepare(files, columns_of(names, url, caption, verify)) for row in table.to_pylist()]


@pytest.mark.parametrize("form", ["parquet", "csv", "tsv", "jsonl", "json", "csv.gz", "jsonl.gz"])
def test_every_form_gives_the_same_rows_with_text_as_text_and_numbers_as_numbers(tmp_path: Path, form: str) -> None:
    expected = [
        {"uid": row["uid"], "url": row["url"], "caption": row["text"], ROW: at} | {"clip_l14_similarity_score": score}
        for at, (row, score) in enumerate(zip(ROWS, (0.5, 0.25), strict=True))
    ]
    assert read(written(tmp_path, form)) == expected


def test_a_text_file_is_a_url_a_line_whatever_commas_and_quotes_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text('https://a.example/1,2.jpg\n\n  https://a.example/"3".jpg\r\n')
    assert read(tmp_path / "list.txt") == [
        {"url": "https://a.example/1,2.jpg", ROW: 0},
        {"url": 'https://a.example/"3".jpg', ROW: 1},
    ]


def test_a_folder_is_its_files_in_order_and_rows_are_numbered_through(tmp_path: Path) -> None:
    for number in range(3):
        pq.write_table(pa.table({"url": [f"https://a.example/{number}"] * 2}), tmp_path / f"{number}.parquet")
    (tmp_path / "README.md").write_text("not a list")
    assert [(row["url"][-1], row[ROW]) for row in read(tmp_path)] == [
        *(("0", 0), ("0", 1), ("1", 2)),
        *(("1", 3), ("2", 4), ("2", 5)),
    ]


def test_what_json_has_no_word_for_becomes_text_or_null_and_everything_can_be_written() -> None:
    table = pa.table(
        {
            "url": pa.array(["https://a.example/1", None]),
            "score": pa.array([float("nan"), float("inf")]),
            "when": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5), None]),
            "price": pa.array([Decimal("1.50"), None]),
            "hash": pa.array([b"\xff\x00", None]),
            "boxes": pa.array([[[0.5, float("nan")]], None]),
            "kinds": pa.array(["a", "b"]).dictionary_encode(),
            "facts": pa.array([{"seen": datetime.date(2026, 1, 2), "n": 3}, None]),
            "huge": pa.array([2**64 - 1, 0], pa.uint64()),
        }
    )
    rows = prepared(table, columns_of(table.column_names, None, None, False), 7).to_pylist()
    assert rows[0] == {
        "url": "https://a.example/1", "score": None, "when": "2026-01-02 03:04:05", "price": "1.50", "hash": "ff00",
        "boxes": [[0.5, None]], "kinds": "a", "facts": '{"seen": "2026-01-02", "n": 3}', "huge": 2**64 - 1, ROW: 7,
    }  # fmt: skip
    assert rows[1]["url"] == "" and rows[1]["facts"] is None and rows[1][ROW] == 8
    json.dumps(rows, allow_nan=False)


def test_names_that_img2dataset_keeps_for_itself_are_moved_aside_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"URL": ["u"], "TEXT": ["t"], "sha256": ["AB"], "width": [3], "key": ["k"]}), path)
    assert read(path) == [
        {"url": "u", "caption": "t", "listed_sha256": "AB", "listed_width": 3, "listed_key": "k", ROW: 0}
    ]
    assert read(path, verify=True)[0]["sha256"] == "ab"


def test_datacomps_and_laions_fields_arrive_under_the_names_that_our_sources_read() -> None:
    def meta_of(source: Any, row: dict[str, Any]) -> dict[str, Any]:
        table = pa.Table.from_pylist([row])
        made = prepared(table, columns_of(table.column_names, None, None, False), 0).to_pylist()[0]
        found: dict[str, Any] = source(made["caption"], made)
        return {name: value for name, value in found.items() if name != "sidecar"}

    row = {"uid": "f" * 32, "url": "https://a.example/", "text": "a dog", "clip_l14_similarity_score": 0.25}
    assert meta_of(DATACOMP, row | {"clip_b32_similarity_score": 0.5, "original_width": 7}) == {
        "uid": "f" * 32, "url": "https://a.example/", "caption": "a dog", "similarity": 0.25,
        "clip_l14_similarity_score": 0.25, "clip_b32_similarity_score": 0.5,
    }  # fmt: skip
    row = {
        "URL": "https://a.example/",
        "TEXT": "a cat",
        "WIDTH": 640,
        "HEIGHT": 480,
        "similarity": 0.3,
        "NSFW": "UNLIKELY",
    }
    assert meta_of(LAION, row | {"punsafe": 0.01, "pwatermark": 0.9, "LICENSE": "?"}) == {
        "url": "https://a.example/", "caption": "a cat", "width": 640, "height": 480, "similarity": 0.3,
        "punsafe": 0.01, "pwatermark": 0.9, "nsfw": "UNLIKELY", "license": "?",
    }  # fmt: skip


def test_columns_that_are_not_there_are_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"--url-column one of link, text"):
        columns_of(["link", "text"], None, None, False)
    with pytest.raises(Refused, match=r"--caption-column words: there is url, text"):
        columns_of(["url", "text"], None, "words", False)
    with pytest.raises(Refused, match="wants a column sha256"):
        columns_of(["url", "text"], None, None, True)
    with pytest.raises(Refused, match="comes twice"):
        columns_of(["url", "url"], None, None, False)
    assert columns_of(["link", "text", "words"], "link", "words", False).name("text") == "text"


def test_files_that_are_none_or_differ_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(Refused, match=r"a\.parquet is no sound parquet file"):
        read(tmp_path)
    pq.write_table(pa.table({"url": ["u"], "score": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": ["u"]}), tmp_path / "b.parquet")
    with pytest.raises(Refused, match=r"b\.parquet has other columns"):
        read(tmp_path)
    for missing in (tmp_path / "nowhere.parquet", tmp_path / "README.md"):
        with pytest.raises(Refused, match="no list of URLs"):
            list_files(str(missing))
    with pytest.raises(Refused, match=r"a JSON list of objects"):
        (tmp_path / "c.json").write_text('{"url": "u"}')
        read(tmp_path / "c.json")


def test_a_lists_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"https://a.example/1\n")
    assert digest(list_files(str(tmp_path))[0]) == hashlib.sha256(b"https://a.example/1\n").hexdigest()


@pytest.mark.parametrize(("sizes", "expected"), [((3, 3, 4), [4, 4, 2]), ((9,), [4, 4, 1]), ((4,), [4]), ((0, 0), [])])
def test_parts_have_exactly_so_many_rows_in_the_lists_order(sizes: tuple[int, ...], expected: list[int]) -> None:
    numbers = iter(range(100))
    made = list(
        parts((pa.table({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes), 4)
    )
    assert [table.num_rows for table in made] == expected
    assert [row["n"] for table in made for row in table.to_pylist()] == list(range(sum(sizes)))

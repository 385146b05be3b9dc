"""A list of URLs, in any form that img2dataset takes, as the Parquet rows that it then cannot stumble over."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from captioner.errors import Refused
from shards.sources.img2dataset import TEXT
from shards.store import Store, absolute, local_path

ROW = "list_row"  # a row's place in the whole list, from 0: what one row is called, however often it is tried
# img2dataset writes columns of these names itself and refuses a list's own.
RESERVED = frozenset(
    {"key", "caption", "url", "width", "height", "original_width", "original_height", "status", "error_message", "exif"}
    | {"md5", "sha256", "sha512", ROW}
)
BATCH_ROWS = 65_536
PIECE_BYTES = 1 << 20
_TEXTS = {theirs: pa.string() for theirs, _ in TEXT}  # no CSV reader shall take a uid for a number

Read = Callable[[pa.NativeFile], Iterator[pa.Table]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which of a list's columns are what; sha256 where pictures are compared with it."""

    url: str
    caption: str | None = None
    sha256: str | None = None

    def name(self, theirs: str) -> str:
        """What a column of the list is called beside each picture."""
        ours = {self.sha256: "sha256", self.caption: "caption", self.url: "url"}
        return ours.get(theirs, f"listed_{theirs}" if theirs in RESERVED else theirs)


def list_files(where: str) -> list[str]:
    """The URLs of a list's files, sorted: one file, or all of a folder that have a known form. Raises Refused."""
    url = absolute(where)
    path = local_path(url)
    if path is not None and path.is_file():
        found = [url]
    elif path is not None or Store(url).names():
        found = [each.url for each in Store(url).listing()] if path is None or path.is_dir() else []
    else:
        found = [url]
    lists = sorted(each for each in found if form_of(each) is not None)
    if not lists:
        raise Refused(
            f"no list of URLs at {where!r}: a file that ends in {', '.join(FORMS)} (or .gz), or a folder of such"
        )
    return lists


def form_of(url: str) -> str | None:
    """Which of FORMS a file's name says, None for none."""
    ending = url.lower().removesuffix(".gz").rpartition(".")[2]
    return ending if ending in FORMS else None


def digest(url: str) -> str:
    """sha256, in hex, of a file of the list. Raises Refused where it is not there."""
    seen = hashlib.sha256()
    with _opened(url) as file:
        while piece := file.read(PIECE_BYTES):
            seen.update(piece)
    return seen.hexdigest()


def tables(url: str) -> Iterator[pa.Table]:
    """A file's rows, as they are. Raises Refused for what is not of the form that its name says."""
    form = form_of(url)
    assert form is not None
    with _opened(url) as raw:
        try:
            yield from FORMS[form](pa.CompressedInputStream(raw, "gzip") if url.lower().endswith(".gz") else raw)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise Refused(f"{unquote(url)} is no sound {form} file: {error}") from error


def _opened(url: str) -> pa.NativeFile:
    """Arrow's own file: its threads read it, and need no interpreter for that, which may be ending."""
    path = local_path(url)
    folder, _, name = url.rpartition("/")
    try:
        return pa.OSFile(str(path)) if path is not None else pa.BufferReader(Store(folder).read(name))
    except FileNotFoundError as error:
        raise Refused(f"there is no {unquote(url)}") from error


def _parquet(file: pa.NativeFile) -> Iterator[pa.Table]:
    with closing(pq.ParquetFile(file)) as opened:
        for batch in opened.iter_batches(BATCH_ROWS):
            yield pa.Table.from_batches([batch])


def _separated(delimiter: str) -> Read:
    def read(file: pa.NativeFile) -> Iterator[pa.Table]:
        shape = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        yield pa_csv.read_csv(file, parse_options=shape, convert_options=pa_csv.ConvertOptions(column_types=_TEXTS))

    return read


def _json_lines(file: pa.NativeFile) -> Iterator[pa.Table]:
    yield pa_json.read_json(file)


def _json(file: pa.NativeFile) -> Iterator[pa.Table]:
    rows = json.load(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("a JSON list of objects would be right")
    names = dict.fromkeys(name for row in rows for name in row)
    yield pa.table({name: [row.get(name) for row in rows] for name in names})


def _plain_text(file: pa.NativeFile) -> Iterator[pa.Table]:
    """One URL a line; img2dataset's own reader would take a comma in one for a column's end."""
    yield pa.table({"url": pa.array([line.strip() for line in file.read().decode().splitlines() if line.strip()])})


FORMS: Mapping[str, Read] = {
    "parquet": _parquet,
    "csv": _separated(","),
    "tsv": _separated("\t"),
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "json": _json,
    "txt": _plain_text,
}


def columns_of(names: Sequence[str], url: str | None, caption: str | None, verify: bool) -> Columns:
    """The columns by the names given, or else by those that Datacomp, LAION and their kin use. Raises Refused."""
    if len(set(names)) < len(names):
        raise Refused(f"a column name comes twice: {', '.join(names)}")
    for option, given in (("--url-column", url), ("--caption-column", caption)):
        if given is not None and given not in names:
            raise Refused(f"{option} {given}: there is {', '.join(names)}")

    def known(ours: str) -> str | None:
        return next((theirs for theirs, meant in TEXT if meant == ours and theirs in names), None)

    found = Columns(url=url or known("url") or "", caption=caption or known("caption"), sha256=known("sha256"))
    if not found.url:
        raise Refused(f"which column has the URLs? --url-column one of {', '.join(names)}")
    if verify and found.sha256 is None:
        raise Refused(f"--verify-sha256 wants a column sha256; there is {', '.join(names)}")
    return found if verify else Columns(url=found.url, caption=found.caption)


def prepared(table: pa.Table, columns: Columns, first_row: int) -> pa.Table:
    """Rows under the names and in the types that img2dataset can write to JSON, numbered from first_row on.

    Left to itself it loses a row whose meta JSON has no word for, and writes NaN, which strict JSON has not.
    """
    made = {}
    for name in table.column_names:
        ours = columns.name(name)
        column = _plain(table[name])
        if ours in ("url", "caption", "sha256"):
            column = column.cast(pa.string())
        column = pc.utf8_lower(column) if ours == "sha256" else column
        made[ours] = pc.fill_null(column, "") if ours == "url" else column
    made[ROW] = pa.array(np.arange(first_row, first_row + table.num_rows))
    return pa.table(made)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column whose values JSON can hold: no NaN; times, decimals and bytes as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    if not pa.types.is_nested(kind) and _holds(kind):
        return column
    if _holds(kind):
        return pa.chunked_array([pa.array(_value(column.to_pylist()), kind)])
    texts = (None if each is None else _value(each) for each in column.to_pylist())
    written = [each if each is None or isinstance(each, str) else json.dumps(each) for each in texts]
    return pa.chunked_array([pa.array(written, pa.string())])


def _holds(kind: pa.DataType) -> bool:
    """Whether JSON has a word for every value of this type, once NaN is none."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _holds(kind.value_type)
    if types.is_struct(kind):
        return all(_holds(kind.field(number).type) for number in range(kind.num_fields))
    plain = types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string, types.is_null
    return any(each(kind) for each in plain)


def _value(value: Any) -> Any:
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return value.hex()
        case dict():
            return {str(name): _value(each) for name, each in value.items()}
        case list() | tuple():
            return [_value(each) for each in value]
        case _:
            return str(value)


def prepare(urls: Sequence[str], columns: Columns) -> Iterator[pa.Table]:
    """The whole list, file after file, every table with the first one's columns and types. Raises Refused."""
    first: pa.Schema | None = None
    row = 0
    for url in urls:
        for table in tables(url):
            made = prepared(table, columns, row)
            first = first or made.schema
            try:
                made = made.select(first.names).cast(first)
            except (KeyError, ValueError, pa.ArrowException) as error:
                raise Refused(f"{unquote(url)} has other columns or types than the files before it: {error}") from error
            row += made.num_rows
            yield made


def parts(whole: Iterator[pa.Table], rows_a_part: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly so many, the last one of what is left; none for no rows."""
    held: list[pa.Table] = []
    for table in whole:
        held.append(table)
        while sum(each.num_rows for each in held) >= rows_a_part:
            together = pa.concat_tables(held)
            yield together.slice(0, rows_a_part)
            held = [together.slice(rows_a_part)]
    if sum(each.num_rows for each in held):
        yield pa.concat_tables(held)

"""The ledger: one row per input sample, whatever became of it."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from captioner.errors import CorruptState
from captioner.reasons import OUTCOMES, OutcomeName
from captioner.recipe import Recipe
from captioner.types import Broken, Caption, Decision, Failure, Filtered, Rejection, Sample, Unreadable

MOST_PIXELS = 2**31 - 1  # what the columns of width and height hold
SCHEMA = pa.schema(
    [
        ("source_shard", pa.string()),
        ("key", pa.string()),
        ("member_offset", pa.int64()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("caption", pa.string()),
        ("original_caption", pa.string()),
        ("url", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("duration", pa.float64()),
        ("frame_times", pa.list_(pa.float32())),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("prompt_id", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("attempts", pa.int32()),
        ("engine_seconds", pa.float32()),
        ("words", pa.int32()),
        ("signals", pa.map_(pa.string(), pa.float32())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One input sample's line in the ledger; None where a value is absent. Units: px, seconds, tokens."""

    source_shard: str
    key: str
    member_offset: int | None
    outcome: OutcomeName
    reason: str | None = None
    detail: str | None = None
    caption: str | None = None
    original_caption: str | None = None
    url: str | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frame_times: tuple[float, ...] | None = None
    engine: str | None = None
    model: str | None = None
    model_revision: str | None = None
    prompt_id: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int | None = None
    engine_seconds: float | None = None
    words: int | None = None
    signals: Mapping[str, float] | None = None

    def plain(self) -> dict[str, Any]:
        """The row as JSON takes it. Written out, as the general to_json takes eight times as long."""
        return {name: getattr(self, name) for name in _NAMES}

    @property
    def place(self) -> tuple[str, int]:
        """What tells one input sample of a shard from another, and the order rows are written in."""
        return self.key, -1 if self.member_offset is None else self.member_offset


_NAMES = tuple(Row.__dataclass_fields__)


def broken_row(broken: Broken) -> Row:
    """The row of a sample that no reader could make whole."""
    return Row(
        source_shard=broken.source_shard,
        key=broken.key,
        member_offset=broken.member_offset,
        outcome="unreadable",
        reason=broken.reason,
        detail=broken.detail or None,
    )


def decided_row(sample: Sample, decision: Decision, recipe: Recipe) -> Row:
    """The row of a sample that was judged."""
    known: dict[str, Any] = {
        "source_shard": sample.source_shard,
        "key": sample.key,
        "member_offset": sample.member_offset,
        "original_caption": _text(sample.meta.get("caption")),
        "url": _text(sample.meta.get("url")),
        "sha256": sample.sha256,
        "width": _held(decision.width),
        "height": _held(decision.height),
        "duration": decision.duration,
        "frame_times": decision.frame_times,
        "attempts": decision.attempts,
        "signals": dict(decision.signals) | {f"flag.{flag}": 1.0 for flag in sample.flags} or None,
    }
    match decision.outcome:
        case Caption() as caption:
            return Row(**known, **_answered(caption, decision, recipe), outcome="captioned")
        case Rejection(reason=reason, caption=caption):
            return Row(**known, **_answered(caption, decision, recipe), outcome="rejected", reason=reason)
        case Filtered(reason=reason, detail=detail):
            return Row(**known, outcome="filtered", reason=reason, detail=detail or None)
        case Unreadable(reason=reason, detail=detail):
            return Row(**known, outcome="unreadable", reason=reason, detail=detail or None)
        case Failure(reason=reason, detail=detail):
            known["engine_seconds"] = round(decision.engine_seconds, 3) or None  # of asks before the one that failed
            return Row(**known, outcome="failed", reason=reason, detail=detail or None, engine=recipe.engine.name)


def _answered(caption: Caption, decision: Decision, recipe: Recipe) -> dict[str, Any]:
    """The columns of a sample that the engine answered."""
    return {
        "caption": _text(caption.text),
        "words": len(caption.text.split()),
        "engine": caption.engine or recipe.engine.name,
        "model": recipe.model,
        "model_revision": caption.revision or recipe.model_revision,
        "prompt_id": recipe.asking.prompt_id,
        "finish_reason": caption.finish_reason,
        "prompt_tokens": caption.prompt_tokens,
        "completion_tokens": caption.completion_tokens,
        "engine_seconds": round(decision.engine_seconds, 3),
    }


def _held(pixels: int | None) -> int | None:
    # A hostile header may claim 2^64: one such row would keep its whole shard from ever being written.
    return pixels if pixels is not None and pixels <= MOST_PIXELS else None


def _text(value: Any) -> str | None:
    # Lone surrogates have no UTF-8: Parquet, tar and JSON could not hold them.
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def counted(rows: Iterable[Row]) -> dict[str, int]:
    """Samples read and by outcome; `read` is counted on its own, so that the sum can be checked."""
    rows = list(rows)
    by_outcome = Counter(row.outcome for row in rows)
    return {"read": len(rows)} | {name: by_outcome[name] for name in OUTCOMES}


def reasons(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows name each reason."""
    return dict(sorted(Counter(row.reason for row in rows if row.reason).items()))


def spent(rows: Iterable[Row]) -> dict[str, int]:
    """What the engine did for these rows: asks, prompt and completion tokens where it told them, and milliseconds.

    Tokens are those of each sample's last ask; milliseconds are those of all of its asks.
    """
    rows = list(rows)
    return {
        "asks": sum(row.attempts or 0 for row in rows),
        "completion_tokens": sum(row.completion_tokens or 0 for row in rows),
        # Row by row: the ledger keeps 32 bits of each.
        "engine_ms": sum(round(1000 * (row.engine_seconds or 0.0)) for row in rows),
        "prompt_tokens": sum(row.prompt_tokens or 0 for row in rows),
    }


def digest(rows: Iterable[Row]) -> str:
    """An order-free digest, hex: sum mod 2^256 of sha256 over (shard, key, prompt id, outcome, caption) of each row."""
    total = 0
    for row in rows:
        # Of text alone orjson makes the bytes of recipe.canonical, in a tenth of its time.
        line = orjson.dumps([row.source_shard, row.key, row.prompt_id, row.outcome, row.caption])
        total += int.from_bytes(hashlib.sha256(line).digest(), "big")
    return f"{total % 2**256:064x}"


def add_digests(digests: Iterable[str]) -> str:
    """The digest of several row sets together."""
    return f"{sum(int(each, 16) for each in digests) % 2**256:064x}"


def to_parquet(rows: list[Row]) -> bytes:
    """The rows as a Parquet file with page checksums; equal rows make equal bytes."""
    columns = {field.name: [_cell(getattr(row, field.name)) for row in rows] for field in SCHEMA}
    table = pa.table(columns, schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=False)
    del table
    pa.default_memory_pool().release_unused()  # it keeps what each thread once used: 0.3 KB a sample, for ever
    return sink.getvalue()


def _cell(value: Any) -> Any:
    return sorted(value.items()) if isinstance(value, Mapping) else value


def from_parquet(data: bytes) -> list[Row]:
    """A ledger's rows, page checksums verified. Raises CorruptState for bytes that we did not write."""
    try:
        # Without threads: a ledger is small, and at the end of a process Arrow's own once ended it with SIGABRT.
        plain = {"use_threads": False, "pre_buffer": False, "arrow_extensions_enabled": False}
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True, **plain)
        if not table.schema.equals(SCHEMA):
            raise CorruptState(f"a ledger has columns {table.schema.names}; there should be {SCHEMA.names}")
        return [from_json(line) for line in table.to_pylist()]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptState(f"a ledger does not read: {type(error).__name__}") from error


def from_json(line: Mapping[str, Any]) -> Row:
    """A row from its plain mapping, as Parquet or a journal gives it back."""
    values = dict(line)
    if values.get("frame_times") is not None:
        values["frame_times"] = tuple(values["frame_times"])
    if values.get("signals") is not None:
        values["signals"] = dict(values["signals"])
    return Row(**values)


assert {field.name for field in SCHEMA} == set(Row.__dataclass_fields__)
assert set(get_args(OutcomeName)) == set(OUTCOMES)

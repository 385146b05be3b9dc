"""An object that is read as the plan saw it: in ranges, each whole and right, or the shard is not read at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import obstore
from obstore.exceptions import BaseError, PreconditionError

from captioner.errors import OutOfService, SourceError
from shards import patience
from shards.patience import ask, retries

PIECE = 8 * 2**20  # bytes a request: no connection is held open while the engine is waited for
READS = 3  # of one range whose body keeps ending early, before the object counts as corrupt
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')

_etags_are_md5: set[str] = set()  # stores, by the URL of a folder, that proved it; those with a KMS key never do


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """One object, pinned to the ETag that the plan saw; satisfies blob.Blob. url: its folder's. Raises SourceError."""

    store: Any
    url: str
    path: str
    size: int
    etag: str

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """The object's bytes from offset on, in pieces of at most 8 MiB; the last only when the whole was right."""
        seen = hashlib.md5(usedforsecurity=False) if offset == 0 and _MD5.fullmatch(self.etag) else None
        for piece in self._pieces(offset):
            offset += len(piece)
            if seen is not None:
                seen.update(piece)
                if offset == self.size:
                    self._judge(seen.hexdigest())
            yield piece

    def _pieces(self, offset: int) -> Iterator[bytes]:
        while offset < self.size:
            piece = self._range(offset, min(PIECE, self.size - offset))
            if piece is None:
                yield from self._whole(offset)
                return
            offset += len(piece)
            yield piece

    def _range(self, start: int, length: int) -> bytes | None:
        """Exactly these bytes; None when the store answers a range with the whole object."""
        options: dict[str, Any] = {"if_match": self.etag} if self.etag else {}
        if length < self.size:
            options["range"] = (start, start + length)
        waiting = patience.pauses()
        for _ in range(READS):
            with as_source_error(self.path):
                try:
                    answer = ask(self.url, lambda: obstore.get(self.store, self.path, options=options))
                    data = bytes(answer.bytes())
                except BaseError as error:
                    if "NotPartial" in str(error):
                        return None
                    if not _came_short(error):
                        raise
                    data = b""
            if len(data) == length:
                return data
            retries.note("short body")
            next(waiting)
        raise SourceError("source_corrupt", f"{self.path} ended early {READS} times at byte {start} or behind")

    def _whole(self, offset: int) -> Iterator[bytes]:
        """The bytes from offset on out of full reads: each goes on where the one before broke off."""
        options = {"if_match": self.etag} if self.etag else {}
        for _ in range(READS):
            with as_source_error(self.path):
                answer = ask(self.url, lambda: obstore.get(self.store, self.path, options=options))
                at = 0
                try:
                    for part in answer.stream(min_chunk_size=PIECE // 2):
                        piece = bytes(part)[max(0, offset - at) :]
                        at += len(part)
                        offset += len(piece)
                        yield piece
                except BaseError as error:
                    if not _came_short(error):
                        raise
            if offset == self.size:
                return
            retries.note("short body")
        raise SourceError("source_corrupt", f"{self.path} ended early {READS} times")

    def _judge(self, seen: str) -> None:
        """Compare what was read with an ETag that may be its MD5. Raises SourceError when it was wrong.

        An ETag of 32 hex digits is the MD5, unless the store encrypts with a key of its own. So a second read decides:
        other bytes than before are wrong bytes; the same bytes, where the store's other ETags were MD5s, are rotten.
        """
        found = _MD5.fullmatch(self.etag)
        assert found is not None
        if seen == found[1]:
            _etags_are_md5.add(self.url)
            return
        retries.note("wrong bytes")
        again = hashlib.md5(usedforsecurity=False)
        for piece in self._pieces(0):
            again.update(piece)
        if again.hexdigest() != seen or self.url in _etags_are_md5:
            raise SourceError("source_corrupt", f"{self.path} came with other bytes than its ETag vouches for")


def _came_short(error: BaseError) -> bool:
    """Whether an answer began well and its body did not hold what its header said."""
    return "body error" in str(error) or "UnexpectedRange" in str(error)


@contextmanager
def as_source_error(path: str) -> Iterator[None]:
    """What a store says against reading an input, as a shard-level reason; OutOfService when it is the store."""
    try:
        yield
    except patience.MISSING as error:
        raise SourceError("source_missing", f"{path} is not there") from error
    except PreconditionError as error:
        raise SourceError("source_changed", f"{path} is not the object that was planned") from error
    except patience.FORBIDDEN as error:
        raise SourceError("source_forbidden", f"the store does not let us read {path}") from error
    except BaseError as error:
        raise OutOfService(f"the input store failed on {path} ({patience.cause_of(error)})") from error

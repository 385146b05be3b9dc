"""A blob's bytes from front to back: taken, skipped, and searched for the next sound tar header."""

from __future__ import annotations

from collections.abc import Iterator

from captioner.errors import SourceError
from shards.blob import Blob
from shards.tar_header import BLOCK, MAGIC, MAGIC_AT, names_its_member, parse

JUMP_BYTES = 8 << 20  # a longer skip opens the object again behind it: cheaper than 8 MiB of transfer


class Stream:
    """Reads a blob once, in order; only what spans two chunks is copied twice. Raises SourceError."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._chunk = b""
        self._at = 0  # where we are in the chunk
        self._start = 0  # where the chunk begins in the blob
        self._chunks: Iterator[bytes] = iter(())
        self._opened = False

    @property
    def offset(self) -> int:
        """Where the next byte comes from."""
        return self._start + self._at

    @property
    def window(self) -> tuple[bytes, int, int]:
        """The chunk that is being read, where in it the next byte comes from, and where in the blob it begins."""
        return self._chunk, self._at, self._start

    def take(self, count: int) -> bytes:
        """The next count bytes; fewer only at the end of the blob."""
        end = self._at + count
        taken = self._chunk[self._at : end]
        if len(taken) == count:
            self._at = end
            return taken
        pieces = [taken]
        count -= len(taken)
        while count and self._next_chunk():
            taken = self._chunk[:count]
            self._at = len(taken)
            pieces.append(taken)
            count -= len(taken)
        return b"".join(pieces)

    def take_padded(self, count: int) -> bytes:
        """The next count bytes, going on to the block boundary behind them or to the end of the blob."""
        end = self._at + count
        behind = end + -count % BLOCK
        if behind <= len(self._chunk):
            taken = self._chunk[self._at : end]
            self._at = behind
            return taken
        taken = self.take(count)
        self.take(-count % BLOCK)
        return taken

    def skip(self, count: int) -> None:
        """Go on count bytes further; the caller knows that so many are left."""
        self.seek(self.offset + count)

    def seek(self, offset: int) -> None:
        """Go to offset, back or forth, opening the blob again where that is the shorter way."""
        if self._start <= offset <= self._start + len(self._chunk):
            self._at = offset - self._start
            return
        if not (self._opened and self._start <= offset <= self.offset + JUMP_BYTES):
            self._chunk, self._at, self._start, self._opened = b"", 0, offset, False
            return
        while offset > self._start + len(self._chunk) and self._next_chunk():
            pass
        self._at = offset - self._start

    def find_header(self, start: int) -> int | None:
        """The first offset from start on where a sound header with a magic stands; stops behind it or at the end.

        Any offset will do, not only multiples of 512: lost or added bytes shift all that follows.
        """
        self.seek(start)
        kept = self._chunk[self._at :]
        while True:
            found = _header_in(kept)
            if found is not None:
                return start + found
            rest = kept[-(BLOCK - 1) :]
            start += len(kept) - len(rest)
            if not self._next_chunk():
                self._at = len(self._chunk)
                return None
            kept = rest + self._chunk

    def _next_chunk(self) -> bool:
        start = self._start + len(self._chunk)
        if not self._opened:
            self._chunks, self._opened = filter(None, self._blob.chunks(start)), True
        chunk = next(self._chunks, b"")
        chunk = chunk if type(chunk) is bytes else bytes(chunk)  # a store's own buffers have not all methods of bytes
        if start + len(chunk) > self._blob.size or (not chunk and start < self._blob.size):
            raise SourceError("source_corrupt", f"{start + len(chunk)} bytes came of {self._blob.size}")
        self._chunk, self._start, self._at = chunk, start, 0
        return bool(chunk)


def _header_in(data: bytes) -> int | None:
    """Where the first header that can be believed lies wholly in data."""
    for found in MAGIC.finditer(data, MAGIC_AT):
        at = found.start() - MAGIC_AT
        block = data[at : at + BLOCK]
        if len(block) == BLOCK and parse(block) is not None and names_its_member(block):
            return at
    return None

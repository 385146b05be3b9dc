"""What most members of a shard are: plain ones, whole in what was read at once; one tight loop finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from zlib import adler32

from captioner.types import Spooled
from shards.tar_header import BLOCK, is_ordinary, split_name, stated

_TYPE_AT = 156
_PREFIX_AT = 345
_FILE = ord("0")
RUN_BYTES = 64 << 10  # what is copied at a time: more leaves the cache before it is used
MOST_EXTS = 100  # a shard has three or so; a hostile one cannot fill the memory with them
_new = tuple.__new__  # what a NamedTuple's own constructor calls, at half its time


class Member(NamedTuple):
    """A sound regular member: what follows it is a header, zeros or the end.

    key, ext: its name up to and after the first dot of its last part, ext in lower case (webdataset's rule); a name
    without one of the two has ext "". offset: of its own header, behind any long-name records. data: None where the
    reader was not asked to hold it; of a spooled one its beginning. A NamedTuple for the same reason as Header.
    """

    key: str
    ext: str
    name: str
    offset: int
    size: int
    data: bytes | None
    spooled: Spooled | None = None


class PlainMembers:
    """Finds runs of members about which there is no doubt, in two thirds of the time that any member takes.

    Plain: a regular file with an ordinary ASCII name in its own field, octal digits, a checksum that holds, a size that
    may be held. held, most: as TarReader's. It remembers what members have in common: the end of their headers, whose
    sum need not be taken again, and the extensions behind one key.
    """

    def __init__(self, held: Mapping[str, int] | None, most: int) -> None:
        self._held = held
        self._most = most
        self._tail = b"no tail yet"  # a header from its type on
        self._tail_sum = 0
        self._exts: dict[bytes, tuple[str, int]] = {}  # as it is written -> in lower case, the most bytes to hold

    def run(self, chunk: bytes, at: int, base: int) -> list[Member]:
        """The members from chunk[at:] on, up to the first that is not plain or not whole there, or to 64 KiB.

        base: where the chunk begins. Nothing is decided here: what it stops at, TarReader looks at with care.
        """
        members: list[Member] = []
        key_dot = b"/"  # no ordinary name begins so
        whole, exts, stop = len(chunk), self._exts, at + RUN_BYTES
        while (data_at := at + BLOCK) <= whole and at < stop:
            head = chunk[at : at + _TYPE_AT]
            if not chunk.startswith(self._tail, at + _TYPE_AT) and not self._learn(chunk[at + _TYPE_AT : data_at]):
                break
            # Adler-32 begins as 1 + the sum of the bytes, see tar_header
            total = (adler32(head) & 0xFFFF) - 1 + self._tail_sum
            digits = head[124:135]
            octal = digits.isdigit() and b"8" not in digits and b"9" not in digits
            if not octal or head[99] or head[135] or not head.isascii() or total != stated(head[148:]):
                break
            raw = head[: head.find(0)]
            known = exts.get(raw[len(key_dot) :]) if raw.startswith(key_dot) else None
            if known is None:
                key, ext = split_name(raw.decode()) if is_ordinary(raw) else ("", "")
                if not ext:
                    break
                key_dot, written = raw[: len(key) + 1], raw[len(key) + 1 :]
                known = exts.get(written) or self._known(written, ext)
            ext, most = known
            size = int(digits, 8)
            end = data_at + size
            behind = end + (-size & 511)
            if behind > whole or size > most:
                break
            members.append(_new(Member, (key, ext, raw.decode(), base + at, size, chunk[data_at:end], None)))
            at = behind
        return members

    def _learn(self, tail: bytes) -> bool:
        """Take another end of a header for the usual one, if it is a plain file's and the name goes on in no prefix."""
        if tail[0] != _FILE or tail[_PREFIX_AT - _TYPE_AT] or not tail.isascii():
            return False
        self._tail, self._tail_sum = tail, (adler32(tail) & 0xFFFF) - 1
        return True

    def _known(self, written: bytes, ext: str) -> tuple[str, int]:
        if len(self._exts) >= MOST_EXTS:
            self._exts.clear()
        known = self._exts[written] = ext, self._most if self._held is None else self._held.get(ext, 0)
        return known

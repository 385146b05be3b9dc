"""A strict, streaming tar reader: every byte of the object is accounted for, and damage is an item, never an end.

Python's tarfile, and so webdataset, end early and silently at a damaged header, a zero block or a missing end.
This reader goes on at the next sound header instead and says what it passed over. It holds 64 KiB of members
or one at a time, what is over 64 MiB of it in a file, and reads each byte once, after damage at most three times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from captioner.errors import SourceError
from shards.blob import Blob
from shards.spool import HELD_BYTES, spooled
from shards.tar_header import (
    BLOCK,
    DIRECTORY,
    NO_DATA,
    REGULAR,
    SPARSE,
    ZERO_BLOCK,
    Header,
    clean_name,
    parse,
    shown_name,
    split_name,
)
from shards.tar_member import Member, PlainMembers
from shards.tar_records import KINDS, TROUBLES, Records
from shards.tar_stream import Stream

MAX_MEMBER_BYTES = 64 << 20
CORPUS_MEMBER_BYTES = 2 << 30  # of what we wrote ourselves: sources take no larger members
PIECE_BYTES = 1 << 20
__all__ = ["CORPUS_MEMBER_BYTES", "MAX_MEMBER_BYTES", "Account", "Damage", "Member", "TarReader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes offset to end that give no member. key, ext: as Member's where the whole name is known and clean, else "".

    name: as it can be shown, empty where none is known.
    """

    offset: int
    end: int
    reason: str
    detail: str
    key: str = ""
    ext: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of an object's bytes; they sum to its size. flags: shard-level reasons.

    skipped_bytes: between members, in no sound one. unread_bytes: after the last member, not looked at or cut short.
    """

    size: int
    header_bytes: int = 0
    data_bytes: int = 0
    padding_bytes: int = 0
    zero_bytes: int = 0
    skipped_bytes: int = 0
    unread_bytes: int = 0
    flags: tuple[str, ...] = ()
    detail: str = ""

    @property
    def bytes_accounted(self) -> int:
        sound = self.header_bytes + self.data_bytes + self.padding_bytes + self.zero_bytes
        return sound + self.skipped_bytes + self.unread_bytes


def _damage(header: Header, span: tuple[int, int], reason: str, detail: str) -> Damage:
    """A damage whose header is known; where the records before it are not, its name may not be the whole one."""
    name = None if reason in TROUBLES or header.type in KINDS else clean_name(header.name)
    key, ext = ("", "") if name is None else split_name(name)
    shown = shown_name(header.name)
    return Damage(offset=span[0], end=span[1], reason=reason, detail=detail, key=key, ext=ext, name=shown)


class TarReader:
    """Iterate once over a blob's members and damages, then ask for the account. Raises SourceError from the blob.

    held: for each extension the most bytes of a member to hold: larger ones are `member_too_large`, members of other
    extensions come without their data. None holds every member up to max_member_bytes.
    """

    def __init__(
        self, blob: Blob, *, max_member_bytes: int = MAX_MEMBER_BYTES, held: Mapping[str, int] | None = None
    ) -> None:
        self._size = blob.size
        self._stream = Stream(blob)
        self._max_member_bytes = max_member_bytes
        self._held = held
        self._plain = PlainMembers(held, max_member_bytes)
        self._records = Records()
        self._header_bytes = self._data_bytes = self._padding_bytes = 0
        self._zero_bytes = self._skipped_bytes = self._unread_bytes = 0
        self._last_data = (0, 0)  # where the data of the last item begin, and how many bytes they are
        self._zero_run = 0  # zero blocks since the last header
        self._reread = 0  # bytes looked through again after damage
        self._flags: set[str] = set()
        self._detail = ""
        self._finished = False

    @property
    def account(self) -> Account:
        """What became of the bytes so far; after an early stop, what was not given out counts as unread."""
        account = Account(
            size=self._size,
            header_bytes=self._header_bytes,
            data_bytes=self._data_bytes,
            padding_bytes=self._padding_bytes,
            zero_bytes=self._zero_bytes,
            skipped_bytes=self._skipped_bytes,
            unread_bytes=self._unread_bytes,
            flags=tuple(sorted(self._flags)),
            detail=self._detail,
        )
        if self._finished:
            return account
        return replace(account, unread_bytes=self._unread_bytes + self._size - account.bytes_accounted)

    def __iter__(self) -> Iterator[Member | Damage]:
        last: Member | Damage | None = None  # given out once a header or the end are seen behind it
        while True:
            for member in self._run():
                if last is not None:
                    yield last
                self._begin_item()
                self._data_bytes += member.size
                self._padding_bytes += -member.size & 511
                last = member
            block = self._stream.take(BLOCK)
            if not block:
                break
            if block == ZERO_BLOCK:
                last = self._zeros() or last
                continue
            header = parse(block) if len(block) == BLOCK else None
            if header is None:
                yield from self._resync(block, last)
                last = None
                continue
            if last is not None:
                yield last
            last = self._item(header)
            if last is not None and self._records.pending:  # the records go on to a member of their own
                yield last
                last = None
        if last is not None:
            yield last
        self._end()

    def _run(self) -> list[Member]:
        """The plain members next in what is read of the blob, most of all members; the stream goes on behind them."""
        if self._records.pending:
            return []
        run = self._plain.run(*self._stream.window)
        if run:
            offset, size = run[-1].offset + BLOCK, run[-1].size
            self._last_data = (offset, size)
            self._stream.seek(offset + size + -size % BLOCK)
        return run

    def _begin_item(self) -> None:
        self._header_bytes += BLOCK
        if self._zero_run:
            self._flags.add("concatenated")
            self._zero_run = 0

    def _item(self, header: Header) -> Member | Damage | None:
        """What a sound header announces; None for what is no member of any sample: records and folders."""
        self._begin_item()
        if header.type in KINDS:
            return self._record(header)
        records = self._records
        if not records.pending:
            return self._member(header, sparse=False)
        self._records = Records()
        header = records.applied(header)
        if not records.trouble:
            return self._member(header, sparse=records.sparse)
        if records.trouble == "corrupt_header":
            self._flags.add("corrupt")
        return self._passed_over(header, records.trouble, TROUBLES[records.trouble])

    def _member(self, header: Header, *, sparse: bool) -> Member | Damage | None:
        raw, size, kind = header
        folder = kind == DIRECTORY or raw[-1:] == b"/"
        if kind not in REGULAR or sparse or folder:
            if folder:
                return None
            return self._passed_over(header, "unsupported_member_type", f"type {chr(kind)!r}{' (sparse)' * sparse}")
        at = self._stream.offset
        if size is None or not 0 <= size <= self._size - at:
            return self._impossible(header)
        name = clean_name(raw)
        if name is None:
            return self._passed_over(header, "bad_member_name", "an unclean path, too long, or not UTF-8")
        key, ext = split_name(name)
        most = self._max_member_bytes if self._held is None else self._held.get(ext, 0)
        if HELD_BYTES < size <= most:
            beginning, file = spooled(self._pieces(size))
            self._stream.skip(min(-size % BLOCK, self._size - self._stream.offset))
            self._charge(at, size)
            return Member(key, ext, name, at - BLOCK, size, beginning, file)
        if size <= most:
            data = self._stream.take_padded(size)
            self._charge(at, size)
            return Member(key, ext, name, at - BLOCK, size, data)
        if most:
            return self._passed_over(header, "member_too_large", f"{size} bytes, at most {most} are held")
        self._skip(size)
        return Member(key, ext, name, at - BLOCK, size, None)

    def _pieces(self, size: int) -> Iterator[bytes]:
        """The next size bytes, which are there."""
        while size:
            piece = self._stream.take(min(size, PIECE_BYTES))
            if not piece:
                raise SourceError("source_corrupt", f"{size} bytes of a member did not come")
            size -= len(piece)
            yield piece

    def _passed_over(self, header: Header, reason: str, detail: str) -> Damage:
        """A member that we will not have; what follows it is where its header says."""
        at = self._stream.offset
        size = 0 if header.type in NO_DATA else header.size
        if size is None or not 0 <= size <= self._size - at:
            return self._impossible(header)
        if header.type == SPARSE:
            self._skip_sparse_map(at)
        self._skip(size)
        return _damage(header, (at - BLOCK, self._stream.offset), reason, detail)

    def _impossible(self, header: Header) -> Damage:
        """A size that cannot be, or more than is left; the search for the next header begins right here."""
        at, size = self._stream.offset, header.size
        left = self._size - at
        self._records = Records()
        found = self._stream.find_header(at)
        end = self._size if found is None else found
        cut_short = size is not None and 0 <= size <= self._max_member_bytes
        if found is None and cut_short:
            self._unread_bytes += left
            self._flags.add("truncated")
        else:
            self._skipped_bytes += end - at
            self._flags.add("corrupt")
        self._stream.seek(end)
        self._last_data = (end, 0)
        detail = f"{'no number of' if size is None else size} bytes announced, {end - at} are there"
        return _damage(header, (at - BLOCK, end), "truncated_member" if cut_short else "bad_size", detail)

    def _record(self, header: Header) -> Damage | None:
        """A long-name or pax record: taken up, or passed over where it is too large or of no use."""
        size, at = header.size, self._stream.offset
        if size is None or not 0 <= size <= self._size - at:
            return self._impossible(header)
        lost = False
        if self._records.wants(header, size):
            lost = self._records.add(header, self._stream.take_padded(size))
        else:
            self._stream.skip(min(size + -size % BLOCK, self._size - at))
        self._header_bytes += self._stream.offset - at
        self._last_data = (at, 0)
        return self._lone_record(at - BLOCK) if lost else None

    def _lone_record(self, at: int) -> Damage:
        self._flags.add("corrupt")
        return Damage(offset=at, end=at, reason="corrupt_header", detail="a long-name record without its member")

    def _skip_sparse_map(self, at: int) -> None:
        """GNU's old sparse files: more header blocks follow, each saying at its byte 504 whether another does."""
        self._stream.seek(at - BLOCK)
        more = self._stream.take(BLOCK)[482]
        while more and self._size - self._stream.offset >= BLOCK:
            more = self._stream.take(BLOCK)[504]
            self._header_bytes += BLOCK

    def _skip(self, size: int) -> None:
        at = self._stream.offset
        size = min(size, self._size - at)
        self._stream.skip(min(size + -size % BLOCK, self._size - at))
        self._charge(at, size)

    def _charge(self, at: int, size: int) -> None:
        self._last_data = (at, size)
        self._data_bytes += size
        padding = self._stream.offset - at - size
        self._padding_bytes += padding
        if padding != -size % BLOCK:
            self._flags.add("truncated")

    def _zeros(self) -> Damage | None:
        """A zero block: the end of the archive, or of one of several."""
        self._zero_bytes += BLOCK
        self._zero_run += 1
        if not self._records.pending:
            return None
        self._records = Records()
        at = self._stream.offset
        self._last_data = (at, 0)
        return self._lone_record(at - BLOCK)

    def _resync(self, block: bytes, last: Member | Damage | None) -> Iterator[Member | Damage]:
        """No header here: either it is damaged, or bytes are missing before it and the last item swallowed others."""
        at = self._stream.offset - len(block)
        again = last is not None or self._records.pending
        # The next header may even begin in the last bytes of the last one, whose checksum held by chance.
        begin = self._last_data[0] - BLOCK + 1 if again and self._reread <= self._size else at
        self._reread += at - begin
        found = self._stream.find_header(begin)
        end = self._size if found is None else found
        self._stream.seek(end)
        if end < at:
            yield self._swallowed(last, end, at)
            return
        if last is not None:
            yield last
        if len(block) < BLOCK:
            self._tail(block)
            return
        self._records = Records()
        self._skipped_bytes += end - at
        self._zero_run = 0
        if found is None and not self._header_bytes:
            self._detail = f"first bytes {block[:16].hex()}"
            return
        self._flags.add("corrupt")
        yield Damage(offset=at, end=end, reason="corrupt_header", detail=f"{end - at} bytes passed over")

    def _swallowed(self, last: Member | Damage | None, end: int, at: int) -> Damage:
        """The last item, or else the last record, is shorter than it says: a header stands at end, within its bytes."""
        begin, size = self._last_data
        there = max(0, end - begin)
        self._header_bytes -= begin + there - end
        self._skipped_bytes += there
        self._flags.add("corrupt")
        if last is None:
            self._header_bytes -= at - begin
            self._records = Records()
            detail = "a long-name record holds the next header"
            return Damage(offset=begin - BLOCK, end=end, reason="corrupt_header", detail=detail)
        zeros = self._zero_run * BLOCK
        self._data_bytes -= size
        self._zero_bytes -= zeros
        self._padding_bytes -= at - begin - size - zeros
        self._zero_run = 0
        detail = f"{size} bytes announced, the next header stands after {there}"
        named = {"key": last.key, "ext": last.ext, "name": last.name}
        return Damage(offset=last.offset, end=end, reason="truncated_member", detail=detail, **named)

    def _tail(self, tail: bytes) -> None:
        """Less than a block is left: every whole tar is whole blocks."""
        if tail.strip(b"\0"):
            self._unread_bytes += len(tail)
        else:
            self._zero_bytes += len(tail)
        if not self._header_bytes:
            self._detail = self._detail or f"first bytes {tail[:16].hex()}"
        if "corrupt" not in self._flags:
            self._flags.add("truncated")

    def _end(self) -> None:
        self._finished = True
        if not self._size:
            self._flags.add("empty_shard")
        elif not self._header_bytes and (self._skipped_bytes or self._unread_bytes):
            self._flags = {"not_a_tar"}
        elif self._zero_run < 2 and not self._flags & {"truncated", "corrupt"}:
            self._flags.add("missing_eof")

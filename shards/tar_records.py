"""Long-name and pax records: what they say of the member after them, kept within a limit."""

from __future__ import annotations

from shards.tar_header import LONG_LINK, LONG_NAME, PAX, PAX_GLOBAL, Header, PaxFields, pax_fields

MAX_RECORD_BYTES = 64 << 10  # of all records before one member
KINDS = bytes((LONG_NAME, LONG_LINK, PAX_GLOBAL)) + PAX
TROUBLES = {
    "header_too_large": f"more than {MAX_RECORD_BYTES} bytes of long-name or pax records",
    "corrupt_header": "a malformed pax record",
}


class Records:
    """What the records since the last member say. trouble: a reason not to trust the member after them, or ""."""

    def __init__(self) -> None:
        self._name: bytes | None = None
        self._size: int | None = None
        self._bytes = 0
        self.sparse = False
        self.trouble = ""
        self.pending = False

    def wants(self, header: Header, size: int) -> bool:
        """Whether the payload behind this record's header is worth holding: counts it towards the limit."""
        self.pending = True
        if header.type in (PAX_GLOBAL, LONG_LINK):  # a global record's comment, a link's target: never used
            return False
        self._bytes += size
        if self._bytes > MAX_RECORD_BYTES:
            self.trouble = "header_too_large"
        return self.trouble != "header_too_large"

    def add(self, header: Header, payload: bytes) -> bool:
        """Take up a record's payload; whether it names another member than the records before it, whose own is lost."""
        fields = PaxFields(name=payload.rstrip(b"\0")) if header.type == LONG_NAME else pax_fields(payload)
        if fields is None:
            self.trouble = "corrupt_header"
            return False
        if fields.name is not None and (self.trouble or self._name not in (None, fields.name)):
            self._name, self._size, self.sparse = fields
            self.trouble = ""
            return True
        self._name = self._name if fields.name is None else fields.name
        self._size = self._size if fields.size is None else fields.size
        self.sparse = self.sparse or fields.sparse
        return False

    def applied(self, header: Header) -> Header:
        """The member's header as its records change it."""
        name = header.name if self._name is None else self._name
        return Header(name, header.size if self._size is None else self._size, header.type)

"""Members too large to hold: written through to a nameless file as they are read, and never twice in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from captioner.types import Spooled
from shards.durable import scratch, writing

HELD_BYTES = 64 << 20  # a member up to here is held in memory, a larger one lies in a file
BEGINNING_BYTES = 4096  # what is held of it all the same: formats are told by it
SCRATCH = "scratch for a large member"


def spooled(pieces: Iterable[bytes]) -> tuple[bytes, Spooled]:
    """The beginning of some bytes, and all of them in a file. Raises OutOfService where there is no room for it."""
    file = scratch(SCRATCH)
    digest, beginning, size = hashlib.sha256(), b"", 0
    with writing(SCRATCH):
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            beginning += piece[: BEGINNING_BYTES - len(beginning)]
            size += len(piece)
        file.flush()
    return beginning, Spooled(file=file, size=size, sha256=digest.hexdigest())

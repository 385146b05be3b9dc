"""Shards of very small pictures: what is done around a picture is tested, not its decoding."""

from __future__ import annotations

from pathlib import Path

from shards.pack import Packed, pack
from shards.store import Store
from tests.corpora import picture

DRAWN = 40


def make_tiny_shards(folder: Path, shards: int, per_shard: int) -> Path:
    """Pictures of 56 px, every tenth of them no picture; each with bytes of its own."""
    drawn = [picture(number, 56, 56) for number in range(DRAWN)]
    made = []
    for number in range(shards * per_shard):
        comment = f"{number:08d}".encode()
        media = drawn[number % DRAWN]
        media = media[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + media[2:]
        if number % 10 == 9:
            media = b"no picture " + comment
        made.append(Packed(key=f"{number:09d}", extension="jpg", media=media, caption=f"alt {number}"))
    pack(Store(str(folder)), made, per_shard)
    return folder

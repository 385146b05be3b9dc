"""A corpus read back, from an object store too: each key's media as they were stored, whatever their size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.errors import CorruptState
from shards.pack import Packed, pack
from shards.reading import open_corpus
from shards.store import Store
from tests.corpora import fake_recipe, planned, run_here


def noise(width: int, height: int) -> bytes:
    """A picture that no compression makes smaller."""
    out = io.BytesIO()
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def test_media_of_every_size_come_back_from_an_object_store(bucket: str, tmp_path: Path) -> None:
    media = {
        "a": noise(600, 600),
        "b": noise(2400, 1700),
        "c": noise(640, 560),
    }  # b: over what a reader skips in a jump
    pack(Store(str(tmp_path / "in")), [Packed(key=key, extension="png", media=each) for key, each in media.items()], 3)
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, tmp_path / "in"), f"{bucket}/read-back")
    _, (shard,) = open_corpus(f"{bucket}/read-back")
    kept = shard.media()
    assert len(media["b"]) > 8 * 2**20 and {row.key: kept.read(row.key) for row in shard.rows()} == media
    with pytest.raises(CorruptState, match="its tar does not"):
        kept.read("d")

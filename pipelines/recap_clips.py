"""A folder of plain clips: recaption what lies in it, with neighbours `x.txt` and `x.json` as caption and fields.

python pipelines/recap_clips.py --input ~/clips --output corpus --engine experts
"""

from __future__ import annotations

from captioner.filters import SCREENS
from captioner.registry import part
from pipelines.cli import main
from pipelines.options import Dataset
from shards.sources import SOURCES

CLIPS = Dataset(
    summary=__doc__,
    kind="video",
    source=part(SOURCES, "folder", kind="video", pictures_per_shard=100, max_member_bytes=2**31),
    screens=(
        part(SCREENS, "container"),
        part(SCREENS, "bytes", at_most=2**31),
        part(SCREENS, "resolution", more_than=128, mode="short"),
        part(SCREENS, "aspect"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(CLIPS))

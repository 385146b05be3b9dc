"""A folder of plain pictures: recaption what lies in it, with neighbours `x.txt` and `x.json` as caption and fields.

python pipelines/recap_folder.py --input ~/pictures --output corpus --engine experts
"""

from __future__ import annotations

from captioner.filters import SCREENS
from captioner.registry import part
from pipelines.cli import main
from pipelines.options import Dataset
from shards.sources import SOURCES

FOLDER = Dataset(
    summary=__doc__,
    source=part(SOURCES, "folder"),
    screens=(
        part(SCREENS, "format"),
        part(SCREENS, "bytes"),
        part(SCREENS, "pixels"),
        part(SCREENS, "resolution", more_than=255, mode="short"),
        part(SCREENS, "aspect"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(FOLDER))

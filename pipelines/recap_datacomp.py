"""DataComp: recaption img2dataset shards of web pictures into an EVE-recap corpus.

    python pipelines/recap_datacomp.py --input s3://bucket/datacomp --output s3://bucket/eve-recap --engine experts

EVEv2 (arXiv 2502.06788) recaptions 44M DataComp pictures larger than 512x512 and drops repetitive or cut captions.
"""

from __future__ import annotations

from captioner.filters import SCREENS
from captioner.registry import part
from pipelines.cli import main
from pipelines.options import Dataset
from shards.sources import SOURCES

DATACOMP = Dataset(
    summary=__doc__,
    source=part(SOURCES, "datacomp"),
    screens=(
        part(SCREENS, "format"),
        part(SCREENS, "bytes"),
        part(SCREENS, "pixels"),
        part(SCREENS, "resolution", more_than=512, mode="both"),
        part(SCREENS, "aspect"),
        part(SCREENS, "scores"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(DATACOMP))

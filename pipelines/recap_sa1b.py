"""SA-1B: recaption the pictures of Segment Anything's tars into an EVE-recap corpus.

    python pipelines/recap_sa1b.py --input s3://bucket/sa-1b --output s3://bucket/eve-recap --engine experts

EVEv2 (arXiv 2502.06788) recaptions all 11M of them. They come without captions, in tars of some 11,000 pictures whose
short side has 1500 px; their masks are not copied into the corpus.
"""

from __future__ import annotations

from captioner.filters import SCREENS
from captioner.registry import part
from pipelines.cli import main
from pipelines.options import Dataset
from shards.sources import SOURCES

SA1B = Dataset(
    summary=__doc__,
    source=part(SOURCES, "sa1b"),
    screens=(
        part(SCREENS, "format"),
        part(SCREENS, "bytes"),
        part(SCREENS, "pixels"),
        part(SCREENS, "resolution", more_than=512, mode="both"),
        part(SCREENS, "aspect"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(SA1B))

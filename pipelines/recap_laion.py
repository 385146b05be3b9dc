"""LAION: recaption img2dataset shards of web pictures into an EVE-recap corpus.

    python pipelines/recap_laion.py --input s3://bucket/laion --output s3://bucket/eve-recap --engine experts

EVEv2 (arXiv 2502.06788) recaptions 15M LAION pictures. LAION's rows carry scores: pictures that it calls likely
unsafe or watermarked are left out, as its authors advise; --scores.max-punsafe and --scores.max-pwatermark move that.
"""

from __future__ import annotations

from captioner.filters import SCREENS
from captioner.registry import part
from pipelines.cli import main
from pipelines.options import Dataset
from shards.sources import SOURCES

LAION = Dataset(
    summary=__doc__,
    source=part(SOURCES, "laion"),
    screens=(
        part(SCREENS, "format"),
        part(SCREENS, "bytes"),
        part(SCREENS, "pixels"),
        part(SCREENS, "resolution", more_than=512, mode="both"),
        part(SCREENS, "aspect"),
        part(SCREENS, "scores", max_punsafe=0.5, max_pwatermark=0.8),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(LAION))

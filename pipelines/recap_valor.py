"""VALOR: recaption clips out of AudioSet into an ELVA-Video corpus, looked at once a second.

    python pipelines/recap_valor.py --input s3://bucket/valor --output s3://bucket/elva-video --engine vllm --model …

ELVA (arXiv 2503.18422) recaptions 1M VALOR clips with Qwen2-VL at one frame a second of at most 360*420 px.
"""

from __future__ import annotations

from captioner.filters import SCREENS
from captioner.registry import part
from pipelines.cli import main
from pipelines.options import Dataset
from shards.sources import SOURCES

VALOR = Dataset(
    summary=__doc__,
    kind="video",
    source=part(SOURCES, "valor"),
    screens=(
        part(SCREENS, "container"),
        part(SCREENS, "bytes", at_most=2**31),
        part(SCREENS, "resolution", more_than=128, mode="short"),
        part(SCREENS, "aspect"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(main(VALOR))

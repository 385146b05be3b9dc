"""VALOR: recaption clips out of AudioSet into an ELVA-Video corpus, looked at once a second.

    python pipelines/recap_valor.py --input s3://bucket/valor --output s3://bucket/elva-video --engine vllm --model …

ELVA (arXiv 2503.18422) recaptions 1M VALOR clips with Qwen2-VL at one frame a second of at most 360*420 px.
"""

from __future__ import annotations

from dataclasses import replace

from captioner.registry import part
from pipelines.cli import main
from pipelines.recap_clips import CLIPS
from shards.sources import SOURCES

VALOR = replace(CLIPS, summary=__doc__, source=part(SOURCES, "valor"))  # screened as any clips are

if __name__ == "__main__":
    raise SystemExit(main(VALOR))

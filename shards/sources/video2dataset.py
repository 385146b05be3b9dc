"""video2dataset's fields under our names: what lies beside each clip of WebVid, VALOR and their kin."""

from __future__ import annotations

from shards.sources import img2dataset

MAX_CLIP_BYTES = 2 << 30

TEXT: img2dataset.Fields = (
    *img2dataset.TEXT,
    *(("contentUrl", "url"), ("video_url", "url")),
    *(("videoid", "video_id"), ("video_id", "video_id")),
)
NUMBERS: img2dataset.Fields = (
    *img2dataset.NUMBERS,
    *(("duration", "source_seconds"), ("clip_duration", "source_seconds")),
)

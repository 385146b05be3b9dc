"""Pure: a decoded sample and a recipe's way of asking become one request."""

from __future__ import annotations

import hashlib

from captioner.recipe import Asking
from captioner.types import CaptionRequest, Decoded, Sample


def request_for(sample: Sample, decoded: Decoded, asking: Asking, attempt: int = 0) -> CaptionRequest:
    """The request of a sample's attempt-th ask; attempt counts from 0 and picks the ladder's rung."""
    return CaptionRequest(
        images=(decoded.picture,),
        prompt=asking.prompt,
        sampling=asking.ladder[attempt],
        media_sha256=hashlib.sha256(sample.media).hexdigest(),
        attempt=attempt,
    )

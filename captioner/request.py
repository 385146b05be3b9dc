"""Pure: a decoded sample and a recipe's way of asking become one request."""

from __future__ import annotations

from captioner.external import PLACE, block
from captioner.recipe import Asking
from captioner.types import CaptionRequest, Decoded, Information, Sample


def request_for(
    sample: Sample, decoded: Decoded, asking: Asking, attempt: int = 0, information: Information | None = None
) -> CaptionRequest:
    """The request of a sample's attempt-th ask; attempt counts from 0 and picks the ladder's rung."""
    return CaptionRequest(
        images=decoded.frames or (decoded.picture,),
        prompt=prompt_for(asking, information or Information()),
        sampling=asking.ladder[attempt],
        media_sha256=sample.sha256,
        attempt=attempt,
        times=decoded.times,
    )


def prompt_for(asking: Asking, information: Information) -> str:
    """The recipe's prompt, with what is known of the sample in its place. It is put in once: what it says is data."""
    return asking.prompt if asking.told is None else asking.prompt.replace(PLACE, block(information, asking.told), 1)

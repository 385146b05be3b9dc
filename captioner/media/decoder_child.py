"""A decoder process, `python -m captioner.media.decoder_child`: pictures in at stdin, bounded ones out at stdout."""

from __future__ import annotations

import os
import sys
import warnings
from io import BytesIO

from PIL import Image

from captioner.errors import MediaError
from captioner.media import sandbox
from captioner.media.decode import READERS, decode
from captioner.media.wire import OUT_OF_MEMORY, Header, receive, send
from captioner.types import PixelBudget


def main(memory_mib: int, cpu_seconds: float, parent: int) -> None:
    """Serve until stdin ends. What libraries print goes nowhere: it cannot harm the stream, nor reach a log."""
    pictures, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    _warm_up()
    os.dup2(nowhere, 2)
    network = sandbox.close(sandbox.Confines(memory_mib=memory_mib, parent=parent))
    send(answers, {"network": network})
    while (frame := receive(pictures)) is not None:
        sandbox.allow_cpu(cpu_seconds)
        send(answers, *answer(*frame))
    os._exit(0)


def answer(asked: Header, media: bytes) -> tuple[Header, bytes]:
    """A picture and what is known of it, or the reason why there is none."""
    budget = PixelBudget(**asked["budget"])
    try:
        decoded = decode(media, budget, asked["most_pixels"])
    except MediaError as error:
        return {"reason": error.reason, "detail": error.detail}, b""
    picture = decoded.picture
    header = {
        "original": [decoded.width, decoded.height],
        "picture": [picture.width, picture.height],
        "flags": sorted(decoded.flags),
    }
    return header, picture.jpeg


def _warm_up() -> None:
    """Decode one small picture of each format: what is imported late is imported now, while it still can be."""
    warnings.simplefilter("ignore")
    Image._initialized = 2  # saving would import plugins that no picture may reach
    for name in READERS:
        out = BytesIO()
        Image.new("RGB", (16, 16)).save(out, name)
        decode(out.getvalue(), PixelBudget(max_pixels=64), 2**20)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)

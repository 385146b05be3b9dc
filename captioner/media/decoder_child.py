"""A decoder process, `python -m captioner.media.decoder_child`: media in at stdin, bounded pictures out at stdout."""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable
from io import BufferedReader, BytesIO

from PIL import Image

from captioner.errors import MediaError
from captioner.media import sandbox
from captioner.media.decode import READERS, decode
from captioner.media.wire import OUT_OF_MEMORY, Header, receive, send
from captioner.types import PixelBudget


def main(memory_mib: int, cpu_seconds: float, parent: int, clips: str, borrowing: int) -> None:
    """Serve until stdin ends. What libraries print goes nowhere: it cannot harm the stream, nor reach a log.

    clips: the reader that clips are looked at with, "" for pictures alone. borrowing: the descriptor of a socket over
    which the files of large clips come.
    """
    pictures, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    _warm_up()
    answer = _clips(clips, borrowing) if clips else picture_answer
    os.dup2(nowhere, 2)
    network = sandbox.close(sandbox.Confines(memory_mib=memory_mib, parent=parent, threads=clips == "decord"))
    send(answers, {"network": network})
    while (frame := receive(pictures)) is not None:
        sandbox.allow_cpu(cpu_seconds)
        send(answers, *answer(*frame))
    os._exit(0)


def _clips(reader: str, borrowing: int) -> Callable[[Header, bytes], tuple[Header, bytes]]:
    """The answer to pictures and clips. Imported by whoever wants clips: PyAV is 80 ms and 40 MiB a process."""
    from captioner.media import clip_job

    clip_job.warm_up(reader)
    lender = socket.socket(fileno=borrowing)

    def either(asked: Header, media: bytes) -> tuple[Header, bytes]:
        if "frames" not in asked:
            return picture_answer(asked, media)
        if "lent" not in asked:
            return clip_job.answer(asked, BytesIO(media))
        _, (descriptor,), _, _ = socket.recv_fds(lender, 1, 1)
        with BufferedReader(clip_job.Borrowed(descriptor)) as file:
            return clip_job.answer(asked, file)

    return either


def picture_answer(asked: Header, media: bytes) -> tuple[Header, bytes]:
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
        main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)

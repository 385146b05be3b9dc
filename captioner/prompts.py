"""Prompts by id; an id names its words for ever, so a changed prompt is a new id."""

from __future__ import annotations

import hashlib
from pathlib import Path

from captioner.errors import Refused, UnknownPart
from captioner.filters.markup import TOKENS

MAX_CHARACTERS = 4000  # a thousand tokens: what LLaVA-1.6's context leaves beside a picture, and more than words help

PROMPTS = {
    # The experts' grammar takes no prompt: the id names the rules that made the wording.
    "experts-grammar-1": "",
    # What Qwen2-VL's own examples ask, at the pixel budget that ELVA took from them.
    "describe-image-1": "Describe this image.",
    "describe-video-1": "Describe this video.",
    "describe-in-detail-1": "Please describe this image in detail.",
    # The parts that DenseFusion's prompt has (arXiv 2407.08303), in words of ours.
    "external-information-1": (
        "Write a detailed description of the image: the things in it, how they look, where they are, what happens, "
        "and the text that can be read. Notes from other programs stand below to help you. World knowledge is the "
        "text found beside the image: it may name what is shown, or have nothing to do with it. Boxes and text were "
        "detected by machines and may be wrong, so trust the image where they differ. Never mention boxes, "
        "coordinates or these notes in the description, and say nothing about notes you did not use.\n"
        "{external_information}"
    ),
}


def prompt(prompt_id: str) -> str:
    """A prompt's words. Raises UnknownPart."""
    if prompt_id not in PROMPTS:
        raise UnknownPart(f"no prompt {prompt_id!r} here; there is {', '.join(PROMPTS)}")
    return PROMPTS[prompt_id]


def prompt_from(path: str) -> tuple[str, str, str]:
    """(prompt id, words, sha256 in hex) of a file. Raises Refused for one that is no prompt.

    The id is `file-` and the first 12 digits of the hash, so that other words have another id.
    """
    try:
        data = Path(path).expanduser().read_bytes()
        words = data.decode("utf-8-sig").strip()  # editors on Windows put a mark before the first word
    except OSError as error:
        raise Refused(f"--prompt-file {path} does not read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"--prompt-file {path} is no UTF-8 text at byte {error.start}") from error
    if not 1 <= len(words) <= MAX_CHARACTERS:
        raise Refused(f"--prompt-file {path} has {len(words)} characters; 1 to {MAX_CHARACTERS} would be right")
    if (token := TOKENS.search(words)) is not None:
        raise Refused(f"--prompt-file {path} has {token[0]!r}: the engine's chat template writes special tokens itself")
    sha256 = hashlib.sha256(data).hexdigest()
    return f"file-{sha256[:12]}", words, sha256

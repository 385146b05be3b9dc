"""Prompts by id; an id names its words for ever, so a changed prompt is a new id."""

from __future__ import annotations

from captioner.errors import UnknownPart

PROMPTS = {
    # The experts' grammar takes no prompt: the id names the rules that made the wording.
    "experts-grammar-1": "",
    "describe-image-1": "Describe this image.",
}


def prompt(prompt_id: str) -> str:
    """A prompt's words. Raises UnknownPart."""
    if prompt_id not in PROMPTS:
        raise UnknownPart(f"no prompt {prompt_id!r} here; there is {', '.join(PROMPTS)}")
    return PROMPTS[prompt_id]

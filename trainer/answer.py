"""A trained model that answers: one picture, or a video's frames, and a question in; one text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from captioner.errors import Refused
from captioner.registry import UnknownPart
from captioner.types import Sampling
from trainer import checkpoint, manners, weights
from trainer.data.pixels import normalised, stacked
from trainer.image_size import MODES, size_told
from trainer.templates import ASSISTANT, IMAGE, SYSTEM, Piece, asked, encode
from trainer.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """finish_reason: `stop`, or `length` where max_tokens cut it."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def pieces(template: str, question: str) -> list[Piece]:
    """What stands before an answer: a plain model is only shown the picture."""
    if template == "plain":
        return [Piece(text=IMAGE, supervised=False)]
    opening = [Piece(text=f"{SYSTEM} USER: ", supervised=False), *asked(f"{IMAGE}\n{question}")]
    return [*opening, Piece(text=ASSISTANT, supervised=False)]


def device_named(name: str) -> torch.device:
    """By default the first GPU, if there is one. Raises Refused for a device that this machine has not."""
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise Refused(f"no device {device!r} here: {error}") from error


class Speaker:
    """A checkpoint, or a run's newest, on a device: by default the first GPU, if there is one. mode: of image_size, for
    pictures that shall be sized otherwise than the checkpoint says. Raises Refused, CorruptState."""

    def __init__(self, model: str | Path, device: str = "", mode: str = "") -> None:
        if mode and mode not in MODES:
            raise UnknownPart(f"no mode {mode!r}; there is {', '.join(MODES)}")
        folder = checkpoint.model_folder(model)
        self.device = device_named(device)
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.words, said = Words(folder), manners.read(folder)
        self.manners = replace(said, mode=mode or said.mode)
        try:
            self.model: Any = weights.load(folder, dtype).to(self.device).eval()
        except (ValueError, OSError) as error:
            raise Refused(f"{folder} holds no model that `recap train` made: {error}") from error
        # What is asked is all that counts: Qwen2.5's generation_config.json punishes repetition, of greedy words too.
        self.model.generation_config = GenerationConfig()
        self.patch = self.model.config.patch_side

    def pixels(self, frames: Sequence[bytes]) -> torch.Tensor:
        """(3, H, W) of the middle frame for EVE; (F, 3, H, W) for ELVA, at most as many as it was trained with.

        Raises MediaError.
        """
        most = self.manners.frames if self.manners.family == "elva" else 1
        taken = (
            frames if len(frames) <= most else [frames[len(frames) * (2 * at + 1) // (2 * most)] for at in range(most)]
        )
        grid = self.manners.grid(size_told(taken[0]), self.patch)
        seen = normalised(stacked(taken, grid, self.patch).to(self.device), self.model.dtype)
        return seen if self.manners.family == "elva" else seen[0]

    def answer(self, frames: Sequence[bytes], question: str, sampling: Sampling) -> Answer:
        """What the model says of an encoded picture, or of a video's frames. Raises MediaError."""
        seen = self.pixels(frames)
        tokens = self.model.model.vision_tower.tokens(seen)
        prompt = encode(pieces(self.manners.template, question), self.words.ids, [tokens], self.words.image_token_id)
        return self.say(prompt.ids, seen, sampling)

    @torch.inference_mode()
    def say(self, ids: list[int], seen: torch.Tensor, sampling: Sampling) -> Answer:
        prompt = torch.tensor([ids], device=self.device)
        drawn = {"do_sample": False}
        if sampling.temperature > 0:
            torch.manual_seed(sampling.seed)
            drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
            drawn["top_k"] = sampling.top_k
        # A plain caption has no end token: it ends at its newline, which a token may hold together with a full stop.
        stops = {"stop_strings": ["\n"], "tokenizer": self.words.tokenizer} if self.manners.template == "plain" else {}
        whole = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            pixel_values=[seen],
            max_new_tokens=sampling.max_tokens,
            eos_token_id=self.words.end_id,
            pad_token_id=self.words.end_id,
            **drawn,
            **stops,
        )
        said = whole[0, len(ids) :].tolist()
        text = self.words.text(said)
        stopped = said[-1:] == [self.words.end_id] or ("\n" in text and bool(stops))
        return Answer(
            text=text.strip(),
            finish_reason="stop" if stopped else "length",
            prompt_tokens=len(ids),
            completion_tokens=len(said),
        )

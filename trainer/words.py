"""Words to tokens: the tokenizer that came with the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from captioner.errors import Refused
from trainer.templates import END

IMAGE_PAD = "<|image_pad|>"


class Words:
    """A local checkpoint's tokenizer. Raises Refused where it lacks what the templates and the model need."""

    def __init__(self, folder: str | Path) -> None:
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise Refused(f"{folder} has no tokenizer: a local Qwen2 or Qwen2.5 checkpoint would be right") from error
        self.image_token_id, self.end_id = self._special(IMAGE_PAD), self._special(END)

    def _special(self, text: str) -> int:
        ids = self.ids(text)
        if len(ids) != 1:
            raise Refused(f"this tokenizer has no token {text}: Qwen2.5's has")
        return ids[0]

    def ids(self, text: str) -> list[int]:
        """Special tokens read, none added."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, ids: list[int]) -> str:
        """Without special tokens."""
        said: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return said

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)

"""Conversations become the ids and labels that the published weights were trained on."""

from __future__ import annotations

import re

import pytest

from trainer.templates import IGNORE, SYSTEM, Example, Turn, encode, forbidden, plain, qwen2

IMAGE_ID = 9


class Letters:
    """A tokenizer whose ids are read back: a special token is one id, and so is any letter."""

    def __init__(self) -> None:
        self.words: list[str] = ["?"] * 10

    def __call__(self, text: str) -> list[int]:
        self.words += (parts := re.findall(r"<\|.*?\|>|.", text, re.DOTALL))
        return list(range(len(self.words) - len(parts), len(self.words)))

    def read(self, ids: list[int]) -> str:
        return "".join("#" if each == IMAGE_ID else self.words[each] for each in ids)


def supervised(example: Example) -> list[int]:
    assert len(example.ids) == len(example.labels)
    assert all(label in (IGNORE, token) for token, label in zip(example.ids, example.labels, strict=True))
    return [label for label in example.labels if label != IGNORE]


def turns(*texts: str) -> list[Turn]:
    return [Turn(speaker=("human", "gpt")[index % 2], text=text) for index, text in enumerate(texts)]


def test_plain_is_the_picture_the_caption_and_a_newline_all_but_the_picture_supervised() -> None:
    tokenize = Letters()
    example = encode(plain(turns("<image>\nDescribe this.", "  A dog. ")), tokenize, [3], IMAGE_ID)
    assert tokenize.read(example.ids) == "###A dog.\n"
    assert tokenize.read(supervised(example)) == "A dog.\n"


def test_plain_without_a_picture_supervises_everything() -> None:
    tokenize = Letters()
    example = encode(plain(turns("Say it.", "A dog.")), tokenize, [], IMAGE_ID)
    assert tokenize.read(supervised(example)) == tokenize.read(example.ids) == "A dog.\n"


def test_qwen2_supervises_answers_and_their_end_only() -> None:
    tokenize = Letters()
    pieces = qwen2(turns("What <image>\nis it?", "A dog.", "Old?", "No."))
    example = encode(pieces, tokenize, [2], IMAGE_ID)
    assert tokenize.read(example.ids) == (
        f"{SYSTEM} USER: ##\nWhat \nis it? ASSISTANT: A dog.<|im_end|>USER: Old? ASSISTANT: No.<|im_end|>"
    )
    assert tokenize.read(supervised(example)) == " A dog.<|im_end|> No.<|im_end|>"


def test_an_answer_with_a_mark_of_the_template_is_refused_not_masked_in_silence() -> None:
    for bad in ("an <image>", "so ASSISTANT: yes", "end<|im_end|>", "pad<|endoftext|>", "<|vision_start|>"):
        assert forbidden(bad) is not None
        for template in (plain, qwen2):
            with pytest.raises(ValueError, match="a mark of the template"):
                template(turns("<image>", bad))
    assert forbidden("a < b | c > d, an image, the ASSISTANT") is None


def test_other_turns_are_refused() -> None:
    with pytest.raises(ValueError, match="a human and a gpt turn"):
        plain(turns("a", "b", "c", "d"))
    with pytest.raises(ValueError, match="turns of human and gpt"):
        qwen2(turns("a", "b", "c"))
    with pytest.raises(ValueError, match="empty"):
        plain(turns("<image>", "  \n"))


def test_pictures_and_marks_must_pair_up() -> None:
    with pytest.raises(ValueError, match="has 1 pictures, the sample 2"):
        encode(plain(turns("<image>", "A dog.")), Letters(), [3, 3], IMAGE_ID)

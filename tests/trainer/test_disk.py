"""A disk that is full ends a training with a word, and what was saved before stays."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the `train` extra")

from captioner.errors import OutOfService
from tests.trainer.runs import train, with_files_of, words
from trainer import checkpoint


@pytest.mark.parametrize("most", [500, 5000], ids=["TensorBoard's file", "the weights"])
def test_a_full_disk_ends_a_training_and_does_not_hang_it(yard: Path, tmp_path: Path, most: int) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", tmp_path)
    assert with_files_of(most, told) == OutOfService.exit_code
    assert checkpoint.latest(tmp_path / "eve-v2-1") is None


def test_an_output_that_is_no_folder_is_told_in_a_word(yard: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutOfService, match=r"cannot write .*file/x/eve-v2-1: Not a directory"):
        train(words(yard, "1", "--llm", yard / "llm", "--output", tmp_path / "file/x"))

"""One thread for tiny tensors: more would only wait for each other, and add in another order than the processes.

And what several files train on, made once.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # also of the processes that tests start
if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, talks, a language model and a teacher."""
    from tests.trainer import made

    yard = tmp_path_factory.mktemp("yard")
    made.corpus(yard)
    made.llava(yard / "talks", pictures=6, videos=3)
    made.language_model(yard / "llm")
    made.teacher(yard / "teacher")
    return yard


@pytest.fixture(scope="session")
def whole(yard: Path) -> Path:
    """Stage 1, undisturbed."""
    from tests.trainer.runs import train, words

    train(words(yard, "1", "--llm", yard / "llm", "--output", yard / "whole"))
    return yard / "whole/eve-v2-1"

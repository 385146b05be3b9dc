"""Real servers for a whole session: each engine is started once, and only one of them runs at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.asking import Reply
from tests.engines.beds import Bed
from tests.engines.install import lacking

HERE = Path(__file__).parent
MAX_ANSWERS = 100
PICTURES = 56


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They take minutes and 6 GB, so they run where somebody asks for this folder, and only with both engines there."""
    asked = any(
        HERE in (path := Path(each.partition("::")[0]).resolve()).parents or path == HERE for each in config.args
    )
    missing = ", ".join(lacking()) if asked else ""
    why = f"not installed: {missing}; `make test-engines` does it" if asked else "real engines: `make test-engines`"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))  # a start takes 45 s on two idle cores, minutes on busy ones
            if not asked or missing:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session", params=["sglang", "vllm"])
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A real server with the tiny Qwen2-VL, kept by a process of its own."""
    made = Bed(request.param, "qwen2vl", tmp_path_factory.mktemp(request.param), MAX_ANSWERS)
    yield made
    made.close()


@pytest.fixture(scope="session")
def replies() -> dict[str, list[Reply]]:
    """What each engine said of PICTURES pictures."""
    return {}

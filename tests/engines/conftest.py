"""Real servers for a whole session: each engine is started once, and only one of them runs at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.asking import Reply
from tests.engines.beds import Bed
from tests.engines.install import DOWNLOADER, lacking

HERE = Path(__file__).parent
DOWNLOADS = {"test_url_lists.py"}  # they need img2dataset alone, the others the engines
MAX_ANSWERS = 100
PICTURES = 56


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They take minutes and 7 GB, so they run where somebody asks for this folder, with what they need installed."""
    asked = any(
        HERE in (path := Path(each.partition("::")[0]).resolve()).parents or path == HERE for each in config.args
    )
    missing = set(lacking()) if asked else set[str]()
    for item in (each for each in items if HERE in each.path.parents):
        item.add_marker(pytest.mark.timeout(900))  # a start takes 45 s on two idle cores, minutes on busy ones
        needed = missing & {DOWNLOADER} if item.path.name in DOWNLOADS else missing - {DOWNLOADER}
        if not asked:
            item.add_marker(pytest.mark.skip(reason="real engines: `make test-engines`"))
        elif needed:
            why = f"not installed: {', '.join(sorted(needed))}; `make test-engines` does it"
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

"""What several test files share and is slow to start."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from shards import store as stores
from tests.s3 import seaweedfs


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on a real S3 server, and the environment set so that a plain s3:// URL reaches it."""
    with seaweedfs(tmp_path_factory.mktemp("s3")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        stores._opened.cache_clear()
        yield "s3://recap-tests"
        stores._opened.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def a_process_like_any_other() -> Iterator[None]:
    """No test leaves its process a real-time one, as a video encoder once did to all that came after it."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before

"""Runs that start real servers themselves: killed in the middle, they mend; ended in any way, they leave no process."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shards import manifest
from shards.store import Store
from tests.engines import runs
from tests.engines.install import model, python
from tests.engines.owner import SMALL
from tests.engines.runs import command, pictures, shards_of
from tests.processes import all_gone, descendants, kill, recap

SAMPLES = 50
WORKERS = {"sglang": "sglang::scheduler", "vllm": "VLLM::Worker"}
CONTEXT = {"sglang": ("--context-length", "2048"), "vllm": ("--max-model-len", "2048")}
OURS = ("VLLM::", "vllm.entrypoints", "sglang", "pipelines/servers/warden.py")


@dataclass(slots=True, kw_only=True)
class Managed:
    """One run's folder, its command, and every server process that was ever seen under its drivers."""

    folder: Path
    engine: str
    seen: dict[int, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        """One question at a time, so that there is a middle to kill it in."""
        flags = " ".join((*SMALL[self.engine], *CONTEXT[self.engine]))
        served = ("--model", model("qwen2vl"), "--device", "cpu", "--engine-python", python(self.engine))
        paced = ("--pace.slots", "1", "--pace.journal-every", "1", "--max-tokens", "96")
        logs = ("--engine-logs", str(self.folder / "logs"))
        words = command(self.folder / "in", self.folder / "out", self.engine, *served, *paced, *logs)
        return [*words, f"--engine-flags={flags}"]

    @contextmanager
    def driver(self) -> Iterator[subprocess.Popen[bytes]]:
        """The run, which is not left behind."""
        started = runs.started(self.words(), self.folder / "driver.log")
        try:
            yield started
        finally:
            if started.poll() is None:
                family = descendants(started.pid)
                started.kill()
                started.wait()
                for pid in family:
                    kill(pid)

    def look(self, driver: subprocess.Popen[bytes]) -> dict[int, str]:
        """The server processes that run now."""
        now = {pid: said for pid, said in descendants(driver.pid).items() if any(mark in said for mark in OURS)}
        self.seen |= now
        return now

    def until(self, driver: subprocess.Popen[bytes], wanted: Callable[[], bool]) -> None:
        """Wait for it, as long as the run goes on."""
        while not wanted():
            assert driver.poll() is None, self.said()
            self.look(driver)
            time.sleep(0.1)

    def journal(self) -> int:
        """Segments of finished captions of shards that are still open."""
        return len(list((self.folder / "out").glob("journal/*/*")))

    def said(self) -> str:
        return (self.folder / "driver.log").read_text(errors="replace")[-3000:]


@pytest.fixture
def managed(request: pytest.FixtureRequest, tmp_path: Path) -> Managed:
    """Fifty pictures in one shard."""
    shards_of(tmp_path / "in", pictures(SAMPLES - 10), per_shard=SAMPLES)
    return Managed(folder=tmp_path, engine=request.param)


def whole(managed: Managed) -> bool:
    newest = manifest.latest(Store(str(managed.folder / "out")))
    return newest is not None and newest.complete


def strike(managed: Managed, driver: subprocess.Popen[bytes]) -> None:
    """Once captions come, kill the process that computes them."""
    begun = managed.journal()
    managed.until(driver, lambda: managed.journal() >= begun + 3)
    (victim,) = (pid for pid, said in managed.look(driver).items() if WORKERS[managed.engine] in said)
    assert kill(victim)
    assert not whole(managed)


def proved(managed: Managed) -> None:
    """Every sample once, by the servers that the run had started."""
    assert recap("verify", str(managed.folder / "out")).returncode == 0
    rows = runs.rows(managed.folder / "out")
    assert len(rows) == SAMPLES
    assert {(row.outcome, row.engine) for row in rows.values()} == {("captioned", managed.engine)}


@pytest.mark.parametrize("managed", ["vllm"], indirect=True)
def test_a_server_killed_in_the_middle_comes_back_and_the_run_ends_whole(managed: Managed) -> None:
    with managed.driver() as driver:
        strike(managed, driver)
        managed.until(driver, lambda: whole(managed))
        assert driver.wait(timeout=120) == 0, managed.said()
    proved(managed)
    assert sum(WORKERS[managed.engine] in said for said in managed.seen.values()) == 2, managed.seen
    assert all_gone(list(managed.seen), 1)


@pytest.mark.parametrize("managed", ["sglang"], indirect=True)
def test_no_end_of_a_driver_leaves_a_server_and_the_same_command_goes_on(managed: Managed) -> None:
    with managed.driver() as driver:
        strike(managed, driver)
        killed = managed.journal()
        managed.until(driver, lambda: managed.journal() > killed)
        driver.kill()
        driver.wait()
    assert all_gone(list(managed.seen), 30), managed.seen
    with managed.driver() as driver:
        managed.until(driver, lambda: any("sglang" in said for said in managed.look(driver).values()))
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=120) == 0, managed.said()
    assert all_gone(list(managed.seen), 1), managed.seen
    with managed.driver() as driver:
        managed.until(driver, lambda: whole(managed))
        assert driver.wait(timeout=120) == 0, managed.said()
    proved(managed)
    assert all_gone(list(managed.seen), 1)

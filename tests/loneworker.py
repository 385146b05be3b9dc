"""A worker without Ray for the chaos campaigns: forked by the hundred from a process that has imported everything.

    python -m tests.loneworker      # then {"in": …, "out": …, "log": …} on stdin for each worker; its pid comes back

The forking process itself opens no store and starts no thread, so that its children are born clean.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from captioner.engines import ENGINES
from captioner.engines.fake import Fake
from captioner.errors import OutOfService
from captioner.recipe import Pace, Recipe
from captioner.registry import Part, part
from captioner.types import Caption, CaptionRequest, ShardInput
from pipelines.actors import Job, Trouble, Worker
from shards import commits
from shards import plan as plans
from shards.store import Store
from tests import corpora
from tests.processes import ROOT, alive, kill, words

MARK = "tests.loneworker"  # what a worker's command line holds
PACE = Pace(workers=1)
FIRST = b"."
ODD = {"looping": 0.05, "refused": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The fake engine, which notes every ask in a file, so that what is asked twice can be counted from outside.

    One byte an ask: FIRST for a sample's first, another for those that its filters cause.
    """

    MODEL: ClassVar[str] = "recap-fake"
    REVISION: ClassVar[str] = "1"
    SLOTS: ClassVar[int] = 16
    log: str
    seconds: float = 0.02

    async def __aenter__(self) -> Counted:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def caption(self, request: CaptionRequest) -> Caption:
        """Note the ask, durably enough for a SIGKILL, then answer as the fake does."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, b"+" if request.attempt else FIRST)
        finally:
            os.close(descriptor)
        return await Fake(seconds=self.seconds, sigma=0.6, **ODD).caption(request)


def recipe(engine: Part | None = None) -> Recipe:
    """What the campaigns make: small pictures, every filter; by default with answers that nobody counts, at once."""
    made = corpora.fake_recipe()
    screens = tuple(each for each in made.screens if each.name != "resolution")
    return replace(made, screens=screens, engine=engine or part(ENGINES, "fake", **ODD))


def work(config: dict[str, str]) -> int:
    """Caption whatever shard has no record yet, in an order of one's own, as a worker of a run does."""
    made = recipe(part(ENGINES, "counted", log=config["log"]))
    store = Store(config["out"])
    try:
        plan = plans.read(store) or corpora.planned(made, config["in"])
        plans.enter(store, plan)
        done = commits.committed(store)
        waiting = [shard for shard in plan.inputs if shard.shard not in done]
        random.Random(os.getpid()).shuffle(waiting)
        troubles = asyncio.run(_caption(Job(output=store.url, run_id=plan.run_id, recipe=made, pace=PACE), waiting))
    except OutOfService as error:
        print(error, file=sys.stderr)
        return 3
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return 3 if troubles else 0


async def _caption(job: Job, waiting: list[ShardInput]) -> list[Trouble]:
    """Run the actor's own class, which Ray would restart, with as many shards open as the driver gives it."""
    worker, shards = Worker(job), iter(waiting)

    async def taking() -> list[Trouble]:
        ended = [await worker.caption(shard) for shard in shards]
        return [each for each in ended if isinstance(each, Trouble)]

    try:
        return [each for found in await asyncio.gather(*(taking() for _ in range(PACE.open_shards))) for each in found]
    finally:
        await worker.stop()


def main() -> None:
    """Fork a worker for each line on stdin."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for them
    ENGINES["counted"] = "tests.loneworker:Counted"
    recipe(
        part(ENGINES, "counted", log=os.devnull)
    )  # imports every screen and filter: 0.25 s that no child has to spend
    for line in sys.stdin:
        config = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(work(config))
        print(pid, flush=True)


class Workers:
    """The forking process, and workers on demand, none of whom outlives it."""

    def __init__(self, errors: Path, environment: dict[str, str] | None = None) -> None:
        self.errors, self.environment = errors, environment or {}
        self.pids: list[int] = []
        self._forking: Any = None

    def __enter__(self) -> Workers:
        with open(self.errors, "ab") as errors:
            self._forking = subprocess.Popen(
                [sys.executable, "-m", MARK],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=os.environ | self.environment,
            )
        return self

    def __exit__(self, *exc: object) -> None:
        for pid in self.pids:
            if MARK in words(pid):  # the number may be another's by now
                kill(pid)
        self._forking.kill()
        self._forking.communicate()

    def start(self, config: dict[str, str]) -> int:
        """A new worker's pid. config: where `in` and `out` are, and the `log` of asks."""
        self._forking.stdin.write(json.dumps(config) + "\n")
        self._forking.stdin.flush()
        self.pids.append(int(self._forking.stdout.readline()))
        return self.pids[-1]

    def left_behind(self, seconds: float) -> list[int]:
        """Decoders whose worker is gone and who are still there after so many seconds."""
        end = time.monotonic() + seconds
        while found := [pid for pid, parent in _decoders() if parent in self.pids and not alive(parent)]:
            if time.monotonic() > end:
                return found
            time.sleep(0.05)
        return []

    def crashes(self) -> int:
        """Exceptions that nobody caught, in any worker."""
        return self.errors.read_bytes().count(b"Traceback")

    def first_crash(self) -> str:
        """The end of the first of them."""
        _, _, text = self.errors.read_text(errors="replace").partition("Traceback")
        return " | ".join(text.splitlines()[-3:])[-500:]


def _decoders() -> list[tuple[int, int]]:
    """Every decoder process and the parent that its command line names."""
    named = [(int(each.name), words(int(each.name))) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [(pid, int(said.split()[-1])) for pid, said in named if "captioner.media.decoder_child" in said]


if __name__ == "__main__":
    main()

"""A worker without Ray for the chaos campaigns: forked by the hundred from a process that has imported everything.

    python -m tests.loneworker CONFIG.json      # then one line on stdin for each worker wanted; its pid comes back

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from captioner.engines import ENGINES
from captioner.engines.fake import Fake
from captioner.errors import OutOfService
from captioner.recipe import Pace, Recipe
from captioner.registry import part
from captioner.types import Caption, CaptionRequest
from shards import commits
from shards import plan as plans
from shards.store import Store
from tests import corpora
from tests.processes import ROOT

ENGINES["counted"] = "tests.loneworker:Counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The fake engine, which notes every ask in a file, so that what is asked twice can be counted from outside."""

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
            os.write(descriptor, b".")
        finally:
            os.close(descriptor)
        return await Fake(seconds=self.seconds, sigma=0.6, looping=0.05, refused=0.05).caption(request)


def recipe(log: Path) -> Recipe:
    """What the campaigns make: small pictures, every filter, answers that are counted."""
    made = corpora.fake_recipe()
    screens = tuple(each for each in made.screens if each.name != "resolution")
    return replace(made, screens=screens, engine=part(ENGINES, "counted", log=str(log)))


def work(config: dict[str, str]) -> int:
    """Caption whatever shard has no record yet, in an order of one's own."""
    made = recipe(Path(config["log"]))
    store = Store(config["out"])
    try:
        plan = plans.read(store) or corpora.planned(made, config["in"])
        plans.enter(store, plan)
        done = commits.committed(store)
        waiting = [shard for shard in plan.inputs if shard.shard not in done]
        random.Random(os.getpid()).shuffle(waiting)
        asyncio.run(corpora.caption(made, plan, store, waiting, Pace()))
    except OutOfService as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def main() -> None:
    """Fork a worker for each line on stdin."""
    config = json.loads(Path(sys.argv[1]).read_text())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for them
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(work(config))
        print(pid, flush=True)


class Workers:
    """The forking process, and workers on demand."""

    def __init__(self, folder: Path, config: dict[str, str], environment: dict[str, str]) -> None:
        (folder / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "tests.loneworker", str(folder / "config.json")]
        self._errors = open(folder / "errors", "ab")  # noqa: SIM115
        self._forking: Any = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT,
            env=os.environ | environment,
        )  # fmt: skip

    def start(self) -> int:
        """A new worker's pid."""
        self._forking.stdin.write("\n")
        self._forking.stdin.flush()
        return int(self._forking.stdout.readline())

    def close(self) -> None:
        """End the forking process; its workers are the caller's to end."""
        self._forking.stdin.close()
        self._forking.wait(timeout=30)
        self._errors.close()


if __name__ == "__main__":
    main()

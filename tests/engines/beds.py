"""A real server in a process that keeps it, as a test sees it from outside."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engines.install import model
from tests.processes import ROOT

# Two cores for a server and the test; the rest keeps vLLM's cache at its smallest.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


class Bed:
    """An owner process and what it told so far; `told` is its last state."""

    def __init__(self, engine: str, checkpoint: str, logs: Path, max_answers: int, context_tokens: int = 2048) -> None:
        self.engine, self.told, self.history = engine, dict[str, Any](), list[dict[str, Any]]()
        self.logs = logs
        words = (engine, model(checkpoint), str(logs), str(max_answers), str(context_tokens))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.owner", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def _take(self, seconds: float) -> None:
        self.told = json.loads(self._lines.get(timeout=seconds))
        self.history.append(self.told)

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 720) -> dict[str, Any]:
        """The next state that is as wanted, the last one included; queue.Empty when none comes."""
        while not (self.told and wanted(self.told)):
            self._take(seconds)
        return self.told

    def latest(self) -> dict[str, Any]:
        """The last state told so far."""
        while not self._lines.empty():
            self._take(0)
        return self.told

    def serving(self) -> str:
        """The URL, once it serves."""
        url: str = self.until(lambda told: told["state"] in ("serving", "gave_up"))["url"]
        assert self.told["state"] == "serving", self.told["last_error"]
        return url

    def close(self) -> None:
        """Have it stop its server, and wait for it."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.write("stop\n")
            self.process.stdin.flush()
            self.process.wait(timeout=60)

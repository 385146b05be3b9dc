"""The fleet: the replicas that a run asks, those at its endpoints or those that it starts, keeps and shows."""

from __future__ import annotations

import logging
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from captioner.engines import ENGINES
from captioner.engines.served import Served, Whose
from captioner.errors import OutOfService
from captioner.recipe import canonical, to_json
from captioner.registry import build
from pipelines.engine_hosts import Host, Hosting, endpoints, start_hosts, stop_hosts
from pipelines.models import Access, Models, engine_flags
from pipelines.servers.keeper import ServerState, Upkeep
from pipelines.servers.launch import ServerSpec
from pipelines.servers.process import Running
from shards.status import ENGINES_SEEN
from shards.store import Store

log = logging.getLogger("recap")

LOOK_SECONDS = 1.0
NOTICE_SECONDS = 5.0  # a server that drains gives every worker this long to hear of it; it is looked up in two
TOLD_SECONDS = 10.0
SNAPSHOT_SECONDS = 30.0
CPUS = {"cuda": 4.0, "cpu": 0.5}  # of a node, for one server's tokenizers and picture processors


def hosting_of(name: str, models: Models, access: Access) -> Hosting | None:
    """How this run's own servers are hosted, None where others run them. Raises Refused for an impossible spec."""
    if access.endpoints:
        return None
    spec = ServerSpec(
        engine=name,
        model=models.model,
        revision=models.revision,
        device=models.device,
        tensor_parallel=models.tp,
        passed=("HF_TOKEN",),
        flags=engine_flags(models),
    )
    return Hosting(
        spec=spec,
        python=models.engine_python or sys.executable,
        logs=models.engine_logs or str(Path(tempfile.gettempdir()) / "recap-engines"),
        loopback=not models.key_variable,
        key_variable=models.key_variable,
        cpus=CPUS[models.device],
        place_seconds=models.start_seconds,
        upkeep=Upkeep(
            running=Running(start_seconds=models.start_seconds),
            max_growth_bytes=int(models.recycle_growth_gib * 2**30),
            max_answers=models.recycle_answers,
            notice_seconds=NOTICE_SECONDS,
            drain_seconds=models.request_seconds,
        ),
    )


async def prove(name: str, settings: Mapping[str, Any], whose: Whose, url: str) -> None:
    """Whether the server at a URL serves the recipe's model and answers a tiny request. Raises EngineError, Refused."""
    engine: Served = build(ENGINES, name, settings)
    replica = engine.replica(url, whose)
    try:
        await replica.prove()
    finally:
        await replica.close()


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Where a run's replicas are now. Without hosts they are where the command line says, for ever.

    held_cpus: CPUs of the cluster that the hosts take.
    """

    store: Store
    access: Access
    hosts: tuple[Host, ...] = ()
    held_cpus: float = 0.0
    states: tuple[ServerState, ...] = ()
    _looked: float = -1e9
    _saved: float = field(default_factory=time.monotonic)
    _folder: str = field(default_factory=lambda: f"{ENGINES_SEEN}{secrets.token_hex(16)}")
    _number: int = 0

    def urls(self) -> tuple[str, ...]:
        """Of the replicas that serve, looked up at most every LOOK_SECONDS."""
        if self.hosts and time.monotonic() - self._looked >= LOOK_SECONDS:
            self.states = tuple(endpoints(self.hosts))
            self._looked = time.monotonic()
        if not self.hosts:
            return self.access.endpoints
        return tuple(sorted(state.url for state in self.states if state.state == "serving"))

    def wait(self, seconds: float, stopped: Any) -> tuple[str, ...]:
        """The URLs, once one replica serves; none when stopped() says so. Raises OutOfService after so long."""
        began = told = time.monotonic()
        while not (urls := self.urls()) and not stopped():
            now = time.monotonic()
            gave_up = bool(self.states) and all(state.state == "gave_up" for state in self.states)
            if gave_up or now - began > seconds:
                last = next((state.last_error for state in self.states if state.last_error), "they say nothing")
                raise OutOfService(f"no engine serves after {now - began:.0f} s; the last words: {last}")
            if now - told >= TOLD_SECONDS:
                told = now
                log.info("engines starting: %s", ", ".join(f"{state.name} {state.state}" for state in self.states))
            time.sleep(0.5)
        return urls

    def save(self, replicas: list[dict[str, Any]]) -> None:
        """Leave what the replicas are doing where `recap status` finds it; a cache, and never evidence."""
        if time.monotonic() - self._saved < SNAPSHOT_SECONDS:
            return
        self._saved, before = time.monotonic(), self._number
        self._number += 1
        hosts = [to_json(replace(state, last_error=state.last_error[-500:])) for state in self.states]
        seen = canonical({"time": int(time.time()), "hosts": hosts, "replicas": replicas})
        self.store.create(f"{self._folder}/{self._number:06d}.json", seen)
        self.store.delete([f"{self._folder}/{before:06d}.json"] if before else [])

    def close(self) -> None:
        """End what this run started, and its snapshot."""
        if self.hosts:
            stop_hosts(self.hosts)
        self.store.delete(self.store.names(f"{self._folder}/"))


@contextmanager
def fleet_of(store: Store, access: Access, hosting: Hosting | None, settings: Mapping[str, Any]) -> Iterator[Fleet]:
    """The fleet for the time of a run; its servers are still starting when this yields."""
    hosts: list[Host] = []
    if hosting is not None:
        proved = partial(prove, hosting.spec.engine, dict(settings), access.whose)
        hosts = start_hosts(hosting, access.replicas, proved)
    held_cpus = len(hosts) * hosting.cpus if hosting is not None else 0.0
    fleet = Fleet(store=store, access=access, hosts=tuple(hosts), held_cpus=held_cpus)
    try:
        yield fleet
    finally:
        fleet.close()

"""Ray actors that keep engine servers: one a replica, each with the GPUs of one node to itself."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from captioner.errors import OutOfService, Refused
from pipelines.servers.keeper import Keeper, Prove, ServerState, Upkeep
from pipelines.servers.launch import LOOPBACK, Launch, ServerSpec, command

log = logging.getLogger("recap")

SILENT_SECONDS = 10.0  # a host that says nothing for so long is not asked at any more
TOLD_SECONDS = 10.0
STOP_SECONDS = 120.0
LEAST_CPUS = 0.1  # held for a server, however many share the node


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """What every host of a run does: a replica's constructor argument, as Ray repeats only the constructor.

    spec: its host is filled in by each node. python: the engine's interpreter, at the same path on every node.
    loopback: all clients are on the server's own node; else it listens at the node's private address, and
    key_variable names the environment variable, set on every node, whose key clients send. cpus: for one server.
    place_seconds: until the cluster must have found room, an autoscaler's new nodes included.
    """

    spec: ServerSpec
    python: str
    logs: str
    loopback: bool
    key_variable: str = ""
    cpus: float = 4.0
    place_seconds: float = 600.0
    upkeep: Upkeep = field(default_factory=Upkeep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A replica's actor and the resources that are held for it; cpus: how much of the cluster's CPUs."""

    name: str
    actor: Any
    group: PlacementGroup
    cpus: float


class EngineHost:
    """The actor: one keeper, started with it and again whenever Ray revives it."""

    async def __init__(self, name: str, hosting: Hosting, prove: Prove) -> None:  # type: ignore[misc]  # Ray awaits it
        here = LOOPBACK if hosting.loopback else ray.util.get_node_ip_address()
        spec = replace(hosting.spec, host=here)
        key = _key(hosting)

        def launch(port: int) -> Launch:
            return command(spec, port, hosting.python, key)

        self._keeper = Keeper(name, launch, Path(hosting.logs), prove, hosting.upkeep)
        await self._keeper.__aenter__()

    async def state(self) -> ServerState:
        """How the server stands now."""
        return self._keeper.state()

    async def drain(self) -> ServerState:
        """Let clients leave, end the server when it has nothing in hand, and start no other."""
        await self._keeper.drain()
        return self._keeper.state()

    async def stop(self) -> ServerState:
        """End the server now; no process of it is left."""
        await self._keeper.stop()
        return self._keeper.state()


def start_hosts(
    hosting: Hosting, replicas: int, prove: Prove, *, grows: bool = True, stopped: Callable[[], bool] = lambda: False
) -> list[Host]:
    """Hosts named recap-engine-0 and up, each on one node with the GPUs it needs; their servers are still starting.

    prove: see Keeper; it travels to the actors, so it is a function of a module or a partial of one. grows: whether the
    cluster may yet get the room it lacks. stopped: nobody waits for room any more, and there are no hosts.
    Raises Refused for a spec that no node could run, OutOfService when the cluster has no room for it.
    """
    # As on a node, but here and now: an actor whose constructor fails is dead, and says so to nobody.
    command(replace(hosting.spec, host=LOOPBACK if hosting.loopback else "10.0.0.1"), 1, hosting.python, _key(hosting))
    if replicas < 1:
        raise Refused(f"{replicas} replicas would serve nobody; 1 or more would be right")
    gpus = float(hosting.spec.tensor_parallel) if hosting.spec.device == "cuda" else 0.0
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs = {"CPU": cpus_each(hosting.cpus, gpus, replicas, nodes)} | ({"GPU": gpus} if gpus else {})
    if hosting.loopback and len(nodes) > 1:
        raise Refused("servers on a cluster of several nodes want a key, and --key-variable to name where it is")
    if not grows and any(ray.cluster_resources().get(name, 0) < count * replicas for name, count in needs.items()):
        raise Refused(_no_room(needs, replicas))
    names = [f"recap-engine-{number}" for number in range(replicas)]
    # One bundle: a replica's GPUs talk to each other all the time, and share one node.
    groups = [placement_group([needs], strategy="STRICT_PACK", name=name) for name in names]
    if not _placed(groups, hosting.place_seconds, stopped):
        for group in groups:
            remove_placement_group(group)
        if stopped():
            return []
        raise OutOfService(f"{_no_room(needs, replicas)} within {hosting.place_seconds:g} s")
    return [
        Host(name=name, actor=_actor(name, group, needs, hosting, prove), group=group, cpus=needs["CPU"])
        for name, group in zip(names, groups, strict=True)
    ]


def cpus_each(wanted: float, gpus: float, replicas: int, nodes: Sequence[Mapping[str, float]]) -> float:
    """CPUs held for each server, few enough that one is left for a worker on every node that servers may come to.

    A node of 4 CPUs and one GPU would else be full before anybody could send its engine a picture. nodes: each one's
    resources.
    """
    if gpus:
        places = [(node.get("CPU", 0.0), node["GPU"] // gpus) for node in nodes if node.get("GPU", 0.0) >= gpus]
        if sum(servers for _, servers in places) < replicas:
            return wanted  # an autoscaler may bring more, and each new node brings CPUs of its own
        share = min((cpus - 1) / min(replicas, servers) for cpus, servers in places)
    else:  # wherever they come to: while one CPU a node is free in all, some node has a whole one
        share = (sum(node.get("CPU", 0.0) for node in nodes) - len(nodes)) / replicas
    # Ray counts in ten-thousandths and rounds: three times 3.6667 would take what was to be left.
    return min(wanted, max(LEAST_CPUS, math.floor(share * 10_000) / 10_000))


def _key(hosting: Hosting) -> str:
    return os.environ.get(hosting.key_variable, "") if hosting.key_variable else ""


def _actor(name: str, group: PlacementGroup, needs: dict[str, float], hosting: Hosting, prove: Prove) -> Any:
    options = {
        "name": name,
        "num_cpus": needs["CPU"],
        "num_gpus": needs.get("GPU", 0),
        "max_restarts": -1,
        "max_concurrency": 16,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
    }
    return ray.remote(EngineHost).options(**options).remote(name, hosting, prove)


def _placed(groups: list[PlacementGroup], seconds: float, stopped: Callable[[], bool]) -> bool:
    """Whether the cluster has found room for all of them in time, and is still asked to."""
    waiting, began = [group.ready() for group in groups], time.monotonic()
    told = began
    while waiting and not stopped() and time.monotonic() - began < seconds:
        waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)[1]
        if waiting and time.monotonic() - told >= TOLD_SECONDS:
            told = time.monotonic()
            log.info("engines wait for room on the cluster: %d of %d", len(waiting), len(groups))
    return not waiting


def _no_room(needs: dict[str, float], replicas: int) -> str:
    wanted = ", ".join(f"{count:g} {name}" for name, count in needs.items())
    there = ", ".join(f"{ray.cluster_resources().get(name, 0):g} {name}" for name in needs)
    return f"no room for {replicas} engines of {wanted} each: the cluster has {there} in all"


class Watch:
    """The hosts' latest states, asked for without ever waiting for one that does not answer."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._latest = {host.name: ServerState(name=host.name, state="waiting") for host in hosts}
        self._asked: dict[Any, str] = {}
        self._heard = dict.fromkeys(self._latest, time.monotonic())

    def latest(self) -> list[ServerState]:
        """As last told; one that is silent for long, or whose actor is gone, is `waiting`, as Ray starts it again."""
        now = time.monotonic()
        for ref in ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)[0] if self._asked else []:
            name = self._asked.pop(ref)
            try:
                self._latest[name] = ray.get(ref)
                self._heard[name] = now
            except RayError as error:
                if now - self._heard[name] > SILENT_SECONDS:
                    self._latest[name] = ServerState(
                        name=name, state="waiting", last_error=f"its actor is gone: {error}"
                    )
        asked = set(self._asked.values())
        self._asked |= {host.actor.state.remote(): host.name for host in self._hosts if host.name not in asked}
        silent = [name for name, heard in self._heard.items() if now - heard > SILENT_SECONDS]
        for name in silent:
            if self._latest[name].state != "waiting":
                self._latest[name] = ServerState(name=name, state="waiting", last_error="its actor does not answer")
        return [self._latest[host.name] for host in self._hosts]


def stop_hosts(hosts: Sequence[Host]) -> None:
    """End every server and give its resources back."""
    ray.wait([host.actor.stop.remote() for host in hosts], num_returns=len(hosts), timeout=STOP_SECONDS)
    for host in hosts:
        ray.kill(host.actor)
        remove_placement_group(host.group)

"""Ray hosts: placed with their GPUs, found by name, revived with their servers, and stopped without a trace."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group_table

from captioner.errors import OutOfService, Refused
from pipelines.actors import ray_cluster
from pipelines.engine_hosts import Host, Hosting, Watch, cpus_each, start_hosts, stop_hosts
from pipelines.servers.keeper import ServerState, Upkeep
from pipelines.servers.launch import ServerSpec
from pipelines.servers.process import Running
from tests.processes import ROOT, all_gone, descendants, kill, words

UPKEEP = Upkeep(running=Running(start_seconds=60, stop_seconds=5), check_seconds=0.2, notice_seconds=0.2)


async def proves(_: str) -> None:
    """Nothing to prove."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two GPUs that are only numbers, so that placement can be seen without one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def hosting(tmp_path: Path) -> Hosting:
    """vLLM's command line, read by the scripted server in place of vLLM."""
    python = tmp_path / "python"
    code = f"port = sys.argv[sys.argv.index('--port') + 1]\nos.execv({sys.executable!r}, ['vllm', {str(ROOT)!r} + "
    code += "'/tests/scripted_server.py', port])"
    python.write_text(f"#!{sys.executable}\nimport os, sys\n{code}\n")
    python.chmod(0o755)
    spec = ServerSpec(engine="vllm", model="m", tensor_parallel=1)
    logs = str(tmp_path / "logs")
    return Hosting(spec=spec, python=str(python), logs=logs, loopback=True, cpus=1, place_seconds=20, upkeep=UPKEEP)


def until(hosts: list[Host], wanted: Callable[[ServerState], bool]) -> list[ServerState]:
    end, watch = time.monotonic() + 120, Watch(hosts)
    while not all(map(wanted, states := watch.latest())):
        assert time.monotonic() < end, states
        time.sleep(0.2)
    return states


def serving(state: ServerState) -> bool:
    return state.state == "serving"


def test_on_a_cpu_no_gpu_is_asked_for(hosting: Hosting) -> None:
    with ray_cluster("local"):
        hosts = start_hosts(replace(hosting, spec=replace(hosting.spec, device="cpu")), 1, proves)
        until(hosts, serving)
        servers = [pid for pid in descendants(os.getpid()) if "scripted_server" in words(pid)]
    assert servers
    assert all_gone(servers, 20)  # nobody stopped it: it went with its cluster


def test_hosts_off_loopback_want_a_key(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINE_KEY", raising=False)
    with pytest.raises(Refused, match="wants a key"):
        start_hosts(replace(hosting, loopback=False, key_variable="ENGINE_KEY"), 1, proves)


def test_each_replica_has_its_own_gpu_and_survives_its_actor(cluster: None, hosting: Hosting) -> None:
    hosts = start_hosts(hosting, 2, proves)
    states = until(hosts, serving)
    assert [state.name for state in states] == ["recap-engine-0", "recap-engine-1"]
    assert len({state.url for state in states}) == 2
    assert all(state.url.startswith("http://127.0.0.1:") for state in states)
    gpus = [json.load(urllib.request.urlopen(f"{state.url}/environment"))["CUDA_VISIBLE_DEVICES"] for state in states]
    assert sorted(gpus) == ["0", "1"]
    assert ray.available_resources().get("GPU", 0) == 0
    groups = [group for group in placement_group_table().values() if group["state"] == "CREATED"]
    assert [group["strategy"] for group in groups] == ["STRICT_PACK"] * 2

    before = ray.get(ray.get_actor("recap-engine-0").state.remote())
    actors = {pid: line for pid, line in descendants(os.getpid()).items() if line.startswith("ray::EngineHost")}
    (actor,) = (pid for pid in actors if before.pid in descendants(pid))
    server = [*descendants(actor)]
    kill(actor)
    assert all_gone(server, 20)
    states = until(hosts, lambda state: serving(state) and state.pid != before.pid)
    assert all("scripted_server" in " ".join(descendants(state.pid or 0).values()) for state in states)

    servers = [pid for pid in descendants(os.getpid()) if "scripted_server" in words(pid)]
    assert len(servers) == 2
    assert ray.get(hosts[0].actor.drain.remote()).state == "stopped"
    stop_hosts(hosts)
    assert all_gone(servers, 1)


@pytest.mark.parametrize(("replicas", "tensor_parallel"), [(1, 2), (2, 1)])
def test_engines_leave_a_cpu_for_a_worker(cluster: None, hosting: Hosting, replicas: int, tensor_parallel: int) -> None:
    greedy = replace(hosting, cpus=4, spec=replace(hosting.spec, tensor_parallel=tensor_parallel))
    hosts = start_hosts(greedy, replicas, proves)
    try:
        assert sum(host.cpus for host in hosts) == pytest.approx(3)
        assert ray.get(ray.remote(num_cpus=1)(lambda: "placed").remote(), timeout=60) == "placed"
    finally:
        stop_hosts(hosts)


SMALL, WIDE = {"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "replicas", "held"),
    [
        ([SMALL], 1, 3.0),
        ([SMALL, SMALL], 2, 3.0),  # each keeps its own CPU: two halves would be no room for anybody
        ([{"CPU": 16.0}, SMALL], 1, 3.0),
        ([WIDE, WIDE], 5, 1.75),  # all four GPUs of a node can be used
        ([{"CPU": 12.0, "GPU": 3.0}], 3, 3.6666),  # Ray would make 11.0001 of three times 3.6667
        ([{"CPU": 1.0, "GPU": 1.0}], 1, 0.1),
        ([{"CPU": 64.0, "GPU": 2.0}], 2, 4.0),
        ([{"CPU": 4.0}], 1, 4.0),  # no GPU there yet
    ],
)
def test_every_node_with_engines_keeps_a_cpu_for_a_worker(
    nodes: list[dict[str, float]], replicas: int, held: float
) -> None:
    assert cpus_each(4.0, 1.0, replicas, nodes) == held


def test_engines_on_cpus_leave_a_whole_cpu_somewhere_however_they_are_placed() -> None:
    assert cpus_each(0.5, 0.0, 2, [{"CPU": 1.0}, {"CPU": 1.0}]) == 0.1
    assert cpus_each(0.5, 0.0, 1, [{"CPU": 2.0}]) == 0.5


def test_without_room_it_is_said_what_there_is(cluster: None, hosting: Hosting) -> None:
    large = replace(hosting, spec=replace(hosting.spec, tensor_parallel=8), place_seconds=1)
    with pytest.raises(
        OutOfService, match=r"1 engines of 1 CPU, 8 GPU each: the cluster has 4 CPU, 2 GPU in all within 1 s"
    ):
        start_hosts(large, 1, proves)


def test_a_cluster_that_cannot_grow_refuses_at_once_what_it_has_no_room_for(cluster: None, hosting: Hosting) -> None:
    large = replace(hosting, spec=replace(hosting.spec, tensor_parallel=8), place_seconds=600)
    with pytest.raises(Refused, match=r"8 GPU each: the cluster has 4 CPU, 2 GPU in all"):
        start_hosts(large, 1, proves, grows=False)


def test_nobody_waits_for_room_once_the_run_is_asked_to_stop(cluster: None, hosting: Hosting) -> None:
    large = replace(hosting, spec=replace(hosting.spec, tensor_parallel=8), place_seconds=600)
    assert start_hosts(large, 1, proves, stopped=lambda: True) == []

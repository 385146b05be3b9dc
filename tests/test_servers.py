"""A kept server dies, hangs, swells, refuses to start and to end; it is brought back, and no process of it stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from captioner.errors import EngineUnavailable, ModelChanged, Refused, UnknownPart
from pipelines.servers.keeper import Keeper, ServerState, Upkeep, pause
from pipelines.servers.launch import Counters, Launch, ServerSpec, command, kept
from pipelines.servers.load import Load, load_in
from pipelines.servers.process import Running, Server, free_port
from tests.processes import ROOT, alive, all_gone, descendants, kill

SCRIPT = str(ROOT / "tests/scripted_server.py")
RUNNING = Running(start_seconds=30, stop_seconds=5)
UPKEEP = Upkeep(
    running=RUNNING,
    prove_seconds=10,
    backoff_seconds=0.05,
    backoff_most=0.2,
    give_up_after=3,
    check_seconds=0.05,
    unhealthy_seconds=0.5,
    notice_seconds=0.1,
    drain_seconds=20,
)
KEY = "sk-known-to-nobody"


def launch(*words: str) -> Callable[[int], Launch]:
    """How to start the scripted server with these words."""

    def on(port: int) -> Launch:
        return Launch(
            argv=(sys.executable, SCRIPT, str(port), *words),
            url=f"http://127.0.0.1:{port}",
            environment={"SCRIPTED_KEY": KEY},
            secrets=(KEY,),
            counters=Counters(answers=("scripted:answers{",), outstanding=("scripted:outstanding{",)),
        )

    return on


def server(logs: Path, *words: str, running: Running = RUNNING) -> Server:
    return Server("scripted", launch(*words)(free_port()), logs, running)


async def ask(url: str, path: str = "/ask") -> str:
    async with aiohttp.ClientSession() as session:
        if path == "/environment":
            async with session.get(url + path) as answer:
                return await answer.text()
        async with session.post(url + path) as answer:
            return await answer.text()


async def proves(_: str) -> None:
    """Nothing to prove."""


@asynccontextmanager
async def keeper(
    logs: Path, *words: str, upkeep: Upkeep = UPKEEP, prove: Callable[[str], Awaitable[None]] = proves
) -> AsyncIterator[Keeper]:
    async with Keeper("scripted", launch(*words), logs, prove, upkeep) as kept_server:
        yield kept_server


async def until(kept_server: Keeper, wanted: Callable[[ServerState], bool]) -> ServerState:
    """Its state, once it is as wanted."""
    async with asyncio.timeout(60):
        while not wanted(state := kept_server.state()):
            await asyncio.sleep(0.02)
    return state


# One server


def test_a_server_starts_answers_and_leaves_no_process(tmp_path: Path) -> None:
    async def scene() -> list[int]:
        one = server(tmp_path, "--fork")
        await one.start()
        assert int(await ask(one.url)) in one.pids()
        while len(one.pids()) < 3:  # itself, its child in another session, and that one's child
            await asyncio.sleep(0.02)
        pids = [*one.pids(), one.pid or 0]
        await one.stop()
        assert not one.alive()
        return pids

    pids = asyncio.run(scene())
    assert len(pids) == 4
    assert not any(alive(pid) for pid in pids)


def test_a_server_deaf_to_sigterm_is_killed_with_its_orphans(tmp_path: Path) -> None:
    async def scene() -> list[int]:
        one = server(tmp_path, "--deaf", "--fork", running=replace(RUNNING, stop_seconds=0.5))
        await one.start()
        while len(one.pids()) < 3:
            await asyncio.sleep(0.02)
        pids = one.pids()
        await one.stop()
        return pids

    assert not any(alive(pid) for pid in asyncio.run(scene()))


def test_a_server_that_fails_tells_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"(?s)exit code 3.*no such model: nonesuch") as raised:
        asyncio.run(server(tmp_path, "--fail", "no such model: nonesuch").start())
    assert len(str(raised.value)) < 5000


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path) -> None:
    nothing = Launch(argv=("/nonexistent/python", "-m", "vllm"), url="http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match="cannot start /nonexistent/python"):
        asyncio.run(Server("none", nothing, tmp_path, RUNNING).start())


def test_a_server_that_never_gets_ready_is_ended_at_its_deadline(tmp_path: Path) -> None:
    async def scene() -> Server:
        one = server(tmp_path, "--never-ready", "--deaf", running=Running(start_seconds=1, stop_seconds=0.2))
        with pytest.raises(EngineUnavailable, match="did not answer within 1 s"):
            await one.start()
        return one

    assert not asyncio.run(scene()).alive()


def test_cancelling_a_start_ends_the_server(tmp_path: Path) -> None:
    async def scene() -> list[int]:
        one = server(tmp_path, "--never-ready")
        starting = asyncio.create_task(one.start())
        while not one.pids():
            await asyncio.sleep(0.02)
        pids = [*one.pids(), one.pid or 0]
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
        return pids

    assert not any(alive(pid) for pid in asyncio.run(scene()))


OWNER = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.test_servers import server
async def own():
    one = server(Path(sys.argv[1]), "--fork", "--deaf")
    await one.start()
    while len(one.pids()) < 3:
        await asyncio.sleep(0.02)
    print(one._private, *one.pids(), one.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(own())
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_its_killed_owner(tmp_path: Path, sign: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        private, *told = owner.stdout.readline().split()
        pids = [int(pid) for pid in told]
        assert len(pids) == 4 and Path(private).is_dir()
        owner.send_signal(sign)
    assert all_gone(pids, 10)
    until = time.monotonic() + 10
    while Path(private).exists():  # the other warden may have it in hand
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("which", [0, 1])
def test_either_warden_ends_the_whole_tree_when_the_other_is_killed(tmp_path: Path, which: int) -> None:
    async def scene() -> None:
        one = server(tmp_path, "--fork", "--deaf")
        await one.start()
        while len(one.pids()) < 3:
            await asyncio.sleep(0.02)
        tree = {one.pid or 0, *descendants(one.pid or 0)}
        upper, lower = sorted(tree - set(one.pids()))
        assert len(tree) == 5
        assert kill((upper, lower)[which])
        assert await one.ended(10)
        assert all_gone(list(tree), 10)
        await one.stop()

    asyncio.run(scene())


def test_a_server_inherits_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HOME", "/models")

    async def scene() -> dict[str, str]:
        one = server(tmp_path)
        await one.start()
        answer = await ask(one.url, "/environment")
        await one.stop()
        found: dict[str, str] = json.loads(answer)
        return found

    found = asyncio.run(scene())
    assert "secret" not in found.values()
    assert found["HF_HOME"] == "/models"


def test_a_key_is_in_no_log_and_in_no_command_line(tmp_path: Path) -> None:
    async def scene() -> str:
        one = server(tmp_path)
        await one.start()
        seen = " ".join(descendants(os.getpid()).values())
        await one.stop()
        assert KEY not in seen
        return one.tail()

    assert asyncio.run(scene()) == "started with [secret]"


def test_logs_are_kept_for_the_last_few_starts_and_stay_small(tmp_path: Path) -> None:
    small = replace(RUNNING, log_bytes=8192, logs_kept=2)
    for _ in range(4):
        with pytest.raises(EngineUnavailable, match="last words"):
            asyncio.run(server(tmp_path, "--fail", "last words", running=small).start())
    assert len(list(tmp_path.glob("scripted-*.log"))) == 2
    assert len(list(tmp_path.glob("scripted-*.log.1"))) <= 2
    assert all(path.stat().st_size <= 2**16 + 8192 for path in tmp_path.iterdir())


def test_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    async def scene() -> tuple[int, int]:
        one = server(tmp_path, "--leak-mib", "64")
        await one.start()
        before = one.memory_bytes()
        await ask(one.url)
        after = one.memory_bytes()
        await one.stop()
        return before, after

    before, after = asyncio.run(scene())
    assert 2**20 < before < after - 60 * 2**20


# A keeper


def test_a_server_that_dies_is_brought_back_at_the_same_url(tmp_path: Path) -> None:
    async def scene() -> None:
        async with keeper(tmp_path, "--answers-before-death", "2") as kept_server:
            url = await kept_server.serving()
            first = await ask(url)
            await ask(url)
            state = await until(kept_server, lambda state: state.restarts == 1 and state.state == "serving")
            assert state.url == url
            assert state.deaths == 1
            assert "I die of the last answer" in state.last_error
            assert await ask(url) != first
        assert kept_server.state().state == "stopped"
        assert kept_server.state().pid is None

    asyncio.run(scene())


def test_a_killed_process_below_the_server_is_no_secret_to_the_keeper(tmp_path: Path) -> None:
    async def scene() -> None:
        async with keeper(tmp_path) as kept_server:
            await kept_server.serving()
            kill(kept_server.pids()[0])
            state = await until(kept_server, lambda state: state.restarts == 1 and state.state == "serving")
            assert "exit code 137" in state.last_error

    asyncio.run(scene())


def test_a_server_that_hangs_is_replaced(tmp_path: Path) -> None:
    async def scene() -> None:
        async with keeper(tmp_path) as kept_server:
            await ask(await kept_server.serving(), "/hang")
            state = await until(kept_server, lambda state: state.restarts == 1 and state.state == "serving")
            assert "hangs" in state.last_error

    asyncio.run(scene())


def test_a_server_that_always_dies_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    async def scene() -> None:
        async with keeper(tmp_path, "--fail", "CUDA is not there") as kept_server:
            with pytest.raises(EngineUnavailable, match="CUDA is not there"):
                await kept_server.serving()
            state = kept_server.state()
            assert (state.state, state.deaths, state.restarts) == ("gave_up", 3, 2)

    asyncio.run(scene())


def test_deaths_after_steady_service_do_not_add_up(tmp_path: Path) -> None:
    async def scene() -> None:
        upkeep = replace(UPKEEP, steady_seconds=0.1, give_up_after=2)
        async with keeper(tmp_path, upkeep=upkeep) as kept_server:
            for restarts in (1, 2, 3):
                await kept_server.serving()
                await until(kept_server, lambda state: state.deaths == 0)
                kill(kept_server.pids()[0])
                await until(kept_server, lambda state, n=restarts: state.restarts == n and state.state == "serving")  # type: ignore[misc]

    asyncio.run(scene())


def test_another_model_is_not_tried_again(tmp_path: Path) -> None:
    async def another(_: str) -> None:
        raise ModelChanged("serves qwen, not llava")

    async def scene() -> None:
        async with keeper(tmp_path, prove=another) as kept_server:
            with pytest.raises(EngineUnavailable, match="serves qwen, not llava"):
                await kept_server.serving()
            assert (kept_server.state().state, kept_server.state().restarts) == ("gave_up", 0)
            assert not kept_server.pids()

    asyncio.run(scene())


def test_a_server_serves_only_once_it_is_proved(tmp_path: Path) -> None:
    asked: list[str] = []

    async def at_the_third(url: str) -> None:
        asked.append(url)
        if len(asked) < 3:
            raise EngineUnavailable("loading")

    async def scene() -> None:
        async with keeper(tmp_path, prove=at_the_third) as kept_server:
            assert asked == [] and kept_server.state().state == "starting"
            assert asked.count(await kept_server.serving()) == 3

    asyncio.run(scene())


def test_a_server_that_is_never_proved_counts_as_dead(tmp_path: Path) -> None:
    async def never(_: str) -> None:
        await asyncio.sleep(1000)

    async def scene() -> None:
        upkeep = replace(UPKEEP, prove_seconds=0.2, give_up_after=1)
        async with keeper(tmp_path, prove=never, upkeep=upkeep) as kept_server:
            with pytest.raises(EngineUnavailable, match=r"could not be proved within 0\.2 s"):
                await kept_server.serving()

    asyncio.run(scene())


def test_after_so_many_answers_a_server_is_drained_then_replaced(tmp_path: Path) -> None:
    async def scene() -> None:
        async with keeper(tmp_path, "--seconds", "1", upkeep=replace(UPKEEP, max_answers=2)) as kept_server:
            url = await kept_server.serving()
            await asyncio.gather(ask(url), ask(url))
            late = [asyncio.create_task(ask(url)) for _ in range(3)]  # before it is known that it drains
            state = await until(kept_server, lambda state: state.state == "draining")
            answers = await asyncio.gather(*late)
            assert len(set(answers)) == 1  # each was answered, by the process that was asked
            state = await until(kept_server, lambda state: state.recycles == 1 and state.state == "serving")
            assert (state.deaths, state.last_error) == (0, "")
            assert await ask(url) != answers[0]

    asyncio.run(scene())


def test_a_server_whose_memory_grows_is_replaced(tmp_path: Path) -> None:
    async def scene() -> None:
        upkeep = replace(UPKEEP, max_growth_bytes=100 * 2**20)
        async with keeper(tmp_path, "--leak-mib", "70", upkeep=upkeep) as kept_server:
            url = await kept_server.serving()
            await ask(url)
            grown = kept_server.state().memory_bytes
            assert grown > 70 * 2**20
            await ask(url)  # beyond 125 MiB, which is the bound with all the patience that a replica may draw
            state = await until(kept_server, lambda state: state.recycles == 1 and state.state == "serving")
            assert state.memory_bytes < grown

    asyncio.run(scene())


def test_a_drain_asks_the_clients_and_waits_for_what_is_in_hand(tmp_path: Path) -> None:
    told: list[str] = []

    async def leave(url: str) -> None:
        told.append(url)

    async def scene() -> None:
        kept_server = Keeper("scripted", launch("--seconds", "1"), tmp_path, proves, UPKEEP, leave)
        async with kept_server:
            url = await kept_server.serving()
            asked = asyncio.create_task(ask(url))
            await until(kept_server, lambda state: state.outstanding == 1)
            await kept_server.drain()
            assert await asked
            assert told == [url]
            assert kept_server.state().state == "stopped"

    asyncio.run(scene())


def test_a_drain_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def scene() -> None:
        upkeep = replace(UPKEEP, drain_seconds=0.5)
        async with keeper(tmp_path, "--seconds", "1000", upkeep=upkeep) as kept_server:
            asked = asyncio.create_task(ask(await kept_server.serving()))
            await until(kept_server, lambda state: state.outstanding == 1)
            await kept_server.drain()
            with pytest.raises(aiohttp.ClientError):
                await asked

    asyncio.run(scene())


def test_pauses_double_up_to_a_bound_and_are_spread() -> None:
    upkeep = Upkeep(backoff_seconds=1, backoff_most=60)
    assert [pause(deaths, upkeep, 1.0) for deaths in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert pause(3, upkeep, 0.0) == 2


# What is started


def words(spec: ServerSpec, key: str = "") -> str:
    return " ".join(command(spec, 30000, "/engines/bin/python", key).argv)


def test_sglang_is_started_on_gpus() -> None:
    spec = ServerSpec(engine="sglang", model="a/b", revision="abc", served_name="b", tensor_parallel=2, max_images=4)
    assert words(spec) == (
        "/engines/bin/python -m sglang.launch_server --model-path a/b --host 127.0.0.1 --port 30000 "
        "--served-model-name b --enable-metrics --log-level-http warning --revision abc "
        '--limit-mm-data-per-request {"image":4,"video":0} --allowed-media-domains media.invalid --tp 2 '
        "--mem-fraction-static 0.85"
    )


def test_vllm_is_started_on_gpus() -> None:
    spec = ServerSpec(engine="vllm", model="a/b", context_tokens=8192, memory_fraction=0.9, flags=("--seed", "1"))
    assert words(spec) == (
        "/engines/bin/python -m vllm.entrypoints.cli.main serve a/b --host 127.0.0.1 --port 30000 "
        "--served-model-name a/b --disable-uvicorn-access-log --max-model-len 8192 "
        '--limit-mm-per-prompt {"image":1,"video":0} --allowed-media-domains media.invalid --tensor-parallel-size 1 '
        "--gpu-memory-utilization 0.9 --seed 1"
    )


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_a_key_goes_by_environment_or_file(engine: str) -> None:
    spec = ServerSpec(engine=engine, model="m", host="10.0.0.5")
    launched = command(spec, 30000, "python", KEY)
    assert KEY not in " ".join(launched.argv) and KEY not in repr(launched)
    assert KEY in launched.config + launched.environment.get("VLLM_API_KEY", "")
    assert launched.url == "http://10.0.0.5:30000"
    assert launched.secrets == (KEY,)


@pytest.mark.parametrize(
    ("host", "key"),
    [
        *[("10.0.0.5", ""), ("100.64.0.7", ""), ("0.0.0.0", KEY), ("8.8.8.8", KEY), ("::", KEY)],
        *[("2606:4700::1", KEY), ("node-7", KEY)],
    ],
)
def test_a_server_is_reached_from_a_private_network_at_most_and_then_with_a_key(host: str, key: str) -> None:
    with pytest.raises(Refused, match=host):
        command(ServerSpec(engine="vllm", model="m", host=host), 30000, "python", key)


def test_an_address_of_six_is_bracketed_in_a_url() -> None:
    assert command(ServerSpec(engine="vllm", model="m", host="fd00::7"), 1, "python", KEY).url == "http://[fd00::7]:1"


def test_doors_for_developers_stay_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    launched = command(ServerSpec(engine="vllm", model="m"), 1, "python")
    assert (kept(os.environ) | dict(launched.environment))["VLLM_SERVER_DEV_MODE"] == "0"


def test_offline_only_where_asked() -> None:
    online, offline = (
        command(ServerSpec(engine="vllm", model="m", offline=asked), 1, "python").environment for asked in (False, True)
    )
    assert "HF_HUB_OFFLINE" not in online
    assert offline["HF_HUB_OFFLINE"] == "1"


def test_no_code_of_a_model_is_run() -> None:
    for flag in ("--trust-remote-code", "--trust_remote_code", "--trust-remote", "--trust-remote-code=true"):
        with pytest.raises(Refused, match="trust-remote-code"):
            ServerSpec(engine="vllm", model="m", flags=(flag,))
    with pytest.raises(UnknownPart, match="sglang, vllm"):
        ServerSpec(engine="vlm", model="m")


def test_what_a_server_inherits() -> None:
    around = {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_SOCKET_IFNAME": "eth0",
        "HF_HOME": "/models",
        "HF_TOKEN": "secret",
        "SGLANG_API_KEY": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PYTHONPATH": "/ours",
        "RAY_AUTH_TOKEN": "secret",
    }
    assert set(kept(around)) == {"PATH", "CUDA_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME", "HF_HOME"}
    assert kept(around, ("HF_TOKEN",))["HF_TOKEN"] == "secret"


def test_a_load_is_read_from_metrics() -> None:
    counters = command(ServerSpec(engine="vllm", model="m"), 1, "python").counters
    assert counters is not None
    text = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 2.0
vllm:request_success_total{finished_reason="stop"} 40.0
vllm:request_success_total{finished_reason="length"} 2.0
"""
    assert load_in(text, counters) == Load(answers=42, outstanding=5)
    assert load_in("# nothing\n", counters) is None

"""vLLM and SGLang themselves: started, proved, killed, brought back, recycled, and gone with their owner."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from captioner.errors import EngineUnavailable
from pipelines.servers.launch import command
from pipelines.servers.process import Running, Server, free_port
from tests.engines.asking import KEY, Refusal, Reply, caption, models
from tests.engines.beds import Bed
from tests.engines.conftest import PICTURES
from tests.engines.install import python
from tests.engines.owner import NAME, spec
from tests.engines.photos import photo
from tests.processes import all_gone, descendants, kill, words

WORKERS = {"sglang": "sglang::scheduler", "vllm": "VLLM::Worker"}


def captions(url: str, numbers: range, at_once: int = 4) -> list[Reply]:
    """Captions of these pictures, several asked at once."""

    async def all_of_them() -> list[Reply]:
        turns = asyncio.Semaphore(at_once)

        async def one(number: int) -> Reply:
            async with turns:
                return await caption(url, photo(number))

        return await asyncio.gather(*(one(number) for number in numbers))

    return asyncio.run(all_of_them())


def listening(pids: list[int]) -> set[str]:
    """The addresses, as the kernel writes them in hex, at which these processes listen for TCP."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(entry))
            except OSError:
                continue
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pids[0]}/net/{name}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_it_captions_under_the_name_it_was_given(bed: Bed) -> None:
    url = bed.serving()
    assert asyncio.run(models(url)) == [NAME]
    (reply,) = captions(url, range(1))
    assert reply.text
    assert (reply.finish_reason, reply.completion_tokens) in (("length", 24), ("stop", reply.completion_tokens))


def test_nothing_of_it_listens_off_loopback(bed: Bed) -> None:
    bed.serving()
    assert listening(bed.told["pids"]) == {"0100007F"}


def test_it_answers_nobody_without_the_key_and_tells_nobody_the_key(bed: Bed) -> None:
    url = bed.serving()
    with pytest.raises(Refusal, match="401"):
        asyncio.run(models(url, headers={}))
    assert KEY not in " ".join(words(pid) for pid in descendants(bed.process.pid))
    logs = [path.read_text() for path in bed.logs.iterdir()]
    assert logs and not any(KEY in text for text in logs)


def test_it_says_its_memory_and_its_load(bed: Bed, replies: dict[str, list[Reply]]) -> None:
    url = bed.serving()
    replies[bed.engine] = captions(url, range(PICTURES))
    assert bed.told["memory_bytes"] > 500 * 2**20
    assert len({reply.text for reply in replies[bed.engine]}) > PICTURES / 2


def test_a_killed_worker_process_is_mended_by_a_restart(bed: Bed, replies: dict[str, list[Reply]]) -> None:
    url = bed.serving()
    before = [pid for pid in descendants(bed.process.pid) if pid != bed.told["pid"]]
    (worker,) = (pid for pid in before if WORKERS[bed.engine] in words(pid))
    kill(worker)
    told = bed.until(lambda told: told["state"] == "serving" and told["restarts"] == 1)
    assert all_gone(before, 1)
    assert told["url"] == url
    assert "recap-" in told["last_error"] and "its log" in told["last_error"]
    assert [reply.text for reply in captions(url, range(4))] == [reply.text for reply in replies[bed.engine][:4]]


def test_after_so_many_answers_it_is_drained_and_replaced(bed: Bed) -> None:
    url = bed.serving()
    before = bed.told["pids"]
    answered = 0
    while bed.latest()["state"] == "serving":
        answered += len(captions(url, range(8)))  # none may fail, as long as it says that it serves
        assert answered < 400
    told = bed.until(lambda told: told["state"] == "serving" and told["recycles"] == 1)
    assert [each["state"] for each in bed.history[-4:]] == ["draining", "starting", "proving", "serving"]
    assert told["deaths"] <= 1  # the killed one
    assert all_gone(before, 1)
    assert captions(url, range(1))


def test_it_does_not_outlive_its_killed_owner(bed: Bed) -> None:
    bed.serving()
    tree = [*descendants(bed.process.pid)]
    assert len(tree) >= 4  # the warden, the server and at least two processes of its own
    bed.process.kill()
    bed.process.wait()
    assert all_gone(tree, 15)


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_a_model_that_is_not_there_is_told_with_the_end_of_the_log(engine: str, tmp_path: Path) -> None:
    launch = command(spec(engine, "/nonexistent/checkpoint"), free_port(), python(engine))
    server = Server("wrong", launch, tmp_path, Running(start_seconds=300, stop_seconds=10))
    with pytest.raises(EngineUnavailable, match=r"(?s)exit code [1-9].*its log .* ends:.*nonexistent"):
        asyncio.run(server.start())


def test_both_engines_say_the_same_of_the_same_pictures(replies: dict[str, list[Reply]]) -> None:
    if len(replies) < 2:
        pytest.skip("wants both engines' captions of the tests above")
    # A last character that is cut in two: SGLang writes U+FFFD, vLLM nothing.
    texts = {engine: [reply.text.rstrip("\ufffd") for reply in said] for engine, said in replies.items()}
    assert texts["sglang"] == texts["vllm"]
    tokens = {engine: [reply.prompt_tokens for reply in said] for engine, said in replies.items()}
    assert tokens["sglang"] == tokens["vllm"]

"""A process that keeps one real server, so that a test can kill it: states go out as lines, orders come in as lines.

    python -m tests.engines.owner ENGINE MODEL LOGS MAX_ANSWERS CONTEXT_TOKENS

Out: one JSON line for each change of state, with the pids of the whole tree. In: `stop`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

from captioner.errors import EngineUnavailable
from pipelines.servers.keeper import Keeper, ServerState, Upkeep
from pipelines.servers.launch import ServerSpec, command
from pipelines.servers.process import Running
from tests.engines.asking import KEY, Refusal, caption, models
from tests.engines.install import python
from tests.engines.photos import photo

NAME = "tiny"
SMALL = {
    "sglang": (
        *("--dtype", "float32", "--mem-fraction-static", "0.3", "--max-total-tokens", "8192"),
        *("--max-running-requests", "4", "--sleep-on-idle"),  # it would poll with half a core
    ),
    "vllm": ("--dtype", "float32", "--max-num-seqs", "8"),
}
UPKEEP = Upkeep(
    running=Running(start_seconds=600, stop_seconds=60),
    prove_seconds=120,
    backoff_seconds=0.5,
    check_seconds=0.5,
    notice_seconds=1.0,
    drain_seconds=60,
)


def spec(engine: str, model: str, context_tokens: int = 2048) -> ServerSpec:
    """A server small enough for two cores."""
    return ServerSpec(
        engine=engine,
        model=model,
        served_name=NAME,
        device="cpu",
        max_images=8,
        max_videos=2,
        context_tokens=context_tokens,
        offline=True,
        flags=SMALL[engine],
    )


async def prove(url: str) -> None:
    """It says the right name and captions one picture."""
    try:
        if await models(url) != [NAME]:
            raise EngineUnavailable(f"{url} serves another model")
        await caption(url, photo(0), max_tokens=2)
    except (OSError, Refusal) as error:
        raise EngineUnavailable(f"{url}: {error}") from error


def _tell(state: ServerState, pids: list[int]) -> None:
    print(json.dumps({**dataclasses.asdict(state), "pids": pids}), flush=True)


async def own(engine: str, model: str, logs: str, max_answers: str, context_tokens: str) -> None:
    """Keep it until told to stop."""
    loop = asyncio.get_running_loop()
    stop = loop.run_in_executor(None, sys.stdin.readline)
    upkeep = dataclasses.replace(UPKEEP, max_answers=int(max_answers))
    launch = partial(command, spec(engine, model, int(context_tokens)), python=python(engine), key=KEY)
    async with Keeper(f"recap-{engine}", lambda port: launch(port=port), Path(logs), prove, upkeep) as keeper:
        told = ""
        while not stop.done():
            if keeper.state().state != told:
                told = keeper.state().state
                _tell(keeper.state(), keeper.pids())
            await asyncio.sleep(0.05)
    _tell(keeper.state(), [])


if __name__ == "__main__":
    asyncio.run(own(*sys.argv[1:]))

"""A running vLLM asked by Recap's pool and by vLLM's own benchmark client, at the same concurrency, in turns.

    python -m benchmarks.served_vllm --url http://127.0.0.1:8000 --model MODEL --python .engines/vllm/bin/python

On a GPU this is the figure to look at: images a second beside what the engine's own client reaches. Both send the same
pictures with the same prompt and the same number of answer tokens, and let no answer end early. Prints each round and
the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from captioner.engines.pool import Pool, PoolSettings
from captioner.engines.replica import HttpReplica
from captioner.types import CaptionRequest, Picture, Sampling
from tests.corpora import picture

PROMPT = "Describe this image."
# vLLM's command line does not start from its CPU build; its benchmark does.
CLIENT = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


async def ours(given: argparse.Namespace, pictures: list[bytes]) -> float:
    """Requests a second through the pool."""
    requests = [
        CaptionRequest(
            images=(Picture(jpeg=jpeg, width=given.side, height=given.side),),
            prompt=PROMPT,
            sampling=Sampling(max_tokens=given.tokens),
            media_sha256=f"{number:064x}",
        )
        for number, jpeg in enumerate(pictures)
    ]
    settings = PoolSettings(first_window=given.concurrency, max_window=given.concurrency)
    async with Pool([HttpReplica(url=given.url, model=given.model)], settings) as pool:
        began = time.perf_counter()
        await asyncio.gather(*(pool.caption(each) for each in requests))
        return len(requests) / (time.perf_counter() - began)


def theirs(given: argparse.Namespace, folder: Path, root: str) -> float:
    """Requests a second by vLLM's own client."""
    words = [given.python, "-c", CLIENT, "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
    words += ["--base-url", given.url, "--model", root, "--served-model-name", given.model]
    words += ["--dataset-name", "custom_image", "--dataset-path", str(folder / "asked.jsonl"), "--disable-shuffle"]
    words += ["--custom-output-len", str(given.tokens), "--num-prompts", str(given.pictures)]
    words += ["--max-concurrency", str(given.concurrency), "--temperature", "0", "--num-warmups", "0"]
    words += ["--enable-multimodal-chat", "--custom-ensure-client-side-data"]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.search(r"Request throughput \(req/s\):\s+([\d.]+)", said.stdout)
    failed = re.search(r"Failed requests:\s+(\d+)", said.stdout)
    assert found and (failed is None or failed[1] == "0"), said.stdout[-2000:] + said.stderr[-2000:]
    return float(found[1])


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True, help="as it is served")
    parser.add_argument("--root", default="", help="its folder or hub id, where the served name is another")
    parser.add_argument("--python", required=True, help="of the environment that vLLM is installed in")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    pictures = [picture(number, given.side, given.side) for number in range(given.pictures)]
    with tempfile.TemporaryDirectory(prefix="recap-bench-") as name:
        folder, lines = Path(name), []
        for number, jpeg in enumerate(pictures):
            (folder / f"{number}.jpg").write_bytes(jpeg)
            lines.append(json.dumps({"prompt": PROMPT, "image_files": [str(folder / f"{number}.jpg")]}))
        (folder / "asked.jsonl").write_text("\n".join(lines) + "\n")
        asyncio.run(ours(given, pictures[: given.concurrency]))  # warm
        rounds = []
        for _ in range(given.rounds):
            rounds.append((theirs(given, folder, given.root or given.model), asyncio.run(ours(given, pictures))))
            print(f"vLLM's own client {rounds[-1][0]:.2f}/s, Recap's pool {rounds[-1][1]:.2f}/s", flush=True)
    own, pool = (statistics.median(each) for each in zip(*rounds, strict=True))
    what = f"{given.pictures} pictures of {given.side} px, {given.tokens} tokens, {given.concurrency} at once"
    print(f"{what}: {pool / own:.3f}")


if __name__ == "__main__":
    main()

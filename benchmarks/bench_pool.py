"""How near a pool of four replicas comes to the ideal list schedule, through real HTTP, beside what one would take.

    python benchmarks/bench_pool.py [--case NAME] [--clients pool,in-turn,least-loaded,openai]

Four stub servers of 64 slots in processes of their own, pictures of 120 KB, lognormal answer times (mean 1 s, sigma
0.6) that the request decides. The ideal hands each picture in turn to the slot that is free first and spends no time on
anything else. Prints the time from the first ask to the last answer over it (in brackets: over the ideal of one who
knows all answer times beforehand, and from the first answer on), what was lost, our CPU a request, the peak of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.stub_server import SLOTS, answer_seconds
from tests.stub_replicas import earliest_completion, list_schedule

HERE = Path(__file__).parent
Faults = dict[str, float]
FOUR: list[Faults] = [{}] * 4
CASES: dict[str, tuple[int, list[Faults]]] = {
    "equal": (4000, FOUR),
    "speeds 1, 1, 0.5, 2": (4000, [{"speed": speed} for speed in (1.0, 1.0, 0.5, 2.0)]),
    "one dies at 3 s": (1000, [*FOUR[:3], {"dies_at": 3.0}]),
    "one hangs at 3 s": (4000, [*FOUR[:3], {"hangs_at": 3.0}]),
    "2 % answer 500": (4000, [{"broken": 0.02, "salt": each} for each in range(4)]),
    "429 beyond 8 waiting": (4000, [{"most_waiting": 8}] * 4),
}
RUN_SECONDS = 300


def measured(client: str, count: int, faults: list[Faults]) -> dict[str, float]:
    """One client against fresh servers."""
    stub = [sys.executable, str(HERE / "stub_server.py")]
    servers = [subprocess.Popen([*stub, json.dumps(each)], stdout=subprocess.PIPE, text=True) for each in faults]
    try:
        ports = [server.stdout.readline().strip() for server in servers if server.stdout]
        command = [sys.executable, str(HERE / "pool_clients.py"), client, str(count), *ports]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=RUN_SECONDS)
        if os.environ.get("BENCH_BOOKS"):
            print(said.stderr)
        took: dict[str, float] = json.loads(said.stdout)
        return took
    finally:
        for server in servers:
            server.kill()
            server.wait()


def main() -> None:
    """Prints a line a case and client."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--clients", default="pool,in-turn,least-loaded,openai")
    arguments = parser.parse_args()
    for name, (count, faults) in CASES.items():
        if arguments.case not in name:
            continue
        seconds = [answer_seconds(number) for number in range(count)]
        speeds = [each.get("speed", 1.0) for each in faults]
        ideal, knowing = list_schedule(seconds, speeds, SLOTS), earliest_completion(seconds, speeds, SLOTS)
        print(f"{name}: {count} pictures, ideal list schedule {ideal:.1f} s, knowing all times {knowing:.1f} s")
        for client in arguments.clients.split(","):
            took = measured(client, count, faults)
            print(
                f"  {client:14} {took['seconds']:6.1f} s  ratio {took['seconds'] / ideal:5.2f}"
                f" ({took['seconds'] / knowing:.2f}, from the first answer {took['from_first_answer'] / ideal:.2f})"
                f"  lost {took['lost']:4.0f}"
                f"  CPU a request {took['cpu'] / count * 1e3:.2f} ms  peak {took['peak_mib']:.0f} MiB"
                f"  load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

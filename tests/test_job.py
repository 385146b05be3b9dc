"""`ray start --head` with a token, then `ray job submit`: the same corpus as a local run, sample for sample."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpora import make_shards
from tests.kills import answers
from tests.processes import ROOT, datacomp, recap, run

RAY = str(Path(sys.executable).parent / "ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A head of our own, under our own pid, that wants a token; its address and the environment to reach it."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "token").write_text(secrets.token_hex(32))
    dashboard = free_port()
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
        f"--port={free_port()}",
        "--node-ip-address=127.0.0.1",
    ]
    command += ["--include-dashboard=true", f"--dashboard-port={dashboard}", f"--temp-dir=/tmp/recap-ray-{os.getpid()}"]
    with open(folder / "log", "wb") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_until_it_answers(address, head)
        yield environment | {"RAY_API_SERVER_ADDRESS": address}
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=60)


def wait_until_it_answers(address: str, head: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert head.poll() is None, "the head died"
        try:
            urllib.request.urlopen(f"{address}/api/jobs/", timeout=5)
            raise AssertionError("the job API answers without a token")
        except urllib.error.HTTPError as error:
            assert error.code == 401
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the dashboard never answered")


def test_a_submitted_job_makes_the_same_corpus_as_a_local_run(tmp_path: Path, cluster: dict[str, str]) -> None:
    make_shards(tmp_path / "in", 3, 20)
    options = ("--fake.looping", "0.2", "--fake.refused", "0.1")
    assert run(*datacomp(tmp_path / "in", tmp_path / "local", *options)).returncode == 1  # refused samples failed
    script = ["python", "pipelines/recap_datacomp.py", *datacomp(tmp_path / "in", tmp_path / "job", *options)[2:]]
    submitted = submit(script, cluster)
    # The job API tells of an exit code other than 0 as a failed job; ours is 1, for the samples that failed.
    assert "status: FAILED" in submitted.stdout + submitted.stderr or "exit code 1" in submitted.stdout
    assert "(Ray: auto)" in submitted.stdout, "it runs on the cluster that it was submitted to"
    assert "done: manifests/000001.json" in submitted.stdout, submitted.stdout[-3000:]
    assert recap("verify", str(tmp_path / "job")).returncode == 1
    assert answers(tmp_path / "job") == answers(tmp_path / "local")
    assert sum(answers(tmp_path / "job").values()) == 60


def submit(script: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`ray job submit`, again while the head's agent is not there yet."""
    command = [RAY, "job", "submit", "--working-dir", ".", "--", *script]
    for _ in range(10):
        submitted = run(*command, cwd=ROOT, env=environment, timeout=240)
        if "No available agent" not in submitted.stdout + submitted.stderr:
            return submitted
        time.sleep(3)
    return submitted

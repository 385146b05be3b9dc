"""Whole runs on a real local Ray, started as a user starts them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from captioner.errors import OutOfService
from pipelines.actors import ray_cluster
from shards import commits, manifest
from shards.store import Store
from tests.corpora import make_shards
from tests.processes import all_gone, datacomp, descendants, recap, run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over three shards of twenty, which asked for more workers than any machine has CPUs."""
    folder = tmp_path_factory.mktemp("run")
    make_shards(folder / "in", 3, 20)
    finished = run(*datacomp(folder / "in", folder / "out", "--pace.workers", "9999"))
    assert finished.returncode == 0, finished.stderr
    (folder / "said").write_text(finished.stderr)
    return folder


def test_workers_that_no_cpu_is_there_for_are_told_of_and_not_waited_for(corpus: Path) -> None:
    # Each of them was once asked to stop, and 20 s were waited for an answer.
    assert "workers wait for CPUs, one each: asked=9999" in (corpus / "said").read_text()


def test_a_run_ends_with_a_manifest_that_verifies(corpus: Path) -> None:
    verified = recap("verify", str(corpus / "out"), "--json")
    verdict = json.loads(verified.stdout)
    assert verified.returncode == 0 and not verdict["problems"] and not verdict["notes"]
    assert verdict["totals"]["counts"] == {
        "read": 60, "captioned": 51, "filtered": 3, "unreadable": 6, "rejected": 0, "failed": 0,
    }  # fmt: skip
    newest = manifest.latest(Store(str(corpus / "out")))
    assert newest is not None and newest.complete and newest.number == 1


def test_a_finished_run_has_its_card_and_nothing_but_what_the_contract_names(corpus: Path) -> None:
    names = {name.split("/")[0] for name in Store(str(corpus / "out")).names()}
    assert names == {"plan.json", "data", "commits", "manifests", "README.md", "croissant.json"}
    assert json.loads((corpus / "out/croissant.json").read_text())["conformsTo"].endswith("croissant/1.0")
    assert "| captioned | 51 |" in (corpus / "out/README.md").read_text()


def test_the_run_id_is_the_hash_of_the_plan_as_it_stands(corpus: Path) -> None:
    import hashlib

    run_id = hashlib.sha256((corpus / "out/plan.json").read_bytes()).hexdigest()
    assert json.loads((corpus / "out/commits/00000.json").read_text())["plan"] == run_id
    assert json.loads(recap("status", str(corpus / "out"), "--json").stdout)["run_id"] == run_id


def test_the_same_command_on_a_finished_run_changes_nothing(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (corpus / "out").rglob("*") if path.is_file()}
    again = run(*datacomp(corpus / "in", corpus / "out"))
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (corpus / "out").rglob("*") if path.is_file()} == before


def test_a_changed_recipe_is_refused_with_exit_2_and_the_field(corpus: Path) -> None:
    refused = run(*datacomp(corpus / "in", corpus / "out", "--resolution.more-than", "400"))
    assert refused.returncode == 2
    assert "recipe.screens.resolution.settings.more_than: there 512, asked 400" in refused.stderr


def test_another_pace_resumes_the_same_run(corpus: Path) -> None:
    assert run(*datacomp(corpus / "in", corpus / "out", "--pace.slots", "3")).returncode == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--input", "/nowhere/at/all"), "a folder of tars, a glob"),
        (("--input", "/nowhere/shards.txt"), "is no list file"),
        (("--limit", "0"), "give 1 or more"),
        (("--engine", "nobody"), "no 'nobody' here; there is experts, fake"),
        (("--pace.open-shards", "0"), "1 or more would be right"),
        (("--without", "lenght"), "cannot leave out 'lenght'; there is"),
        (("--aspect.at-most", "0.5"), "at_most"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would_be_right(
    corpus: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    refused = run(*datacomp(corpus / "in", tmp_path / "out", *options))
    assert refused.returncode == 2, refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_damaged_record_is_corrupt_state_and_is_never_silently_redone(corpus: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", str(corpus / "out"), str(tmp_path / "out")], check=True)
    record = tmp_path / "out/commits/00001.json"
    record.write_bytes(record.read_bytes().replace(b'"captioned":17', b'"captioned":18'))
    verified = recap("verify", str(tmp_path / "out"))
    assert verified.returncode == 4
    assert "commits/00001.json" in verified.stdout
    again = run(*datacomp(corpus / "in", tmp_path / "out"))
    assert again.returncode == 4 and "corrupt_state: commits/00001.json" in again.stderr


def test_limit_captions_so_many_samples_and_verifies(corpus: Path, tmp_path: Path) -> None:
    trial = run(*datacomp(corpus / "in", tmp_path / "out", "--limit", "25"))
    assert trial.returncode == 0, trial.stderr
    verdict = json.loads(recap("verify", str(tmp_path / "out"), "--json").stdout)
    assert verdict["totals"]["counts"]["read"] == 25 and not verdict["problems"]


def test_an_empty_shard_is_committed_as_such_and_the_run_says_completed_with_errors(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "in", 1, 4)
    (folder / "00001.tar").write_bytes(b"")
    (folder / "00002.tar").write_bytes(b"<html>503 Slow down</html>" * 100)
    finished = run(*datacomp(folder, tmp_path / "out"))
    assert finished.returncode == 1, finished.stderr
    reasons = [commits.read(Store(str(tmp_path / "out")), f"0000{number}") for number in range(3)]
    assert [record.reason for record in reasons if record] == [None, "empty_shard", "not_a_tar"]
    assert recap("verify", str(tmp_path / "out")).returncode == 1


def test_a_shard_that_breaks_our_own_code_is_reported_and_nothing_else_is_lost(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "in", 4, 20)
    # So small a share that, by their hashes, one sample of these is one on which the engine breaks.
    broken = run(*datacomp(folder, tmp_path / "out", "--fake.buggy", "0.008", "--pace.workers", "1"))
    assert broken.returncode == 1, broken.stderr
    told = json.loads(recap("status", str(tmp_path / "out"), "--json").stdout)
    failed = [line for line in broken.stderr.splitlines() if line.startswith("failed ")]
    assert len(failed) == 1 and told["committed"] == 3
    assert "told to break here" in failed[0]
    newest = manifest.latest(Store(str(tmp_path / "out")))
    assert newest is not None and not newest.complete and len(newest.shards) == told["committed"]
    assert recap("verify", str(tmp_path / "out")).returncode == 1


def test_three_broken_shards_in_a_row_stop_the_run(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "in", 8, 4)
    stopped = run(*datacomp(folder, tmp_path / "out", "--fake.buggy", "1", "--pace.workers", "1"))
    assert stopped.returncode == 3
    assert "3 shards in a row broke our own code" in stopped.stderr
    assert not list((tmp_path / "out").glob("commits/*"))


def test_sigterm_gives_work_back_leaves_no_process_and_the_same_command_finishes(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "in", 2, 40)
    command = datacomp(folder, tmp_path / "out", "--fake.seconds", "0.5", "--pace.slots", "2", "--pace.workers", "1")
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").glob("journal/*/*")):
        time.sleep(0.2)
        assert started.poll() is None
    family = list(descendants(started.pid))
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=40)
    assert started.returncode == 0 and "the same command goes on" in said
    assert all_gone(family, 10)
    assert json.loads(recap("status", str(tmp_path / "out"), "--json").stdout)["complete"] is False
    assert run(*command, "--pace.slots", "64").returncode == 0
    assert recap("verify", str(tmp_path / "out")).returncode == 0


IMPATIENT = """
import sys
from pipelines import cli
from pipelines.recap_datacomp import DATACOMP
cli.ALONE_SECONDS = 0.0
sys.exit(cli.main(DATACOMP, sys.argv[1:]))
"""


def impatient(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", IMPATIENT, *arguments)


def test_ray_that_started_beside_a_long_listing_is_the_runs_own_and_goes_with_it(tmp_path: Path) -> None:
    make_shards(tmp_path / "in", 1, 10)
    finished = impatient("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--engine", "fake")
    assert finished.returncode == 0, finished.stderr
    assert recap("verify", str(tmp_path / "out")).returncode == 0


def test_a_listing_that_ends_in_a_refusal_says_so_although_ray_started_beside_it(tmp_path: Path) -> None:
    refused = impatient("--input", str(tmp_path / "nothing"), "--output", str(tmp_path / "out"), "--engine", "fake")
    assert refused.returncode == 2 and "Refused" in refused.stderr, refused.stderr


def test_who_does_not_get_into_a_cluster_hears_of_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**options: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")  # all that Ray says without one

    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(OutOfService, match="RAY_AUTH_TOKEN_PATH"), ray_cluster("127.0.0.1:6379"):
        pass

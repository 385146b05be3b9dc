"""`recap download` as a command: refusals, stalls, kills and resumes, with a stand-in for img2dataset.

The real one runs in tests/engines/test_url_lists.py; what cannot be had from it at will is had here.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from captioner.errors import PlanMismatch, Refused
from pipelines.cli import recap
from pipelines.downloading import DownloadCommand
from pipelines.urls.environment import VERSION
from pipelines.urls.fetch import Bounded
from shards import downloads
from shards.finding import find
from shards.store import Store
from tests.img2dataset_stand_in import python
from tests.processes import ROOT, all_gone, descendants, kill


@pytest.fixture
def list_(tmp_path: Path) -> Path:
    """Nine URLs, three a shard; the fifth times out whenever it is asked."""
    path = tmp_path / "list.csv"
    urls = [f"https://a.example/{'bad' if at == 4 else 'good'}/{at}" for at in range(9)]
    path.write_text("uid,url,text\n" + "".join(f"{at:03d},{url},alt {at}\n" for at, url in enumerate(urls)))
    return path


def download(list_: Path, behaviour: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """The command in this process: its exit code, and what it prints as JSON."""
    places = {"list": str(list_), "to": str(list_.parent / "out"), "scratch": str(list_.parent / "scratch")}
    given = {"samples_a_shard": 3, "processes": 1, **places, **options}
    command = DownloadCommand(img2dataset_python=python(list_.parent, behaviour), json=True, **given)
    printed, sys.stdout = sys.stdout, io.StringIO()
    try:
        return command.run(Console(file=io.StringIO())), json.loads(sys.stdout.getvalue())
    finally:
        sys.stdout = printed


def words(list_: Path, behaviour: str) -> list[str]:
    """The command as a process of its own."""
    options = ["--to", str(list_.parent / "out"), "--samples-a-shard", "3", "--scratch", str(list_.parent / "scratch")]
    options += ["--img2dataset-python", python(list_.parent, behaviour)]
    return [sys.executable, "-m", "pipelines", "download", str(list_), *options]


def under_way(list_: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A download that stands still after its first shard, and its processes."""
    started = subprocess.Popen(
        words(list_, "stall"), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while downloads.whole(Store(str(list_.parent / "out"))) != {0}:
        assert started.poll() is None and time.monotonic() < deadline, started.communicate()
        time.sleep(0.05)
    found = list(descendants(started.pid))
    assert len(found) >= 4  # two wardens, the stand-in, and what it forked
    return started, found


def scratch(list_: Path) -> list[str]:
    """Folders left where shards are made."""
    return [path.name for path in (list_.parent / "scratch").iterdir() if path.is_dir()]


@contextmanager
def moving_until_the_first_shard(list_: Path) -> Iterator[None]:
    """Something moves from the start on, however long a busy machine takes to start the stand-in."""
    over = threading.Event()

    def move() -> None:
        while not over.wait(0.05) and not (list_.parent / "out/00000_stats.json").exists():
            for order in (list_.parent / "scratch").glob("*/order.json"):
                with suppress(FileNotFoundError), (order.parent / "made/beat").open("a") as beat:
                    beat.write("x")

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_run_in_which_nothing_moves_ends_with_exit_3_and_the_same_command_goes_on(
    list_: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with moving_until_the_first_shard(list_):
        code, told = download(list_, "stall", stalled_minutes=0.02, timeout=0.5)
    assert (code, told["ended"], told["downloaded"], told["left"]) == (3, "stalled", 3, 6)
    assert "nothing moved for 0.02 minutes; the same command goes on" in capsys.readouterr().err
    first = (list_.parent / "out/00000.tar").read_bytes()
    assert not (list_.parent / "out/00009.tar").exists() and not scratch(list_)
    code, told = download(list_, "whole")
    assert (code, told["ended"], told["downloaded"], told["failed"], told["left"]) == (
        1,
        "complete",
        8,
        {"timed_out": 1},
        0,
    )
    assert (list_.parent / "out/00000.tar").read_bytes() == first
    with pytest.raises(PlanMismatch, match="samples_a_shard: there 3, asked 4"):
        download(list_, "whole", samples_a_shard=4)
    list_.write_text(list_.read_text() + "009,https://a.example/good/9,alt 9\n")
    with pytest.raises(PlanMismatch, match="sha256"):
        download(list_, "whole")


def test_where_img2dataset_ends_too_early_its_last_words_are_shown_and_an_object_store_goes_on_as_well(
    list_: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(f"{bucket}/lists").create("part.csv", list_.read_bytes())
    there = {"list": f"{bucket}/lists/part.csv", "to": f"{bucket}/urls"}
    code, told = download(list_, "break", **there)
    assert (code, told["ended"], told["downloaded"], told["left"]) == (3, "broke", 3, 6)
    assert "no space left, says the stand-in" in capsys.readouterr().err
    assert not [name for name in Store(f"{bucket}/urls").names() if name.startswith("00001")]
    code, told = download(list_, "whole", **there)
    assert (code, told["ended"], told["downloaded"], told["left"]) == (1, "complete", 8, 0)
    found = [each.url.rpartition("/")[2] for each in find(f"{bucket}/urls") if each.url.endswith(".tar")]
    assert found == ["00000.tar", "00001.tar", "00002.tar"]


def test_sigterm_ends_it_in_order_and_leaves_no_process(list_: Path) -> None:
    started, family = under_way(list_)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 1 and "stopped: the same command goes on" in said, said
    assert all_gone(family, 0.5) and not scratch(list_)


def test_a_killed_one_leaves_no_process_and_the_same_command_goes_on(list_: Path) -> None:
    started, family = under_way(list_)
    with pytest.raises(Refused, match="runs on this machine already"):
        download(list_, "whole")
    kill(started.pid)
    started.communicate(timeout=60)
    assert all_gone(family, 30)
    assert scratch(list_)
    code, told = download(list_, "whole")
    assert (code, told["downloaded"], told["left"], told["missing"], told["doubled"]) == (1, 8, 0, 0, 0)
    assert not scratch(list_)


def test_without_img2dataset_the_refusal_says_what_to_type_and_help_names_the_folder(
    list_: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(list_.parent))
    assert recap(["download", str(list_), "--to", str(list_.parent / "out")]) == 2
    said = capsys.readouterr().err
    assert "--install puts it into" in said and "--img2dataset-python PATH/bin/python" in said
    assert f"{list_.parent}/.cache/recap/img2dataset-{VERSION}" in said
    assert not (list_.parent / "out").exists()
    with pytest.raises(SystemExit):
        recap(["download", "--help"])
    assert f"~/.cache/recap/img2dataset-{VERSION}" in capsys.readouterr().out


def test_a_list_refused_in_its_middle_leaves_nothing_that_would_refuse_the_mended_one(list_: Path) -> None:
    whole = list_.read_text()
    (list_.parent / "lists").mkdir()
    (list_.parent / "lists/a.csv").write_text(whole)
    (list_.parent / "lists/b.csv").write_text("url\nhttps://a.example/good/9\n")
    with pytest.raises(Refused, match=r"b\.csv has other columns"):
        download(list_, "whole", list=str(list_.parent / "lists"))
    assert not Store(str(list_.parent / "out")).names()


def test_another_version_or_no_interpreter_is_refused(tmp_path: Path, list_: Path) -> None:
    for program, said in (
        (python(tmp_path, "whole", "1.30.0"), "has img2dataset 1.30.0"),
        ("/nowhere/python", "not run"),
    ):
        command = DownloadCommand(list=str(list_), to=str(tmp_path / "out"), img2dataset_python=program)
        with pytest.raises(Refused, match=said):
            command.run(Console())


def test_a_shard_whose_urls_all_time_out_has_not_stalled() -> None:
    waiting: dict[str, Any] = {"list": "list.csv", "to": "out", "threads": 8, "timeout": 60.0}
    assert DownloadCommand(**waiting, stalled_minutes=1).stalled_seconds == 13 * 60
    assert DownloadCommand(**waiting, stalled_minutes=20).stalled_seconds == 20 * 60


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"samples_a_shard": 0}, "--samples-a-shard 0"),
        ({"timeout": float("nan")}, "--timeout nan"),
        ({"max_bytes": 2**40}, "--max-bytes"),
        ({"user_agent_token": " "}, "--user-agent-token"),
    ],
)
def test_settings_that_cannot_be_are_refused(list_: Path, option: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        download(list_, "whole", **option)


def test_an_answer_is_read_up_to_its_time_and_its_bytes() -> None:
    assert io.BufferedReader(Bounded(io.BytesIO(b"x" * 1000), 60, 1000)).read() == b"x" * 1000
    with pytest.raises(OSError, match="answer of over 999 bytes"):
        io.BufferedReader(Bounded(io.BytesIO(b"x" * 1000), 60, 999)).read()
    with pytest.raises(TimeoutError, match="no whole answer within -1 s"):
        io.BufferedReader(Bounded(io.BytesIO(b"x"), -1, 10)).read()

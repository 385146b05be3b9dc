"""img2dataset itself: a real list, a real server with every kind of URL, kills, resumes, second tries, and a run."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from captioner.registry import build
from pipelines.recap_datacomp import DATACOMP
from pipelines.recap_laion import LAION
from shards import downloads
from shards.finding import find
from shards.sources import SOURCES
from shards.store import Store, open_blob
from tests.corpora import picture
from tests.engines.install import DOWNLOADER, python
from tests.engines.runs import rows as ledger_rows
from tests.processes import ROOT, all_gone, datacomp, descendants, kill, run

GOOD = 40
A_SHARD = 10
TIMEOUT = 5
HOLD_SECONDS = 120
NO_PICTURE = b"<html>This picture has moved.</html>"


class Site(http.server.ThreadingHTTPServer):
    """A server on loopback; how it answers, the path says.

    mended: `flaky` URLs work from then on. over: nobody waits for answers any more.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked, self.agents, self.lock = Counter[str](), set[str](), threading.Lock()
        self.mended, self.over = threading.Event(), threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Page(http.server.BaseHTTPRequestHandler):
    """One answer."""

    server: Site

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        kind, _, number = self.path.strip("/").partition("/")
        with self.server.lock:
            self.server.asked[self.path] += 1
            self.server.agents.add(self.headers["User-Agent"])
        answers = {
            "good": lambda: self.give(picture(int(number))),
            "slow": lambda: (time.sleep(1), self.give(picture(int(number)))),
            "flaky": lambda: self.give(picture(int(number))) if self.server.mended.is_set() else self.send_error(500),
            "busy": lambda: self.send_error(429),
            "corrupt": lambda: self.give(NO_PICTURE),
            "noai": lambda: self.give(picture(0), {"X-Robots-Tag": "noai"}),
            "large": lambda: self.give(b"x" * 300_000),
            "cut": lambda: self.give(picture(0)[:100], {"Content-Length": "5000"}),
            "trickle": self.trickle,
            "never": lambda: self.server.over.wait(HOLD_SECONDS),
        }
        answers.get(kind, lambda: self.send_error(404))()

    def give(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def trickle(self) -> None:
        """A byte each half second: no silence ever lasts long enough for img2dataset's own time-out."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.server.over.wait(0.5):
            try:
                self.wfile.write(b"x")
            except OSError:
                return


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site
        site.over.set()
        site.shutdown()
        thread.join()


BAD = {  # path: the reason that its row gets
    "missing/0": "gone", "noai/0": "opted_out", "large/0": "too_large", "cut/0": "reset", "trickle/0": "timed_out",
    "never/0": "timed_out", "flaky/50": "server_error", "busy/0": "busy",
}  # fmt: skip
ELSEWHERE = {"file:///etc/hostname": "bad_url", "http://127.0.0.1:1/closed.jpg": "unreachable", "": "bad_url"}


def written(site: Site, path: Path) -> list[str]:
    """A list like DataComp's, its URLs: good ones first, then two slow ones, a page that is no picture, bad ones."""
    paths = [*(f"good/{at}" for at in range(GOOD)), "slow/60", "slow/61", "corrupt/0", *BAD]
    urls = [*map(site.url, paths), *ELSEWHERE]
    many = len(urls)
    columns = {
        "uid": [f"{at:032x}" for at in range(many)],
        "url": urls,
        "text": [f"alt text {at}" for at in range(many)],
        "original_width": [540] * many,
        "clip_b32_similarity_score": [0.25] * many,
        "clip_l14_similarity_score": [0.25 if at % 2 else float("nan") for at in range(many)],
        "face_bboxes": [[[0.1, 0.2, 0.3, 0.4]]] * many,
    }
    pq.write_table(pa.table(columns), path)
    return urls


def words(list_: Path, out: Path, *options: str) -> list[str]:
    """The command."""
    given = ["--to", str(out), "--samples-a-shard", str(A_SHARD), "--timeout", str(TIMEOUT), "--max-bytes", "200000"]
    given += ["--processes", "2", "--threads", "4", "--img2dataset-python", python(DOWNLOADER)]
    given += ["--scratch", str(out.parent / "scratch")]
    return [sys.executable, "-m", "pipelines", "download", str(list_), *given, *options]


def told(*command: str) -> tuple[int, dict[str, Any]]:
    """To its end: exit code and account."""
    done = run(*command, "--json", timeout=600, cwd=ROOT)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_url_of_a_list_is_downloaded_or_failed_for_its_reason_through_kills_and_second_tries(
    site: Site, tmp_path: Path
) -> None:
    list_, out = tmp_path / "list.parquet", tmp_path / "out"
    urls = written(site, list_)

    # Killed outright in the middle: nothing of it lives on, and what was whole stays as it is.
    started = subprocess.Popen(words(list_, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _until(lambda: bool(downloads.whole(Store(str(out)))), started)
    family = list(descendants(started.pid))
    kill(started.pid)
    started.wait()
    assert len(family) >= 5 and all_gone(family, 30)  # two wardens, img2dataset, its logger, its workers
    there = {path.name: path.read_bytes() for path in out.glob("0*") if path.name[:5] in _whole(out)}
    assert 3 <= len(there) < 18, there.keys()

    # The same command goes on, and stops in order when asked to; then it goes on to the end.
    started = subprocess.Popen(
        words(list_, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    _until(lambda: len(descendants(started.pid)) >= 5, started)
    family = list(descendants(started.pid))
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 1 and "stopped: the same command goes on" in said and all_gone(family, 1)
    code, account = told(*words(list_, out))
    expected = Counter([*BAD.values(), *ELSEWHERE.values()])
    assert code == 1 and account["ended"] == "complete"
    assert account["failed"] == dict(expected)
    assert account["downloaded"] == GOOD + 3 and account["listed"] == len(urls)
    assert account["left"] == account["missing"] == account["doubled"] == 0
    assert {name: (out / name).read_bytes() for name in there} == there

    # Of what failed, that which passes is tried once more, as further shards; the flaky one is there now.
    shards = account["shards"]
    before = Counter(site.asked)
    site.mended.set()
    code, account = told(*words(list_, out, "--again"))
    passing = expected["timed_out"] + expected["server_error"] + expected["busy"] + expected["reset"]
    assert code == 1 and account["shards"] == shards + 1
    assert site.asked.total() - before.total() == passing  # "unreachable" is tried too, but nobody listens there
    assert account["downloaded"] == GOOD + 4 and account["failed"] == dict(expected - Counter(["server_error"]))
    assert account["doubled"] == account["missing"] == 0
    assert all("recap" in agent for agent in site.agents)

    _is_what_the_server_gave(out, urls)
    _is_read_by_datacomps_and_laions_scripts(out, urls)
    _becomes_a_corpus(out, tmp_path / "corpus")


def test_a_worker_that_the_system_kills_leaves_a_stall_that_is_ended_and_the_same_command_goes_on(
    site: Site, tmp_path: Path
) -> None:
    list_, out = tmp_path / "list.txt", tmp_path / "out"
    list_.write_text("\n".join(site.url(f"never/{at}") for at in range(3)) + "\n")
    command = words(list_, out, "--threads", "50", "--stalled-minutes", "0.2")
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _until(lambda: _holding("made/00000.tar", started.pid), started)
    family = list(descendants(started.pid))
    assert kill(_holding("made/00000.tar", started.pid)[0])
    _, said = started.communicate(timeout=300)
    assert started.returncode == 3 and "nothing moved for 0.2 minutes" in said and all_gone(family, 1)
    code, account = told(*command)
    assert (code, account["failed"], account["left"]) == (1, {"timed_out": 3}, 0)


def test_with_verify_sha256_a_picture_that_changed_since_the_list_was_made_is_left_out(
    site: Site, tmp_path: Path
) -> None:
    list_, out = tmp_path / "list.jsonl", tmp_path / "out"
    hashes = [hashlib.sha256(picture(at)).hexdigest() for at in (0, 1, 9)]
    rows = [{"URL": site.url(f"good/{at}"), "TEXT": f"alt {at}", "sha256": sha256} for at, sha256 in enumerate(hashes)]
    list_.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"sha256": hashes[0].upper()}]))
    code, account = told(*words(list_, out, "--verify-sha256"))
    assert (code, account["downloaded"], account["failed"]) == (1, 3, {"changed": 1})
    assert sorted(each.meta["sha256"] for each in _samples(out, LAION)) == sorted([hashes[0], *hashes[:2]])


def _holding(name: str, pid: int) -> list[int]:
    """The processes below pid that have a file of such a name open."""
    found = []
    for each in descendants(pid):
        with suppress(OSError):
            links = [os.readlink(link) for link in Path(f"/proc/{each}/fd").iterdir()]
            found += [each] if any(link.endswith(name) for link in links) else []
    return found


def _until(come: Any, started: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 300
    while not come():
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def _whole(out: Path) -> set[str]:
    return {f"{shard:05d}" for shard in downloads.whole(Store(str(out)))}


def _samples(out: Path, dataset: Any) -> list[Any]:
    """What a script's source reads."""
    source: Any = build(SOURCES, dataset.source.name, dataset.source.settings)
    return [sample for shard in source.plan(find(str(out))) for sample in source.read(shard, open_blob)]


def _is_what_the_server_gave(out: Path, urls: list[str]) -> None:
    """Every stored picture is the server's, byte for byte, and its sha256 stands beside it."""
    for sample in _samples(out, DATACOMP):
        kind, number = sample.meta["url"].rsplit("/", 2)[-2:]
        expected = NO_PICTURE if kind == "corrupt" else picture(int(number))
        assert sample.media == expected
        assert sample.meta["sha256"] == hashlib.sha256(expected).hexdigest()
        assert urls[int(sample.meta["uid"], 16)] == sample.meta["url"]


def _is_read_by_datacomps_and_laions_scripts(out: Path, urls: list[str]) -> None:
    for dataset in (DATACOMP, LAION):
        samples = _samples(out, dataset)
        assert len(samples) == GOOD + 4 and len({sample.key for sample in samples}) == len(samples)
        for sample in samples:
            at = int(sample.meta["uid"], 16)
            assert not sample.flags and sample.meta["caption"] == f"alt text {at}"
            assert sample.meta["sidecar"]["list_row"] == at and sample.meta["sidecar"]["listed_original_width"] == 540
            assert sample.meta["sidecar"]["face_bboxes"] == [[0.1, 0.2, 0.3, 0.4]]
    for sample in _samples(out, DATACOMP):
        at = int(sample.meta["uid"], 16)
        assert sample.meta["clip_b32_similarity_score"] == 0.25
        assert sample.meta.get("similarity") == (0.25 if at % 2 else None)


def _becomes_a_corpus(out: Path, corpus: Path) -> None:
    """recap_datacomp.py itself, with a floor that the scores of the odd rows are below; the even ones have none."""
    done = run(*datacomp(out, corpus, "--pace.workers", "1", "--scores.min-similarity", "0.26"), timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = ledger_rows(corpus)
    odd = GOOD // 2 + 2  # of the good ones, and one slow and the flaky one
    assert Counter((row.outcome, row.reason) for row in rows.values()) == {
        ("captioned", None): GOOD // 2 + 1, ("filtered", "low_similarity"): odd, ("unreadable", "undecodable"): 1,
    }  # fmt: skip
    assert all((row.original_caption or "").startswith("alt text ") and row.url for row in rows.values())

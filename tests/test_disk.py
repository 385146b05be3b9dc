"""What goes wrong with a disk, a clock or a second run: cases 52 to 56 of the fault table."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.errors import OutOfService, PlanMismatch, Refused
from shards import commits, durable, manifest
from shards import plan as plans
from shards.corpus import ShardFiles
from shards.spool import spooled
from shards.store import Store
from shards.verify import verify
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.kills import answers
from tests.processes import datacomp, run
from tests.test_faults import record

FAILURES = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_a_run_that_goes_on_where_it_was_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    """Case 52."""
    recipe, out = fake_recipe(), small_disk / "out"
    plan = planned(recipe, make_shards(tmp_path / "in", 3, 30))  # about 1.2 MB of captioned media
    with pytest.raises(OutOfService, match="No space left on device"):
        run_here(recipe, plan, out)
    store = Store(str(out))
    before = {record.shard: record.sha256 for record in commits.read_all(store, commits.committed(store))}
    assert 0 < len(before) < 3 and not verify(store).problems
    assert len(store.names("data/")) == 2 * len(before)
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    run_here(recipe, plan, out)
    after = {record.shard: record.sha256 for record in commits.read_all(store, commits.committed(store))}
    assert before.items() <= after.items()
    assert verify(store).complete and not verify(store).problems


def test_a_node_without_room_for_scratch_is_out_of_service_and_no_fault_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 52; where every temporary folder is full there is none, says Python."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutOfService, match="scratch for captioned media"):
        ShardFiles(store=Store(str(tmp_path / "out")), shard="a", attempt="b")
    with pytest.raises(OutOfService, match="scratch for a large member"):
        spooled([b"clip"])


def test_a_disk_without_room_for_a_plan_ends_the_command_with_exit_3(small_disk: Path, tmp_path: Path) -> None:
    """Case 52."""
    with contextlib.suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    stopped = run(*datacomp(make_shards(tmp_path / "in", 1, 5), small_disk / "out"))
    assert stopped.returncode == 3, stopped.stderr
    assert "No space left on device" in stopped.stderr and "Traceback" not in stopped.stderr


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int, at: int) -> list[int]:
    """Let the at-th call of an os function fail; the calls so far."""
    real, calls = getattr(os, name), []

    def call(*arguments: object, **options: object) -> object:
        calls.append(len(calls))
        if len(calls) - 1 == at:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(durable.os, name, call)
    return calls


@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["fsync", "link"])
def test_whatever_fails_on_the_way_to_a_record_it_is_not_there_and_the_next_try_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:  # cases 52, 53
    for at in range(20):
        store = Store(str(tmp_path / f"{number}-{at}"))
        with monkeypatch.context() as patch:
            calls = failing(patch, name, number, at)
            try:
                verdict = commits.commit(store, record("a" * 32))
            except OutOfService as error:
                assert os.strerror(number) in str(error)
            else:
                assert verdict == "committed" and at >= len(calls) > 0
                return
        assert commits.committed(store) == set() and store.names() == []
        assert commits.commit(store, record("b" * 32)) == "committed"
    raise AssertionError("twenty failures and no end")


def test_a_file_whose_fsync_failed_is_never_synced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 53: the next attempt writes other files, and the failed one's bytes are named nowhere."""
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 1, 10))
    run_here(recipe, plan, tmp_path / "undisturbed")
    with monkeypatch.context() as patch, pytest.raises(OutOfService):
        patch.setattr(durable.os, "fsync", _failing_for_tars)
        run_here(recipe, plan, tmp_path / "out")
    assert [name for name in Store(str(tmp_path / "out")).names() if name.startswith(("data", "commits"))] == []
    run_here(recipe, plan, tmp_path / "out")
    assert answers(tmp_path / "out") == answers(tmp_path / "undisturbed")
    assert len(Store(str(tmp_path / "out")).names("data/")) == 2


_real_fsync = os.fsync


def _failing_for_tars(descriptor: int) -> None:
    if os.fstat(descriptor).st_size > 50_000:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _real_fsync(descriptor)


def test_a_disk_without_hard_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # case 51
    failing(monkeypatch, "link", errno.EPERM, 0)
    with pytest.raises(Refused, match="no hard links"):
        Store(str(tmp_path)).create("a", b"1")


class Power:
    """Notes what is durable at each moment: bytes once their file was synced, names once their folder was."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.bytes_safe: set[int] = set()
        self.names_safe: set[Path] = set()
        self.linked: dict[Path, int] = {}
        self.wrong: list[str] = []
        self._fsync, self._link = os.fsync, os.link
        patch.setattr(durable.os, "fsync", self.fsync)
        patch.setattr(durable.os, "link", self.link)

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self.names_safe |= set(path.iterdir())
        else:
            self.bytes_safe.add(os.fstat(descriptor).st_ino)

    def link(self, source: object, target: Path, **options: object) -> None:
        self._link(source, target, **options)  # type: ignore[arg-type]
        self.linked[target] = os.stat(target).st_ino
        self.judge(target)

    def judge(self, new: Path) -> None:
        """From here on a power cut may leave the new name behind: all that it stands for must be safe already."""
        if os.stat(new).st_ino not in self.bytes_safe:
            self.wrong.append(f"{new} has its name before its bytes")
        if new.parent.name == "commits":
            out = new.parent.parent
            needed = [out / file.name for file in commits.decode(new.read_bytes(), new.name).files]
            needed += [out / plans.NAME]
        elif new.parent.name == "manifests":
            needed = list((new.parent.parent / "commits").iterdir())
        else:
            return
        for path in needed:
            folders = [path, path.parent]
            if os.stat(path).st_ino not in self.bytes_safe or not set(folders) <= self.names_safe:
                self.wrong.append(f"{new} may outlive {path}")


def test_a_power_cut_after_any_call_leaves_no_record_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # case 54
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 2, 10))
    monkeypatch.setattr(durable, "_safe", set())
    power = Power(monkeypatch)
    run_here(recipe, plan, tmp_path / "out")
    assert power.wrong == []
    assert len([path for path in power.linked if path.parent.name == "commits"]) == 2
    assert tmp_path / "out/manifests/000001.json" in power.linked and set(power.linked) <= power.names_safe


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_jumps_a_day_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:  # case 55
    recipe = fake_recipe()
    plan = planned(recipe, make_shards(tmp_path / "in", 2, 10))
    run_here(recipe, plan, tmp_path / "out", shards=["00000"])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    store = Store(str(tmp_path / "out"))
    first = commits.read(store, "00000")
    assert first is not None
    assert commits.commit(store, record("f" * 32, epoch=int(time.time()))) == "lost"
    run_here(recipe, plan, tmp_path / "out")
    assert commits.read(store, "00000") == first
    assert verify(store).complete and not verify(store).problems


def test_two_attempts_at_every_shard_leave_one_record_and_no_file_of_the_losers(tmp_path: Path) -> None:  # cases 50, 55
    recipe = fake_recipe(seconds=0.01)
    plan = planned(recipe, make_shards(tmp_path / "in", 3, 20))
    done: list[str] = []

    def work() -> None:
        done.extend(each.verdict for each in run_here(recipe, plan, tmp_path / "out"))

    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    store = Store(str(tmp_path / "out"))
    assert sorted(done) == ["committed"] * 3 + ["lost"] * 3
    assert len(store.names("data/")) == 6 and store.names("journal/") == []
    assert verify(store).complete and not verify(store).problems


def test_two_runs_at_once_on_one_output_end_well_and_a_run_of_another_plan_is_refused(
    tmp_path: Path,
) -> None:  # case 55
    source, out = make_shards(tmp_path / "in", 4, 30), tmp_path / "out"
    command = datacomp(source, out, "--fake.seconds", "0.1", "--pace.slots", "2", "--pace.workers", "1")
    runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        while not (out / "plan.json").exists():
            assert all(each.poll() is None for each in runs)
            time.sleep(0.1)
        other = run(*datacomp(source, out, "--resolution.more-than", "400"))
        assert other.returncode == 2 and "plan_mismatch" in other.stderr
        assert [each.wait(timeout=120) for each in runs] == [0, 0]
    finally:
        [each.kill() for each in runs]
    store = Store(str(out))
    assert commits.committed(store) == {f"{number:05d}" for number in range(4)}
    assert verify(store).complete and not verify(store).problems
    newest = manifest.latest(store)
    assert newest is not None and newest.complete


def test_a_refused_plan_touches_nothing(tmp_path: Path) -> None:  # case 56
    source = make_shards(tmp_path / "in", 1, 5)
    run_here(fake_recipe(), planned(fake_recipe(), source), tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    other = fake_recipe(looping=0.5)
    with pytest.raises(PlanMismatch, match="looping"):
        run_here(other, planned(other, source), tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before

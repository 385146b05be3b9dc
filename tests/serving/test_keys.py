"""The file of keys: rotated, added to by many at once, half written; and the work that a wrong key costs."""

from __future__ import annotations

import hmac
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from captioner.errors import Refused
from serving.keys import Key, Keyring, add_key, hashed, read_keys, write_keys
from serving.problems import Problem
from tests.serving.test_faults_of_keys_and_load import keyring


def test_a_key_is_rotated_without_a_restart_and_half_a_file_locks_nobody_out(tmp_path: Path) -> None:
    path, first = keyring(tmp_path)
    ring = Keyring(path)
    second = add_key(path, Key(name="alice-2", tenant="alice", sha256="0" * 64), days=1)
    ring._looked = -1e9
    assert {ring.who(f"Bearer {each}").tenant for each in (first, second)} == {"alice"}
    write_keys(path, read_keys(path)[1:])
    ring._looked = -1e9
    with pytest.raises(Problem):
        ring.who(f"Bearer {first}")
    path.write_text('{"keys": [')
    ring._looked = -1e9
    assert ring.who(f"Bearer {second}").name == "alice-2"
    with pytest.raises(Refused, match="no file of keys"):
        Keyring(path)


def test_keys_that_are_added_at_once_are_all_kept_and_a_link_to_the_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    path = tmp_path / "keys.json"
    path.symlink_to("secrets/keys.json")
    keys = [Key(name=f"k{number}", tenant="t", sha256="0" * 64) for number in range(24)]
    with ThreadPoolExecutor(len(keys)) as pool:
        given = list(pool.map(lambda key: add_key(path, key, 1), keys))
    assert {each.sha256 for each in read_keys(path)} == set(map(hashed, given))
    assert path.is_symlink() and [each.name for each in (tmp_path / "secrets").iterdir()] == ["keys.json"]


def test_a_key_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    key = Key(name="a", tenant="a", sha256="0" * 64)
    for days in (-5, 10**9):
        with pytest.raises(Refused, match=f"--days {days}: 0 for ever"):
            add_key(tmp_path / "keys.json", key, days)
    with pytest.raises(Refused, match="cannot be written: No such file"):
        add_key(tmp_path / "nowhere" / "keys.json", key, 1)


def test_time_is_the_same_whatever_is_wrong_with_a_key(tmp_path: Path) -> None:
    """Not measured here: the clock of a shared machine proves nothing. What is compared is how much work is done."""
    path, key = keyring(tmp_path)
    ring = Keyring(path)
    compared = []
    real = hmac.compare_digest

    def counted(one: str, other: str) -> bool:
        compared.append(len(one) == len(other) == 64)
        return real(one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.keys.hmac.compare_digest", counted)
        for given in (None, "", "Bearer x", f"Bearer {key[:-1]}", f"Bearer {key}"):
            before = len(compared)
            with suppress(Problem):
                ring.who(given)
            assert len(compared) == before + 1
    assert all(compared)

"""Whole runs over real vLLM and SGLang servers: every sample, every token and every finish reason accounted for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from captioner.engines.replica import CANARY, HttpReplica
from pipelines.servers.process import free_port
from shards.ledger import Row
from shards.store import Store
from tests.engines import runs
from tests.engines.beds import Bed
from tests.engines.runs import KEY_VARIABLE, Work, command, pictures, shards_of
from tests.processes import recap

ENGINES = ("vllm", "sglang")
GENERATED = 60


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One server of each kind, both at once."""
    beds = {engine: Bed(engine, "qwen2vl", tmp_path_factory.mktemp(engine), 0) for engine in ENGINES}
    try:
        yield {engine: bed.serving() for engine, bed in beds.items()}
    finally:
        for bed in beds.values():
            bed.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of photographs and made pictures."""
    made = tmp_path_factory.mktemp("runs")
    shards_of(made / "in", pictures(GENERATED))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run that ended well: its ledger, and what its server did meanwhile."""

    rows: dict[str, Row]
    work: Work


@pytest.fixture(scope="module")
def ran(urls: dict[str, str], folder: Path) -> dict[str, Ran]:
    """A run over each engine alone."""
    found = {}
    for engine in ENGINES:
        before = runs.work(urls[engine])
        words = command(folder / "in", folder / engine, engine, "--endpoints", urls[engine])
        ended = runs.run([*words, "--key-variable", KEY_VARIABLE])
        assert ended.returncode == 0, ended.stderr
        found[engine] = Ran(rows=runs.rows(folder / engine), work=runs.work(urls[engine]).since(before))
    return found


def proof(url: str) -> Work:
    """What proving a replica once costs its server: its picture is asked about greedily, so always the same."""

    async def ask() -> Work:
        replica = HttpReplica(url=url, model="tiny", key_variable=KEY_VARIABLE)
        try:
            said = await replica.ask(CANARY)
        finally:
            await replica.close()
        assert said.prompt_tokens is not None and said.completion_tokens is not None
        finished = Counter({said.finish_reason: 1})
        return Work(prompt=said.prompt_tokens, written=said.completion_tokens, answers=1, finished=finished)

    return asyncio.run(ask())


@pytest.mark.parametrize("engine", ENGINES)
def test_every_sample_is_accounted_for_and_names_who_answered_it(
    engine: str, folder: Path, ran: dict[str, Ran]
) -> None:
    verified = recap("verify", str(folder / engine), "--json")
    verdict = json.loads(verified.stdout)
    assert verified.returncode == 0 and not verdict["problems"]
    assert verdict["totals"]["counts"]["read"] == GENERATED + 10
    assert {(row.outcome, row.engine, row.model, row.prompt_id) for row in ran[engine].rows.values()} == {
        ("captioned", engine, "tiny", "describe-image-1")
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_the_ledger_and_the_server_agree_on_every_token_and_finish_reason(
    engine: str, urls: dict[str, str], ran: dict[str, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the proofs of the replica: one at least, and all alike."""
    monkeypatch.setenv(KEY_VARIABLE, runs.KEY)
    rows, work, one = list(ran[engine].rows.values()), ran[engine].work, proof(urls[engine])
    assert {row.attempts for row in rows} == {1}, "the ledger has the tokens of a sample's last ask only"
    proofs = work.answers - len(rows)
    assert 1 <= proofs <= 6
    assert work.prompt == sum(row.prompt_tokens or 0 for row in rows) + proofs * one.prompt
    assert work.written == sum(row.completion_tokens or 0 for row in rows) + proofs * one.written
    if engine == "vllm":  # SGLang does not count by reason
        (why,) = one.finished
        assert work.finished == Counter(row.finish_reason for row in rows) + Counter({why: proofs})


def said(rows: dict[str, Row]) -> dict[str, tuple[str, int | None]]:
    """Caption and prompt tokens of the pictures that fit the tiny checkpoint's 64 patches.

    Larger ones vLLM shrinks to that, and SGLang to a limit of its own. Real checkpoints' limits are far above what the
    presets send. Of a character that is cut in two SGLang writes U+FFFD, vLLM nothing.
    """
    return {
        key: ((row.caption or "").rstrip("\ufffd"), row.prompt_tokens)
        for key, row in rows.items()
        if (row.width or 0) <= 224 and (row.height or 0) <= 224
    }


def test_both_engines_caption_the_same_pictures_alike(ran: dict[str, Ran]) -> None:
    alone = said(ran["vllm"].rows)
    assert len(alone) == GENERATED and len(set(alone.values())) > GENERATED / 2
    assert said(ran["sglang"].rows) == alone


def test_a_pool_of_both_gives_the_same_corpus_and_each_row_says_by_whom(
    urls: dict[str, str], folder: Path, ran: dict[str, Ran]
) -> None:
    words = command(folder / "in", folder / "both", "openai", "--endpoints", ",".join(urls.values()))
    ended = runs.run([*words, "--pace.slots", "4", "--key-variable", KEY_VARIABLE])
    assert ended.returncode == 0, ended.stderr
    rows = runs.rows(folder / "both")
    assert {row.engine for row in rows.values()} == set(ENGINES)
    assert said(rows) == said(ran["vllm"].rows)
    assert recap("verify", str(folder / "both")).returncode == 0


def test_another_model_at_an_endpoint_ends_the_run_with_code_2_and_both_names(
    urls: dict[str, str], folder: Path
) -> None:
    words = command(folder / "in", folder / "wrong", "vllm", "--endpoints", ",".join(urls.values()))
    ended = runs.run([*words, "--key-variable", KEY_VARIABLE, "--model", "Qwen/Qwen2-VL-7B-Instruct"])
    assert ended.returncode == 2, ended.stderr
    assert "asked for Qwen/Qwen2-VL-7B-Instruct" in ended.stderr and "served is tiny" in " ".join(ended.stderr.split())
    assert not list((folder / "wrong").glob("commits/*"))


def test_a_server_that_is_not_up_ends_the_run_with_code_3_and_no_sample_is_blamed(folder: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    words = command(folder / "in", folder / "late", "vllm", "--endpoints", nobody, "--start-seconds", "3")
    ended = runs.run(words)
    assert ended.returncode == 3, ended.stderr
    assert "engine_unavailable: no replica served" in " ".join(ended.stderr.split())
    assert list(Store(str(folder / "late")).names()) == ["plan.json"]


def test_what_one_picture_makes_too_long_is_a_row_with_a_reason(urls: dict[str, str], tmp_path: Path) -> None:
    """The prompt leaves room in a context of 2,048 tokens for small pictures and not for a photograph's 1,200."""
    shards_of(tmp_path / "in", [pictures(0)[0], *pictures(6)[10:]])
    (tmp_path / "prompt.txt").write_text("Describe this image, whose number is " + "0123456789" * 110)
    words = command(tmp_path / "in", tmp_path / "out", "sglang", "--endpoints", urls["sglang"])
    ended = runs.run([*words, "--key-variable", KEY_VARIABLE, "--prompt-file", str(tmp_path / "prompt.txt")])
    assert ended.returncode == 1, ended.stderr
    rows = runs.rows(tmp_path / "out")
    (refused,) = (row for row in rows.values() if row.outcome == "failed")
    assert refused.key == "000000000" and refused.reason == "engine_refused"
    assert refused.detail is not None and refused.detail.startswith("HTTP 400: ")
    assert Counter(row.outcome for row in rows.values()) == {"captioned": 6, "failed": 1}
    verdict = json.loads(recap("verify", str(tmp_path / "out"), "--json").stdout)
    assert not verdict["problems"] and verdict["complete"]

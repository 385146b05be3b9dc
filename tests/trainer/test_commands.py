"""`recap train --describe`, `recap caption` and `recap eval`, as a user types them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

from rich.console import Console  # noqa: E402

from captioner.errors import Refused  # noqa: E402
from captioner.types import Sampling  # noqa: E402
from pipelines.cli import recap  # noqa: E402
from tests import corpora  # noqa: E402
from tests.trainer import made  # noqa: E402
from trainer import commands, manners, start  # noqa: E402
from trainer.answer import Speaker  # noqa: E402
from trainer.recipes import STAGES  # noqa: E402
from trainer.words import Words  # noqa: E402

TOLD = {"total": 14_156_712_960, "vision": 6_525_618_176, "patch_embedding": 15_478_272, "text": 7_615_616_512}


@pytest.fixture(scope="module", params=["eve-v2-3", "elva-1"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each family that has learnt nothing, with its stage's manners at a small size."""
    llm = made.language_model(tmp_path_factory.mktemp("llm"))
    words, folder, stage = Words(llm), tmp_path_factory.mktemp("model"), STAGES[request.param]
    fields = made.CONFIG | {"image_token_id": words.image_token_id}
    first = STAGES["elva-1" if stage.family == "elva" else "eve-v2-1"]
    own = fields if stage.family == "elva" else {"image_token_id": words.image_token_id, "mm_hidden_size": 16}
    torch.manual_seed(0)
    unguided = replace(first, trains=("patch_embedding",), guided=False)
    start.going(unguided, llm, own, resumed=False).save_pretrained(folder)
    words.save(folder)
    manners.write(folder, replace(stage, pictures=replace(stage.pictures, max_side=64)))
    return folder


def test_a_model_is_described_without_its_weights(capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--describe", "eve-v2-7b", "--size", "1920x1080", "--max-side", "800", "--mode", "infer"]
    assert recap(["train", *told]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "parameters": TOLD,
        "cols": 34,
        "rows": 19,
        "patches": 646,
        "tokens": 666,
    }


@pytest.mark.parametrize("wrong", [["--describe", "eve"], ["--describe", "eve-v2-7b", "--size", "big"]])
def test_a_description_of_nothing_is_refused(wrong: list[str]) -> None:
    with pytest.raises(Refused):
        commands.train(wrong, Console(quiet=True))
    assert recap(["train", *wrong]) == 2


def test_a_picture_is_captioned_and_a_page_is_not(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(corpora.picture(1, 96, 64))
    bad.write_bytes(b"<html>")
    assert recap(["caption", str(good), "--model", str(model), "--max-tokens", "5"]) == 0
    capsys.readouterr()
    assert recap(["caption", str(good), str(bad), "--model", str(model), "--max-tokens", "5"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{good}\t") and "no known picture begins" in err


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("--max-tokens 0", "--max-tokens of 1 or more"),
        ("--temperature -1", "a --temperature of 0 or more"),
        ("--mode big", "no mode 'big'; there is train, infer"),
        ("--device gpu", "no device 'gpu' here"),
        ("--question <|im_end|>", "holds '<|im_end|>', which would be read as a mark"),
        ("--model LLM", "holds no model that `recap train` made"),
    ],
)
def test_what_no_model_can_be_asked_is_refused(
    model: Path, tmp_path: Path, wrong: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.jpg").write_bytes(corpora.picture(1, 96, 64))
    shutil.copytree(model, tmp_path / "llm")
    config = json.loads((tmp_path / "llm/config.json").read_text())
    (tmp_path / "llm/config.json").write_text(json.dumps(config | {"model_type": "eve-qwen2", "add_moe": True}))
    told = [str(tmp_path / "good.jpg"), "--model", str(model), *wrong.replace("LLM", str(tmp_path / "llm")).split()]
    assert recap(["caption", *told]) == 2
    assert right in capsys.readouterr().err
    assert recap(["caption", "--model", str(model)]) == 2


def test_a_picture_without_a_size_is_told_and_not_captioned(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(99))
    assert recap(["caption", str(tmp_path / "a.avif"), "--model", str(model)]) == 1
    assert "unsupported_format" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "recap.json"])
def test_a_checkpoint_that_was_cut_is_corrupt(
    model: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "cut")
    (tmp_path / "cut" / name).write_bytes((model / name).read_bytes()[:40])
    assert recap(["caption", "x.jpg", "--model", str(tmp_path / "cut")]) == 4
    assert "corrupt_state" in capsys.readouterr().err


def test_a_greedy_answer_does_not_depend_on_the_language_model_s_own_habits(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "habits")
    habits = {"do_sample": True, "temperature": 0.7, "top_k": 20, "repetition_penalty": 8.0}
    (tmp_path / "habits/generation_config.json").write_text(json.dumps(habits))
    frame, sampling = corpora.picture(1, 96, 64), Sampling(max_tokens=12)
    plain, other = (Speaker(each, "cpu").answer([frame], "What?", sampling) for each in (model, tmp_path / "habits"))
    assert plain == other


def test_a_stage_s_own_template_judges_if_it_is_asked_for(
    model: Path, yard: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = yard / "out"
    family = "elva" if json.loads((model / "recap.json").read_text())["family"] == "elva" else "eve"
    told = ["eval", "--model", str(model), "--data", str(out), "--limit", "2", "--group", "2", "--json", "--stage"]
    losses = set()
    for stage in ("elva-1", "elva-3") if family == "elva" else ("1", "3"):
        assert recap([*told, stage]) == 0
        losses.add(json.loads(capsys.readouterr().out)[f"recap={out}"]["blind"])
    assert len(losses) == 2, "one is plain, the other a dialogue"
    assert recap([*told, "1" if family == "elva" else "elva-1"]) == 2
    assert recap([*told[:-1], "--group", "0"]) == 2


def test_an_evaluation_tells_new_captions_from_alt_texts(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = made.corpus(tmp_path, shards=1, per_shard=5)
    told = ["eval", "--model", str(model), "--data", f"recap={out}", "--data", f"web={out}"]
    assert recap([*told, "--limit", "4", "--group", "2", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert list(scores) == [f"recap={out}", f"web={out}"]
    for each in scores.values():
        assert each["pairs"] == 4 and each["loss"] > 0 and each["blind"] > 0
        assert 0 <= each["text_of_picture"] <= 1 and 0 <= each["picture_of_text"] <= 1
    assert recap([*told, "--limit", "1", "--group", "2"]) == 2, "not one whole group"


def test_what_a_model_was_trained_on_is_not_judged_as_held_out(
    yard: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["eval", "--model", str(whole), "--limit", "2", "--group", "2", "--json", "--data"]
    assert recap([*told, f"web={yard / 'out'}", "--hold-out", "0.5"]) == 2
    assert f"was trained on web={yard / 'out'} with --hold-out 0.0" in capsys.readouterr().err
    assert recap([*told, f"web={yard / 'out'}"]) == 0, "unless it is asked for"

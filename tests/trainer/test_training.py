"""Whole trainings by the command: resumed, killed, on two processes, stage after stage; and what they leave behind."""

from __future__ import annotations

import io
import json
import shutil
import signal
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

from rich.console import Console  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from captioner.errors import CorruptState, PlanMismatch, Refused  # noqa: E402
from tests.trainer import made  # noqa: E402
from tests.trainer.runs import LONG, alike, forked, on_two, same, train, weights, words  # noqa: E402
from trainer import checkpoint, commands  # noqa: E402
from trainer.meter import losses  # noqa: E402
from trainer.recipes import STAGES  # noqa: E402
from trainer.stage import group  # noqa: E402


def test_a_training_that_stopped_goes_on_with_the_same_losses(yard: Path, whole: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", yard / "parts")
    for _ in range(3):
        train([*told, "--stop-after", "2"])
    same(yard / "parts/eve-v2-1", whole)
    assert len(losses(whole)) >= 5


def test_the_console_tells_how_many_steps_there_will_be_by_those_there_were(yard: Path, tmp_path: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", tmp_path, "--batch", 4, "--log-every", 1)
    said = io.StringIO()
    assert commands.train(told, Console(file=said, width=200)) == 0
    count = len(losses(tmp_path / "eve-v2-1"))
    assert f"step {count}/~{count}  " in said.getvalue(), "by the batch alone it would be 16"


def test_a_training_that_was_killed_loses_nothing_but_the_steps_since_its_checkpoint(yard: Path, whole: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", yard / "killed", "--save-every", "1", "--keep", "9")
    run = yard / "killed/eve-v2-1"
    for kill_at in (1, 3):
        process = forked(told)
        while len(checkpoint.published(run)) < kill_at and process.is_alive():
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    train(told)
    same(run, whole)
    folders = {path.name for path in (run / "checkpoints").iterdir() if path.is_dir()}
    assert folders == {checkpoint.read(each).folder.name for each in checkpoint.published(run)}, "litter was cleared"


def test_two_processes_train_as_one_does(yard: Path, whole: Path) -> None:
    on_two(words(yard, "1", "--llm", yard / "llm", "--output", yard / "two"))
    alike(yard / "two/eve-v2-1", whole)
    newest = checkpoint.latest(yard / "two/eve-v2-1")
    assert newest is not None and newest.told["ranks"] == 2


def test_a_model_sharded_over_two_processes_goes_on_in_one(yard: Path, whole: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", yard / "sharded")
    on_two([*told, "--parallel", "fsdp2", "--stop-after", "3"])
    train(told)
    alike(yard / "sharded/eve-v2-1", whole)


# In a dialogue no label follows a picture: what makes only the last layer's picture states has no gradient.
UNREACHED = ("moe_q_proj", "moe_o_proj", "moe_post_attention_layernorm", "moe_mlp")


def test_each_stage_moves_what_it_trains_and_nothing_else(yard: Path, whole: Path) -> None:
    before = load_file(yard / "llm/model.safetensors")
    talks = f"llava={yard / 'talks/talks.json'}"
    for name, data in {"1": "", "2.1a": "", "2.1b": "", "2.2": talks, "3": talks}.items():
        stage = STAGES[f"eve-v2-{name}"]
        if name != "1":  # that is `whole`
            train(words(yard, name, "--output", yard / "whole", "--samples", 24, data=data))
        after = weights(yard / "whole" / stage.name)
        for tensor, value in after.items():
            start = before.get(tensor, before.get(tensor.replace("moe_", "")))
            if data and "layers.2." in tensor and any(part in tensor for part in UNREACHED):
                continue
            moved = start is None or not torch.equal(value, start)
            assert moved == (group(tensor) in stage.trains), f"{stage.name}: {tensor}"
        before = after


def test_elva_learns_from_videos_and_merges_them(yard: Path) -> None:
    talks = f"llava={yard / 'talks/talks.json'}"
    small = ["--output", yard / "elva", "--samples", 16, "--rows", 2, "--budget", 512, "--max-side", 56]
    train(words(yard, "elva-1", *small, "--llm", yard / "llm"))
    train(words(yard, "elva-2", *small, "--frames", 4, data=talks))
    train(words(yard, "elva-3", *small, "--frames", 4, data=talks))
    newest = checkpoint.latest(yard / "elva/elva-3")
    assert newest is not None and newest.told["complete"]
    assert json.loads((newest.folder / "config.json").read_text())["merging"] is True
    assert all(value == value for value in losses(yard / "elva/elva-3"))


def test_a_teacher_guides_elva_and_its_guide_learns_too(yard: Path) -> None:
    told = ["--samples", 16, "--rows", 2, "--budget", 512, "--max-side", 56, "--teacher", yard / "teacher"]
    train(words(yard, "elva-1", *told, "--llm", yard / "llm", "--output", yard / "guided"))
    train(words(yard, "elva-1", *told[:-2], "--llm", yard / "llm", "--output", yard / "alone"))
    guided, alone = yard / "guided/elva-1", yard / "alone/elva-1"
    # Unit vectors that have nothing to do with each other are 2 apart; the contrast adds the log of some frames.
    assert losses(guided)[0] - losses(alone)[0] > 2
    assert weights(guided)["guide.tube.weight"].shape == (16, 32)
    talks = f"llava={yard / 'talks/talks.json'}"
    with pytest.raises(Refused, match="stage elva-3 has no teacher"):
        train(words(yard, "elva-3", "--teacher", yard / "teacher", data=talks))


@pytest.mark.parametrize(
    ("first", "then", "parts"),
    [({"moe_part": "mlp"}, {}, "mlp"), ({"ffn_increment": True}, {"ffn_increment": True}, "")],
    ids=["EVEv1.5, said once", "EVEv1.2"],
)
def test_the_paper_s_ablations_train(
    yard: Path, tmp_path: Path, first: dict[str, object], then: dict[str, object], parts: str
) -> None:
    for stage, fields in (("1", first), ("2.1a", then)):
        (tmp_path / "fields.json").write_text(json.dumps({"mm_hidden_size": 16} | fields))
        own = ["--output", tmp_path, "--model-config", tmp_path / "fields.json", "--samples", 24]
        train(words(yard, stage, "--llm", yard / "llm", *own))
    newest = checkpoint.latest(tmp_path / "eve-v2-2.1a")
    assert newest is not None and newest.told["complete"]
    assert json.loads((newest.folder / "config.json").read_text())["moe_part"] == parts
    copies = {name for name in weights(tmp_path / "eve-v2-2.1a") if group(name) == "vision"}
    assert copies and all("mlp" in name for name in copies)


def test_a_checkpoint_is_safetensors_and_json_and_says_what_it_saw(yard: Path, whole: Path) -> None:
    newest = checkpoint.latest(whole)
    assert newest is not None and newest.told["complete"] and not checkpoint.damaged(newest)
    assert {path.suffix for path in newest.folder.iterdir()} <= {".json", ".safetensors", ".jinja"}
    seen = newest.told["seen"]
    assert seen["samples"] >= LONG and seen["step"] == len(losses(whole))
    assert newest.told["job"]["feeds"][0]["name"] == f"recap={yard / 'out'}"
    file = newest.folder / "optimizer-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert checkpoint.damaged(newest) == [file.name]


def test_a_folder_without_its_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint.staging(tmp_path, 5, "a")
    (folder / "weights").write_bytes(b"half")
    assert checkpoint.latest(tmp_path) is None
    checkpoint.publish(folder, {"step": 5})
    assert checkpoint.latest(tmp_path) == checkpoint.Checkpoint(folder=folder, told=checkpoint.latest(tmp_path).told)  # type: ignore[union-attr]
    with pytest.raises(Refused, match="two trainings write to one folder"):
        checkpoint.publish(checkpoint.staging(tmp_path, 5, "b"), {"step": 5})
    (folder / "weights").write_bytes(b"ha")
    with pytest.raises(CorruptState, match="have another length"):
        checkpoint.latest(tmp_path)


@pytest.fixture(scope="module")
def begun(yard: Path) -> list[str]:
    """The words of a guided run that stands at its first step."""
    small = ["--samples", 64, "--rows", 1, "--budget", 512, "--max-side", 56, "--teacher", yard / "teacher"]
    told = words(yard, "elva-1", *small, "--output", yard / "begun", "--stop-after", 1)
    train([*told, "--llm", str(yard / "llm")])
    return told


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("--peak-lr 0.5", r"stage\.peak_lr: there 0\.001, asked 0\.5"),
        ("--seed 1", r"order\.seed: there 0, asked 1"),
        ("--precision bf16", "precision: there 'fp32', asked 'bf16'"),
        ("--images YARD/talks", "images: there '', asked '.*talks'"),
        ("--llm YARD/other-llm", "start: there '.*/llm', asked '.*/other-llm'"),
        ("--model-config YARD/other.json", r"model_config\.patch_heads: there 2, asked 4"),
        ("--teacher YARD/other-teacher", "teacher: there '[0-9a-f]{64}', asked '[0-9a-f]{64}'"),
        ("--teacher=", "teacher: there '[0-9a-f]{64}', asked None"),
    ],
)
def test_a_run_is_not_resumed_as_another(yard: Path, begun: list[str], asked: str, told: str) -> None:
    made.teacher(yard / "other-teacher", seed=1)
    (yard / "other.json").write_text(json.dumps(made.CONFIG | {"patch_heads": 4}))
    with pytest.raises(PlanMismatch, match=told):
        train([*begun, *asked.replace("YARD", str(yard)).split()])


def test_a_run_goes_on_with_a_teacher_that_was_moved(yard: Path, begun: list[str]) -> None:
    shutil.copytree(yard / "teacher", yard / "moved")
    train([*begun, "--teacher", str(yard / "moved")])
    assert len(losses(yard / "begun/elva-1")) == 2


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (["--stage", "9"], "no stage '9'; there is eve-v2-1"),
        (["--stage", "1"], "give --llm"),
        (["--stage", "2.1a", "--output", "/nowhere"], "no model at /nowhere/eve-v2-1"),
        (["--stage", "1", "--llm", "LLM", "--model-config", "TYPO"], "no model here has moe_prt in its config"),
        (["--stage", "1", "--output", "s3://bucket/x"], "checkpoints go to a disk"),
        (["--stage", "1", "--llm", "LLM", "--pictures", "huge"], "there is fixed-area-800"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(yard: Path, wrong: list[str], right: str) -> None:
    (yard / "typo.json").write_text('{"moe_prt": "mlp"}')
    places = {"LLM": str(yard / "llm"), "TYPO": str(yard / "typo.json")}
    with pytest.raises(Refused, match=right):
        train([*words(yard, "1"), *(places.get(word, word) for word in wrong)])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("--threads 0", "--threads 0: 1 or more"),
        ("--log-every 0", "--log-every 0: 1 or more"),
        ("--save-every 0", "--save-every 0: 1 or more"),
        ("--ahead 0", "--ahead 0: 1 or more"),
        ("--block 0", "--block 0: 1 or more"),
        ("--keep 0", "--keep 0: 1 or more"),
        ("--rows -1", "--rows -1: 0 or more"),
        ("--budget -5", "--budget -5: 0 or more"),
        ("--epochs -1", "--epochs -1: 0 or more"),
        ("--peak-lr nan", "--peak-lr nan: 0 or more"),
        ("--max-side -4", "--max-side -4: 0 or more"),
        ("--hold-out -1", r"--hold-out -1\.0: 0 or more"),
        ("--hold-out 1", "leaves nothing to train on"),
        ("--precision fp16", "no --precision 'fp16'; there is bf16, fp32"),
        ("--attention nonsense", "--attention nonsense: "),
        ("--data web:0.3=OUT", "a weight for each, or for none"),
        ("--budget 4096", "one step takes .* samples and eve-v2-1 has 64: .* fewer --rows"),
    ],
)
def test_an_option_that_no_training_can_have_is_refused(yard: Path, tmp_path: Path, wrong: str, right: str) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", tmp_path, "--stop-after", "1")
    with pytest.raises(Refused, match=right):
        train([*told, *wrong.replace("OUT", str(yard / "out")).split()])
    assert checkpoint.latest(tmp_path / "eve-v2-1") is None


def test_a_stage_that_is_done_is_not_done_by_another_recipe(yard: Path, whole: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", yard / "whole")
    train(told)
    with pytest.raises(PlanMismatch, match=r"stage\.peak_lr: there 0\.001, asked 0\.5"):
        train([*told, "--peak-lr", "0.5"])


def test_a_stage_does_not_start_from_one_that_was_stopped_unless_it_is_told_to(yard: Path, tmp_path: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", tmp_path)
    train([*told, "--stop-after", "2"])
    after = words(yard, "2.1a", "--output", tmp_path, "--stop-after", 1)
    with pytest.raises(Refused, match="stage eve-v2-1 is not done, it stands at step 2"):
        train(after)
    train([*after, "--start", str(tmp_path / "eve-v2-1")])
    assert len(losses(tmp_path / "eve-v2-2.1a")) == 1


def test_a_training_goes_on_although_the_files_of_an_older_checkpoint_are_gone(yard: Path, tmp_path: Path) -> None:
    told = words(yard, "1", "--llm", yard / "llm", "--output", tmp_path, "--save-every", "1")
    train([*told, "--stop-after", "2"])
    oldest = checkpoint.read(checkpoint.published(tmp_path / "eve-v2-1")[0])
    (oldest.folder / "model.safetensors").unlink()
    train([*told, "--stop-after", "1"])
    assert len(losses(tmp_path / "eve-v2-1")) == 3

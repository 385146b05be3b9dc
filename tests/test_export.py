"""A corpus in other programs' forms: read by those programs' own rules, and every captioned sample accounted for."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tyro
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioner.errors import CorruptState, PlanMismatch, Refused, UnknownPart
from captioner.types import FrameBudget
from pipelines.options import options_class, recipe_from
from pipelines.recap_webvid import WEBVID
from shards.export import Account, Order, export
from shards.formats import FORMATS
from shards.keys import SeenKeys
from shards.ledger import Row
from shards.outgoing import LEFT_OUT, Choice, drawn, spelled
from shards.pack import Packed, pack
from shards.reading import open_corpus
from shards.store import Store
from tests.clips import plain
from tests.corpora import fake_recipe, picture, planned, run_here
from tests.processes import ROOT, descendants, recap
from trainer.data.clips import Look
from trainer.data.llava import conversations

TURNED, LONG = "turned", "long"
ODD = ("a/b", "a%2Fb", "con:x*?", "ü b/ç%2F", "k" * 90 + "/" + "ä" * 60)


def turned(seed: int) -> bytes:
    """A picture whose EXIF says that it is seen turned by a quarter: stored 600 x 520, seen 520 x 600."""
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = io.BytesIO()
    Image.open(io.BytesIO(picture(seed, 600, 520))).save(sink, "JPEG", exif=exif)
    return sink.getvalue()


def packed(key: str, media: bytes, alt: str = "alt text") -> Packed:
    return Packed(key=key, extension="jpg", media=media, caption=alt, fields={"url": f"https://pictures.example/{key}"})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty-odd pictures in three shards: plain ones, a turned and a long one, an alt text that is a formula."""
    folder = tmp_path_factory.mktemp("export")
    made = [packed(f"{number:06d}", picture(number), f"alt text {number}") for number in range(26)]
    made += [packed(key, picture(100 + number)) for number, key in enumerate(ODD)]
    made += [packed(TURNED, turned(200)), packed(LONG, picture(201, 3300, 600)), packed("zz", picture(202), "=1+cmd")]
    pack(Store(str(folder / "in")), made, 11)
    recipe = fake_recipe()
    recipe = replace(recipe, screens=tuple(each for each in recipe.screens if each.name != "aspect"))
    done = run_here(recipe, planned(recipe, folder / "in"), folder / "out")
    assert sum(each.counts["captioned"] for each in done) == len(made)
    return folder / "out"


def captioned(corpus: Path) -> dict[str, Row]:
    return {row.key: row for shard in open_corpus(str(corpus))[1] for row in shard.rows()}


def sent(corpus: Path, to: Path | str, form: str, **more: Any) -> Account:
    return export(Order(corpus=str(corpus), to=str(to), format=form, **more))


def files_of(folder: Path) -> dict[str, str]:
    """Every file and its digest."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("form", FORMATS)
def test_every_captioned_sample_goes_out_or_is_left_out_for_a_reason(corpus: Path, tmp_path: Path, form: str) -> None:
    account = sent(corpus, tmp_path / "to", form)
    summary = json.loads((tmp_path / "to/summary.json").read_text())
    assert summary["captioned"] == len(captioned(corpus)) == summary["exported"] + sum(summary["left_out"].values())
    assert summary["left_out"] == {"aspect": 1} == dict(account.left_out)
    before = files_of(tmp_path / "to")
    assert sent(corpus, tmp_path / "to", form) == account and files_of(tmp_path / "to") == before
    assert f"{summary['exported']} recaptioned samples" in (tmp_path / "to/README.md").read_text()


def as_eve_loads(data: Path, images: Path, texts: Path | None) -> list[dict[str, Any]]:
    """What EVEv2's dataset makes of a list: it opens each picture by Pillow, catches nothing, wants two turns."""
    listed = json.loads(data.read_text())
    samples = [json.loads((texts / each).read_text()) for each in listed] if texts is not None else listed
    for sample in samples:
        with Image.open(os.path.join(images, sample["image"])) as image:
            sample["pixels"] = image.convert("RGB").size
        first, second = sample["conversations"]
        assert first["from"] == "human" and "<image>" in first["value"] and second["from"] == "gpt"
    return samples


@pytest.mark.parametrize(("form", "texts"), [("eve-json", None), ("eve-index", "json")])
def test_evev2_s_loader_reads_it_and_its_lists_of_lengths_fit(
    corpus: Path, tmp_path: Path, form: str, texts: str | None
) -> None:
    sent(corpus, tmp_path, form, settings={"question": "What is there?"})
    samples = as_eve_loads(tmp_path / "eve.json", tmp_path / "images", texts and tmp_path / texts)
    rows = captioned(corpus)
    assert sorted(each["conversations"][1]["value"] for each in samples) == sorted(
        (row.caption or "").strip() for key, row in rows.items() if key != LONG
    )
    assert len({each["id"] for each in samples}) == len(samples) == len(rows) - 1
    words = [sum(len(turn["value"].split()) for turn in each["conversations"]) for each in samples]
    assert json.loads((tmp_path / "conversation_presave_lengths.json").read_text()) == [each + 2500 for each in words]
    assert json.loads((tmp_path / "conversation_presave_modality_lengths.json").read_text()) == words


def test_a_turned_picture_is_set_upright_and_all_others_are_the_stored_bytes(corpus: Path, tmp_path: Path) -> None:
    sent(corpus, tmp_path / "upright", "eve-json")
    sent(corpus, tmp_path / "stored", "eve-json", upright=False)
    stored = {row.sha256 for row in captioned(corpus).values()}
    files = {path.stem: path for path in (tmp_path / "upright/images").rglob("*.jpg")}
    other = [hashlib.sha256(path.read_bytes()).hexdigest() in stored for key, path in files.items() if key != TURNED]
    assert len(other) == len(stored) - 2 and all(other)
    with Image.open(files[TURNED]) as image:
        assert image.size == (520, 600) and image.getexif().get(0x0112, 1) == 1
    (as_stored,) = (tmp_path / "stored/images").rglob(f"{TURNED}.jpg")
    assert hashlib.sha256(as_stored.read_bytes()).hexdigest() in stored


def test_no_decoder_process_outlives_an_export(corpus: Path, tmp_path: Path) -> None:
    sent(corpus, tmp_path, "eve-json")
    assert not [line for line in descendants(os.getpid()).values() if "decoder_child" in line]


def test_the_trainer_reads_llava_s_list_picture_by_picture(corpus: Path, tmp_path: Path) -> None:
    sent(corpus, tmp_path, "llava-json")
    feed = conversations(str(tmp_path / "llava.json"), None, Look(images="", frames=4))
    entries = [entry for part in feed.parts for entry in part.entries(0, part.samples)]
    measured = [each.measure() for each in entries if each.measure is not None]
    assert len(measured) == len(captioned(corpus)) - 1
    assert all(each.size[0] >= 520 and len(each.fetch()) == 1 for each in measured)


def test_webdataset_reads_tars_of_equal_numbers(corpus: Path, tmp_path: Path) -> None:
    sent(corpus, tmp_path, "webdataset", settings={"samples_a_file": 10}, choice=Choice(max_aspect=0))
    tars = sorted(map(str, tmp_path.glob("*.tar")))
    counts = [len(list(webdataset.WebDataset([tar], shardshuffle=False))) for tar in tars]
    assert counts == [10, 10, 10, 4]
    rows = captioned(corpus)
    seen = set()
    for sample in webdataset.WebDataset(tars, shardshuffle=False).decode("pil"):
        told = sample["json"]
        row = rows[told["key"]]
        assert told["conversations"][1]["value"] == sample["txt"] == (row.caption or "").strip()
        assert sample["jpg"].size == (row.width, row.height) and told["sha256"] == row.sha256
        seen.add(told["key"])
    assert seen == rows.keys()


def test_tables_have_the_columns_and_lines_of_the_corpora_they_are_called_after(corpus: Path, tmp_path: Path) -> None:
    rows = captioned(corpus)
    sent(corpus, tmp_path / "recap", "recap-parquet", settings={"samples_a_file": 20})
    first, second = (pq.read_table(tmp_path / f"recap/data/{number:06d}.parquet") for number in range(2))
    names = ["url", "re_caption", "org_caption", "sha256", "key", "re_length", "org_length"]
    assert first.column_names[:7] == names and (first.num_rows, second.num_rows) == (20, len(rows) - 21)
    told = {each["key"]: each for each in first.to_pylist() + second.to_pylist()}
    assert all(told[key]["sha256"] == row.sha256 for key, row in rows.items() if key != LONG)
    assert told["000003"]["org_caption"] == "alt text 3" and told["000003"]["org_length"] == 3
    sent(corpus, tmp_path / "dense", "densefusion-jsonl")
    lines = [json.loads(line) for line in (tmp_path / "dense/densefusion.jsonl").read_text().splitlines()]
    assert all((tmp_path / "dense" / each["image_path"]).is_file() for each in lines)
    assert {tuple(each) for each in lines} == {("image_id", "image_path", "caption", "url")}
    sent(corpus, tmp_path / "llava", "llava-parquet")
    talks = pq.read_table(tmp_path / "llava/data/000000.parquet").to_pylist()
    assert talks[0].keys() == {"id", "image", "conversations", "data_source"} and len(talks) == len(rows) - 1
    assert all(Image.open(io.BytesIO(each["image"])).convert("RGB") for each in talks)


def test_no_cell_of_the_csv_is_a_formula(corpus: Path, tmp_path: Path) -> None:
    sent(corpus, tmp_path, "csv")
    with (tmp_path / "captions.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert "'=1+cmd" in cells and not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_no_key_leads_out_of_its_folder_or_into_one_of_its_own(corpus: Path, tmp_path: Path) -> None:
    sent(corpus, tmp_path / "to", "eve-index")
    assert [path.name for path in tmp_path.iterdir()] == ["to"]
    inside = {path.name for path in (tmp_path / "to").iterdir()}
    assert {"eve.json", "export.json", "images", "json", "summary.json"} < inside and len(inside) == 8
    assert len(list((tmp_path / "to/images").glob("*/000/*.jpg"))) == len(captioned(corpus)) - 1


@given(st.text(min_size=1, max_size=400), st.text(min_size=1, max_size=400))
def test_two_keys_never_share_a_name_and_a_name_is_plain(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_%~-]{1,180}", spelled(one))
    assert (spelled(one) == spelled(other)) == (one == other)


def test_a_clip_goes_where_the_form_has_a_place_for_it(tmp_path: Path) -> None:
    pack(Store(str(tmp_path / "in")), [Packed(key="clip", extension="mp4", media=plain(3), caption="a", fields={})], 1)
    words = ["--input", "in", "--output", "out", "--engine", "fake"]
    recipe = recipe_from(WEBVID, tyro.cli(options_class(WEBVID), args=words))
    assert isinstance(recipe.asking.frames, FrameBudget)
    run_here(recipe, planned(recipe, tmp_path / "in"), tmp_path / "out")
    assert sent(tmp_path / "out", tmp_path / "eve", "eve-json").left_out == {"clip": 1}
    assert sent(tmp_path / "out", tmp_path / "llava", "llava-json").exported == 1
    (talk,) = json.loads((tmp_path / "llava/llava.json").read_text())
    assert (tmp_path / "llava" / talk["video"]).read_bytes() == plain(3) and "image" not in talk


def test_a_smaller_share_is_part_of_a_larger_one(corpus: Path, tmp_path: Path) -> None:
    kept = {}
    for share in (0.3, 0.6):
        sent(corpus, tmp_path / str(share), "recap-parquet", choice=Choice(share=share))
        kept[share] = set(pq.read_table(tmp_path / f"{share}/data")["key"].to_pylist())
    rows = captioned(corpus)
    assert kept[0.3] < kept[0.6] < rows.keys()
    assert kept[0.6] == {key for key, row in rows.items() if drawn(row) < 0.6 and key != LONG}


def test_equal_pictures_go_out_once_where_that_is_asked(tmp_path: Path) -> None:
    made = [packed(f"{number:03d}", picture(number % 4)) for number in range(9)]
    pack(Store(str(tmp_path / "in")), made, 5)
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, tmp_path / "in"), tmp_path / "out")
    assert sent(tmp_path / "out", tmp_path / "all", "csv").left_out == {}
    account = sent(tmp_path / "out", tmp_path / "once", "csv", choice=Choice(unique=True))
    assert (account.exported, account.left_out) == (4, {"duplicate": 5})


def test_a_caption_with_a_trainer_s_own_token_stays_behind() -> None:
    row = Row(source_shard="a", key="k", member_offset=0, outcome="captioned", width=9, height=9)
    why = [
        Choice().against(replace(row, caption=caption), clips=False, seen=SeenKeys())
        for caption in ("A sign says <image>.", "A man. ASSISTANT: hello", "All of <|im_end|> it.", "A plain caption.")
    ]
    assert why == ["markup", "markup", "markup", None] and set(why[:1]) < set(LEFT_OUT)


def test_a_killed_export_goes_on_and_makes_what_an_undisturbed_one_does(corpus: Path, tmp_path: Path) -> None:
    sent(corpus, tmp_path / "whole", "eve-index")
    command = [sys.executable, "-m", "pipelines", "export", str(corpus), "--format", "eve-index"]
    command += ["--to", str(tmp_path / "killed")]
    slow = "import shards.outgoing as o, time, runpy, sys; f = o.store_media\n"
    slow += "def late(*a, **k): time.sleep(0.2); f(*a, **k)\n"
    slow += (
        "o.store_media = late; o.WRITERS = 2; sys.argv[0] = 'recap'; runpy.run_module('pipelines', run_name='__main__')"
    )
    with subprocess.Popen([sys.executable, "-c", slow, *command[3:]], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while len(list((tmp_path / "killed").rglob("*.jpg"))) < 5:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    left = files_of(tmp_path / "killed")
    assert "summary.json" not in left and "eve.json" not in left and len(left) < 30
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "exported" in again.stdout and files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_what_does_not_fit_is_refused_with_what_would_be_right(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownPart, match=r"no 'eve-jsn' here; there is .*did you mean 'eve-json'"):
        sent(corpus, tmp_path / "to", "eve-jsn")
    with pytest.raises(UnknownPart, match=r"'csv' has no setting 'question'"):
        sent(corpus, tmp_path / "to", "csv", settings={"question": "?"})
    with pytest.raises(Refused, match="inside the corpus"):
        sent(corpus, corpus / "eve", "eve-json")
    with pytest.raises(Refused, match="--share 0: above 0"):
        Choice(share=0)
    with pytest.raises(Refused, match="no manifest 7"):
        sent(corpus, tmp_path / "to", "csv", version=7)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with pytest.raises(Refused, match="holds something else"):
        sent(corpus, tmp_path / "mine", "csv")
    sent(corpus, tmp_path / "to", "csv")
    with pytest.raises(PlanMismatch, match=r"format\.name: there 'csv', asked 'eve-json'"):
        sent(corpus, tmp_path / "to", "eve-json")


def test_bytes_that_are_not_those_that_were_captioned_are_not_passed_on(tmp_path: Path) -> None:
    pack(Store(str(tmp_path / "in")), [packed("one", picture(1))], 1)
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, tmp_path / "in"), tmp_path / "out")
    (tar,) = (tmp_path / "out/data").glob("*.tar")
    media = bytearray(tar.read_bytes())
    media[media.index(b"\xff\xd8\xff") + 300] ^= 1
    tar.write_bytes(media)
    with pytest.raises(CorruptState, match="'one' of 00000 has not the bytes that were captioned"):
        sent(tmp_path / "out", tmp_path / "to", "webdataset")
    done = recap("export", str(tmp_path / "out"), "--format", "eve-json", "--to", str(tmp_path / "files"))
    assert done.returncode == 4 and "summary.json" not in files_of(tmp_path / "files")


def test_from_bucket_to_bucket_goes_what_goes_on_disk(bucket: str, corpus: Path, tmp_path: Path) -> None:
    for path in sorted(corpus.rglob("*")):
        if path.is_file():
            Store(f"{bucket}/corpus").create(str(path.relative_to(corpus)), path.read_bytes())
    for form in ("eve-json", "webdataset"):
        sent(corpus, tmp_path / form, form)
        export(Order(corpus=f"{bucket}/corpus", to=f"{bucket}/{form}", format=form))
        there = Store(f"{bucket}/{form}")
        assert {name: hashlib.sha256(there.read(name)).hexdigest() for name in there.names()} == files_of(
            tmp_path / form
        )

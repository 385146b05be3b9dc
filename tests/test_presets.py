"""How engines are asked: presets by name or by model, prompts from files, and pictures that no server resizes again."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import tyro
from hypothesis import example, given, settings
from hypothesis import strategies as st

from captioner.engines.experts import Experts
from captioner.engines.fake import Fake
from captioner.errors import Refused, UnknownPart
from captioner.external import PLACE, block, tokens
from captioner.media.decode import bounded_size, decode
from captioner.presets import AGAIN_FOR, ANYRES_TOLD, PRESETS, SERVED, Wishes, asking_for, preset, preset_of
from captioner.prompts import MAX_CHARACTERS, PROMPTS
from captioner.recipe import Asking, digest, to_json
from captioner.types import Information, PixelBudget
from pipelines.options import options_class, recipe_from
from pipelines.recap_datacomp import DATACOMP
from tests.pictures import sized

QWEN = ("qwen2-vl", "qwen2.5-vl", "qwen3-vl")
SIDES = st.integers(1, 12_000)


class Served:
    """An engine that asks whatever a preset says."""


def smart_resize(width: int, height: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """What Qwen-VL's processors make of a picture (QwenLM/Qwen2-VL, qwen_vl_utils), sides in px."""
    assert max(width, height) <= 200 * min(width, height), "a server answers 400"
    across, down = (max(factor, round(side / factor) * factor) for side in (width, height))
    if across * down > most:
        shrink = math.sqrt(width * height / most)
        across, down = (max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height))
    elif across * down < least:
        grow = math.sqrt(least / (width * height))
        across, down = (math.ceil(side * grow / factor) * factor for side in (width, height))
    return across, down


def anyres_tokens(width: int, height: int) -> int:
    """Image tokens of LLaVA-1.6: the whole picture, and the unpadded part of its best grid with an end to each row."""
    grids = [(336, 672), (672, 336), (672, 672), (336, 1008), (1008, 336)]

    def fit(grid: tuple[int, int]) -> tuple[int, int]:
        scale = min(grid[0] / width, grid[1] / height)
        used = min(int(width * scale) * int(height * scale), width * height)
        return used, used - grid[0] * grid[1]

    across, down = (side // 14 for side in max(grids, key=fit))
    if width / height > across / down:
        down -= 2 * ((down - int(round(height * across / width, 7))) // 2)
    else:
        across -= 2 * ((across - int(round(width * down / height, 7))) // 2)
    return 24 * 24 + down * (across + 1)


@pytest.mark.parametrize(
    ("name", "size", "seen"),
    [
        ("qwen2-vl", (1024, 1024), (980, 980)),  # 35 x 35 = 1,225 tokens
        ("qwen2.5-vl", (1024, 1024), (980, 980)),
        ("qwen3-vl", (1024, 1024), (1024, 1024)),  # 32 x 32 = 1,024
        ("qwen2-vl", (1920, 1080), (1316, 728)),
        ("qwen2-vl", (10, 10), (56, 56)),
        ("qwen3-vl", (100, 100), (256, 256)),
        ("qwen2-vl", (28, 28 * 1000), (28, 28 * 200)),
        ("densefusion", (2000, 1000), (950, 475)),
        ("densefusion", (640, 480), (640, 480)),
    ],
)
def test_a_picture_gets_the_sides_of_its_preset(name: str, size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert bounded_size(*size, preset(name).budget) == seen


@pytest.mark.parametrize("name", QWEN)
@settings(max_examples=400, deadline=None, derandomize=True)
@given(width=SIDES, height=SIDES)
@example(width=1, height=12_000)
@example(width=12_000, height=1)
@example(width=1, height=1)
def test_a_qwen_server_resizes_no_picture_again(name: str, width: int, height: int) -> None:
    budget = preset(name).budget
    seen = bounded_size(width, height, budget)
    assert seen[0] * seen[1] <= budget.max_pixels
    assert smart_resize(*seen, budget.multiple_of, budget.min_pixels, budget.max_pixels) == seen
    assert bounded_size(height, width, budget) == seen[::-1]


def test_a_tiny_picture_is_decoded_as_large_as_the_model_wants_it() -> None:
    seen = decode(sized(20, 10), preset("qwen3-vl").budget, 2**28)
    assert (seen.picture.width, seen.picture.height) == (384, 192) and (seen.width, seen.height) == (20, 10)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(width=SIDES, height=SIDES)
@example(width=672, height=672)
def test_an_anyres_picture_leaves_room_for_prompt_and_answer(width: int, height: int) -> None:
    seen = bounded_size(width, height, preset("densefusion").budget)
    # 38: Vicuna's template; 115: the words of the prompt; both by Llama 2's tokenizer.
    longest = max(sampling.max_tokens for sampling in preset("densefusion").ladder)
    assert anyres_tokens(*seen) + 38 + 115 + ANYRES_TOLD * 1.2 + longest <= 4096


def test_the_anyres_tokens_of_a_square_are_the_most() -> None:
    assert anyres_tokens(672, 672) == 2928


def test_a_budget_that_holds_nothing_is_refused() -> None:
    for wrong in ({"max_pixels": 100, "multiple_of": 28}, {"max_pixels": 10, "min_pixels": 20}):
        with pytest.raises(ValueError, match="max_pixels holds neither"):
            PixelBudget(**wrong)


@pytest.mark.parametrize("name", SERVED)
def test_no_served_preset_asks_greedily_twice(name: str) -> None:
    first, *later = preset(name).ladder
    assert len(later) == 2 and set(preset(name).again_for) == set(AGAIN_FOR)
    assert all((rung.temperature, rung.top_p, rung.top_k) == (0.6, 0.95, 20) for rung in later)
    assert len({rung.seed for rung in (first, *later)}) == 3
    assert later[1].max_tokens > first.max_tokens


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl"),
        ("Qwen/Qwen2.5-VL-72B-Instruct-AWQ", "qwen2.5-vl"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl"),
        ("liuhaotian/llava-v1.6-vicuna-7b", "densefusion"),
        ("llava-hf/llava-v1.6-mistral-7b-hf", "densefusion"),
        ("/models/llava_next/", "densefusion"),
        ("/models/densefusion/checkpoint-900", "densefusion"),
        ("/models/llava-next/tiny-qwen2vl", "qwen2-vl"),
    ],
)
def test_a_model_finds_its_preset_by_its_name(model: str, name: str) -> None:
    assert preset_of(model) == name
    assert asking_for(Served, model) == preset(name)


def test_a_model_that_no_preset_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match=r"no preset is known for the model 'gpt-9'.*densefusion, qwen2-vl"):
        asking_for(Served, "gpt-9")
    with pytest.raises(Refused, match=r"qwen2-vl and qwen3-vl: say which"):
        asking_for(Served, "merged-qwen2-vl-qwen3-vl")
    with pytest.raises(UnknownPart, match=r"no --preset 'qwen'.*there is densefusion"):
        asking_for(Served, "gpt-9", Wishes(preset="qwen"))
    assert asking_for(Served, "gpt-9", Wishes(preset="qwen2-vl")) == preset("qwen2-vl")


def test_engines_with_a_way_of_their_own_keep_it() -> None:
    assert asking_for(Experts, "recap-experts") == preset("experts")
    assert asking_for(Fake, "recap-fake") == preset("fake")
    assert asking_for(Fake, "recap-fake", Wishes(preset="qwen3-vl")) == preset("qwen3-vl")
    assert asking_for(Experts, "recap-experts", Wishes(trim=True)) == replace(preset("experts"), trim=True)


@pytest.mark.parametrize("wish", [{"preset": "qwen2-vl"}, {"prompt_file": "p.txt"}, {"external": "experts"}])
def test_the_experts_take_no_prompt_so_none_is_recorded(wish: dict[str, str]) -> None:
    with pytest.raises(Refused, match="takes no prompt"):
        asking_for(Experts, "recap-experts", Wishes(**wish))


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("kind", ["alt-text", "experts"])
def test_external_information_changes_the_prompt_and_the_hash(name: str, kind: str) -> None:
    alone, told = preset(name), asking_for(Served, "", Wishes(preset=name, external=kind))
    assert told.prompt_id == "external-information-1" and told.prompt.count(PLACE) == 1
    assert told.told is not None and (told.told.kind, bool(told.told.revision)) == (kind, kind == "experts")
    assert digest(to_json(told)) != digest(to_json(alone))
    assert (told.budget, told.ladder) == (alone.budget, alone.ladder)


def test_an_unknown_kind_of_external_information_is_refused() -> None:
    with pytest.raises(UnknownPart, match=r"no --external 'web'.*none, alt-text, experts"):
        asking_for(Fake, "recap-fake", Wishes(external="web"))


def worded(folder: Path, words: str | bytes, external: str = "none") -> Asking:
    path = folder / "prompt.txt"
    path.write_bytes(words.encode() if isinstance(words, str) else words)
    return asking_for(Served, "qwen2-vl", Wishes(prompt_file=str(path), external=external))


def test_the_mark_that_windows_puts_before_a_text_is_not_part_of_a_prompt(tmp_path: Path) -> None:
    assert worded(tmp_path, b"\xef\xbb\xbfDescribe it.\r\n").prompt == "Describe it."


def test_a_prompt_file_is_in_the_recipe_with_its_words_and_its_hash(tmp_path: Path) -> None:
    asking = worded(tmp_path, "Décris l'image.\n")
    sha256 = hashlib.sha256("Décris l'image.\n".encode()).hexdigest()
    assert (asking.prompt, asking.prompt_id, asking.prompt_sha256) == ("Décris l'image.", f"file-{sha256[:12]}", sha256)
    assert replace(asking, prompt_id="", prompt="", prompt_sha256="") == replace(
        preset("qwen2-vl"), prompt_id="", prompt=""
    )
    assert worded(tmp_path, f"Look.\n{PLACE}\nDescribe.", "alt-text").told is not None


@pytest.mark.parametrize(
    ("words", "external", "why"),
    [
        (b"\xff\xfe", "none", "is no UTF-8 text at byte 0"),
        (" \n", "none", "has 0 characters; 1 to"),
        ("a" * (MAX_CHARACTERS + 1), "none", f"has {MAX_CHARACTERS + 1} characters"),
        ("<image>\nDescribe.", "none", "has '<image>': the engine's chat template"),
        ("Describe. ASSISTANT:", "none", "has 'ASSISTANT:'"),
        (f"Describe. {PLACE}", "none", "or --external"),
        ("Describe.", "experts", "in it once"),
        (f"{PLACE} {PLACE}", "alt-text", "in it once"),
    ],
)
def test_a_prompt_file_that_does_not_fit_is_refused(
    tmp_path: Path, words: str | bytes, external: str, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        worded(tmp_path, words, external)


def test_a_prompt_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not read: No such file"):
        asking_for(Served, "qwen2-vl", Wishes(prompt_file=str(tmp_path / "none.txt")))


def test_prompts_have_one_place_at_most_and_the_longest_block_fits_its_room() -> None:
    assert all(words.count(PLACE) <= 1 for words in PROMPTS.values())
    box = ("person", (0.1, 0.2, 0.3, 0.4))
    full = Information(alt_text="word " * 900, boxes=(box,) * 99, lines=("TEXT 12",) * 99)
    for name in SERVED:
        told = PRESETS[name].told
        assert told is not None and 0.7 * told.most_tokens < tokens(block(full, told)) <= told.most_tokens


def test_the_command_line_says_how_an_engine_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text(f"Say what is seen.\n{PLACE}")
    arguments = ["--input", "in", "--output", "out", "--engine", "fake", "--preset", "qwen2.5-vl", "--trim"]
    arguments += ["--external", "alt-text", "--prompt-file", str(path)]
    recipe = recipe_from(DATACOMP, tyro.cli(options_class(DATACOMP), args=arguments))
    wishes = Wishes(preset="qwen2.5-vl", prompt_file=str(path), external="alt-text", trim=True)
    assert recipe.asking == asking_for(Fake, "recap-fake", wishes) and recipe.asking.trim
    echo = next(each for each in recipe.filters if each.name == "echo")
    assert echo.settings["prompt"] == recipe.asking.prompt


def test_the_readme_s_table_of_presets_is_what_they_are() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    for name in SERVED:
        asking = preset(name)
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"`{asking.prompt_id}`" in row
        assert f"{asking.ladder[0].max_tokens}, at last {asking.ladder[-1].max_tokens}" in row
    for name, factor in (("qwen2-vl", 28), ("qwen2.5-vl", 28), ("qwen3-vl", 32)):
        assert preset(name).budget.max_pixels == 1280 * factor * factor

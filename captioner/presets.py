"""Presets: how each engine and each family of models is asked when nobody says otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from captioner.errors import PicturesOnly, Refused, UnknownPart
from captioner.experts.weights import revision
from captioner.external import KINDS, PLACE
from captioner.prompts import prompt, prompt_from
from captioner.recipe import Asking, Telling
from captioner.types import FrameBudget, Kind, PixelBudget, Sampling

# 1280 * 28 * 28: the image budget that ELVA gives Qwen2-VL; the experts need no more (their inputs are 416 and 960 px).
ONE_MEGAPIXEL = 1280 * 28 * 28

# ELVA's frames, by Qwen2-VL's own example: one a second of at most 360 * 420 px, 90 tokens a frame where two make a
# pair. 128 frames are two minutes, twice WebVid's longest: 11,520 tokens in pairs, 23,040 one by one.
FRAME_PIXELS, MOST_FRAMES = 360 * 420, 128
# Fewer than 128 * 28 * 28 px a frame would be enlarged by Qwen's own tools (qwen-vl-utils' VIDEO_MIN).
LEAST_FRAME_TOKENS = 128
VIDEO_PROMPT = "describe-video-1"

# What a second ask can mend; a refusal or an echo comes back the same.
AGAIN_FOR = ("empty_caption", "repetitive_caption", "too_short", "truncated_caption")

# LLaVA-1.6's grids of 336 px tiles are 336x672, 672x672 and 336x1008, either way up: none holds more than 672^2 px.
# A tile is 24x24 tokens. Most tokens has a square, whose grid loses nothing to padding: 24 * 24 for the whole picture,
# 48 * 48 for the grid and 48 for its rows' ends, in all 2,928.
ANYRES_PIXELS = 672 * 672
# What they leave of the context's 4,096 is 1,168. By Llama 2's tokenizer Vicuna's template takes 38 of it and the words
# of external-information-1 take 115; an answer gets 592 (DenseFusion's have 191 words on average, some 260 tokens).
# The 423 left are for what is told: 350 as estimated, which letters without sense exceed by a fifth.
ANYRES_TOLD, ANYRES_ANSWER = 350, 592


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How a family of models is asked. models: what the names of its models have in them, "" for no served model.

    told: how much external information it has room for; its prompt then is external_prompt_id's.
    """

    asking: Asking
    models: str = ""
    told: Telling | None = None
    external_prompt_id: str = "external-information-1"


def _ladder(first: Sampling, more_tokens: int) -> tuple[Sampling, ...]:
    """The first ask, and two more that draw: what loops greedily loops again (Qwen3-VL#1611, Qwen-VL#175), and these
    are the numbers that were seen to help. The last may also be longer, as a cut answer needs."""
    again = replace(first, temperature=0.6, top_p=0.95, top_k=20, seed=1)
    return first, again, replace(again, seed=2, max_tokens=more_tokens)


def _pairs(factor: int, least: int) -> FrameBudget:
    """Frames for a Qwen-VL, whose patches of factor^2 px span two frames; least: tokens of the smallest frame."""
    square = factor * factor
    pixels = PixelBudget(max_pixels=FRAME_PIXELS, multiple_of=factor, min_pixels=least * square, max_aspect=200)
    return FrameBudget(pixels=pixels, max_frames=MOST_FRAMES, multiple_of=2)


def _qwen(factor: int, least: int, first: Sampling) -> Asking:
    """Qwen-VL's: at most 1,280 tokens of factor^2 px a picture, as ELVA's; its servers refuse an aspect over 200.

    least: tokens of the smallest picture, by each checkpoint's preprocessor_config.json.
    """
    square = factor * factor
    budget = PixelBudget(max_pixels=1280 * square, multiple_of=factor, min_pixels=least * square, max_aspect=200)
    return Asking(
        prompt_id="describe-image-1",
        prompt=prompt("describe-image-1"),
        budget=budget,
        ladder=_ladder(first, more_tokens=768),
        again_for=AGAIN_FOR,
        frames=_pairs(factor, LEAST_FRAME_TOKENS if factor == 28 else 64),
    )


PRESETS = {
    "experts": Preset(
        asking=Asking(
            prompt_id="experts-grammar-1",
            prompt=prompt("experts-grammar-1"),
            budget=PixelBudget(max_pixels=ONE_MEGAPIXEL),
            # The experts are deterministic: a second ask words the same facts anew, a third would add nothing.
            ladder=(Sampling(max_tokens=512), Sampling(max_tokens=512, seed=1)),
            again_for=AGAIN_FOR,
            # They take 0.8 s a frame, and need more pixels than a served model to be sure of what they see.
            frames=FrameBudget(pixels=PixelBudget(max_pixels=960 * 540), max_frames=6),
        )
    ),
    "fake": Preset(
        asking=Asking(
            prompt_id="describe-image-1",
            prompt=prompt("describe-image-1"),
            budget=PixelBudget(max_pixels=ONE_MEGAPIXEL, multiple_of=28),
            ladder=(
                Sampling(max_tokens=512),
                Sampling(max_tokens=512, temperature=0.6, top_p=0.95, seed=1),
                Sampling(max_tokens=768, temperature=0.8, top_p=0.95, seed=2),
            ),
            again_for=AGAIN_FOR,
            frames=_pairs(28, LEAST_FRAME_TOKENS),
        ),
        told=Telling(kind="alt-text", most_tokens=1000),
    ),
    "densefusion": Preset(
        asking=Asking(
            prompt_id="describe-in-detail-1",
            prompt=prompt("describe-in-detail-1"),
            budget=PixelBudget(max_pixels=ANYRES_PIXELS),
            ladder=_ladder(Sampling(max_tokens=512), more_tokens=ANYRES_ANSWER),
            again_for=AGAIN_FOR,
        ),
        models=r"llava-?v?1\.6|llava-next|densefusion",
        told=Telling(kind="alt-text", most_tokens=ANYRES_TOLD, boxes=8, lines=8),
    ),
    # The servers' contexts are 32,768 tokens and more: a picture, 1,000 told and 768 answered need 3,100.
    "qwen2-vl": Preset(
        asking=_qwen(28, least=4, first=Sampling(max_tokens=512)),
        models=r"qwen2-?vl",
        told=Telling(kind="alt-text", most_tokens=1000),
    ),
    "qwen2.5-vl": Preset(
        asking=_qwen(28, least=4, first=Sampling(max_tokens=512)),
        models=r"qwen2\.?5-?vl",
        told=Telling(kind="alt-text", most_tokens=1000),
    ),
    # Patches of 16 px merged two by two, 256^2 px at least, and sampling by its own generation_config.json.
    "qwen3-vl": Preset(
        asking=_qwen(32, least=64, first=Sampling(max_tokens=512, temperature=0.7, top_p=0.8, top_k=20)),
        models=r"qwen3-?vl",
        told=Telling(kind="alt-text", most_tokens=1000),
    ),
}
SERVED = tuple(name for name, each in PRESETS.items() if each.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a command line says of how an engine is asked.

    preset: "" for the model's own. prompt_file: "" for the preset's prompt. external: one of KINDS. max_tokens: of the
    first ask, 0 for the preset's; later asks keep their proportion to it.
    """

    preset: str = ""
    prompt_file: str = ""
    external: str = "none"
    trim: bool = False
    max_tokens: int = 0


NO_WISHES = Wishes()


def asking_for(engine: type, model: str, wishes: Wishes = NO_WISHES, kind: Kind = "image") -> Asking:
    """How an engine is asked for a model's captions: its own way, or the preset's that is wished or fits the model.

    kind: what it is asked about. Raises Refused where nothing fits, or where a wish does not fit the engine;
    PicturesOnly where all fits but videos.
    """
    if kind == "video":
        return _about_videos(engine, model, wishes)
    return replace(_about_pictures(engine, model, wishes), frames=None)


def _about_videos(engine: type, model: str, wishes: Wishes) -> Asking:
    if wishes.external != "none":
        raise PicturesOnly("--external is for pictures: leave it out for videos")
    asking = _about_pictures(engine, model, wishes)
    if asking.frames is None:
        raise PicturesOnly("this preset asks about one picture at a time: give --preset qwen2-vl or another for videos")
    if wishes.prompt_file or not asking.prompt:
        return asking
    return replace(asking, prompt_id=VIDEO_PROMPT, prompt=prompt(VIDEO_PROMPT))


def _about_pictures(engine: type, model: str, wishes: Wishes) -> Asking:
    own = getattr(engine, "ASKING", None)
    if isinstance(own, Asking) and not own.prompt:
        if replace(wishes, trim=False) != NO_WISHES:
            raise Refused(
                f"{engine.__name__} takes no prompt: leave out --preset, --prompt-file, --external and --max-tokens"
            )
        return replace(own, trim=wishes.trim)
    chosen = _chosen(own, model, wishes.preset)
    asking = with_max_tokens(replace(chosen.asking, trim=wishes.trim), wishes.max_tokens)
    if wishes.external not in KINDS:
        raise UnknownPart(f"no --external {wishes.external!r} here; there is {', '.join(KINDS)}")
    if wishes.external != "none":
        asking = _telling(asking, chosen, wishes.external)
    return _worded(asking, wishes.prompt_file) if wishes.prompt_file else asking


def with_max_tokens(asking: Asking, max_tokens: int) -> Asking:
    """Asked so that a first answer has at most so many tokens, 0 for as many as before. Raises Refused."""
    if max_tokens < 0:
        raise Refused(f"--max-tokens {max_tokens}: 1 or more would be right, or 0 for the preset's")
    if not max_tokens:
        return asking
    first = asking.ladder[0].max_tokens
    ladder = tuple(replace(each, max_tokens=max(1, each.max_tokens * max_tokens // first)) for each in asking.ladder)
    return replace(asking, ladder=ladder)


def _chosen(own: Asking | None, model: str, name: str) -> Preset:
    if name and name not in SERVED:
        raise UnknownPart(f"no --preset {name!r} here; there is {', '.join(SERVED)}")
    if not name and own is not None:
        return Preset(asking=own, told=PRESETS["fake"].told)
    return PRESETS[name or preset_of(model)]


def preset_of(model: str) -> str:
    """The preset whose models are called like this one: by the last part of its name or path, else by the whole.

    Raises Refused when none or several fit.
    """
    whole = model.lower().replace("_", "-").rstrip("/")
    for spelled in (whole.rpartition("/")[2], whole):
        found = [name for name in SERVED if re.search(PRESETS[name].models, spelled)]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(f"the model {model!r} is called like those of {' and '.join(found)}: say which by --preset")
    raise Refused(f"no preset is known for the model {model!r}: give --preset, one of {', '.join(SERVED)}")


def _telling(asking: Asking, chosen: Preset, kind: str) -> Asking:
    if chosen.told is None:
        raise Refused("this engine has no room for external information: leave out --external")
    told = replace(chosen.told, kind=kind, revision=revision() if kind == "experts" else "")
    prompt_id = chosen.external_prompt_id
    return replace(asking, prompt_id=prompt_id, prompt=prompt(prompt_id), told=told)


def _worded(asking: Asking, path: str) -> Asking:
    prompt_id, words, sha256 = prompt_from(path)
    if words.count(PLACE) != (asking.told is not None):
        right = f"{PLACE} in it once" if asking.told is not None else f"no {PLACE} in it, or --external"
        raise Refused(f"--prompt-file {path}: with this --external a prompt wants {right}")
    return replace(asking, prompt_id=prompt_id, prompt=words, prompt_sha256=sha256)


def preset(name: str) -> Asking:
    """How a preset asks about pictures by default. Raises UnknownPart."""
    if name not in PRESETS:
        raise UnknownPart(f"no preset for {name!r} here; there is {', '.join(PRESETS)}")
    return replace(PRESETS[name].asking, frames=None)

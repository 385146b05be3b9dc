"""The embedded engine says true things about real pictures, and nothing where it knows nothing."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from captioner.engines import ENGINES
from captioner.engines.experts import Experts
from captioner.errors import EngineUnavailable, RequestRefused, UnknownPart
from captioner.experts import weights
from captioner.experts.facts import Facts, Look, Tag, Thing
from captioner.experts.fusion import SAME_AS, describe
from captioner.experts.look import look
from captioner.experts.objects import COMPATIBLE
from captioner.experts.sessions import Floats
from captioner.experts.sight import Sight
from captioner.experts.tags import tags
from captioner.experts.taxonomy import KINDS, indices
from captioner.experts.text import quotable
from captioner.experts.voice import Voice, counted, plural, with_article
from captioner.registry import build, part
from captioner.types import CaptionRequest, Picture, Sampling

PHOTOS = Path(__file__).parents[1] / "pipelines/demo/photos"
BALLS = indices("429 430 522 574 722 768 805 852 890")
MODEM, PING_PONG_BALL, PEKINGESE, CASTLE = 662, 722, 154, 483


@pytest.fixture(scope="module")
def sight() -> Sight:
    return Sight(ocr=False)


@pytest.fixture(scope="module")
def reading() -> Iterator[Experts]:
    with asyncio.Runner() as runner:
        engine = Experts()
        runner.run(engine.__aenter__())
        yield engine
        runner.run(engine.__aexit__(None, None, None))


def request_of(picture: Image.Image, attempt: int = 0) -> CaptionRequest:
    jpeg = io.BytesIO()
    picture.convert("RGB").save(jpeg, "JPEG", quality=92)
    seen = Picture(jpeg=jpeg.getvalue(), width=picture.width, height=picture.height)
    sha256 = hashlib.sha256(picture.tobytes()).hexdigest()
    return CaptionRequest(
        images=(seen,), prompt="", sampling=Sampling(max_tokens=256), media_sha256=sha256, attempt=attempt
    )


def photo(name: str) -> Image.Image:
    with Image.open(next(PHOTOS.glob(f"{name}*.jpg"))) as opened:
        return opened.convert("RGB")


def candies() -> Image.Image:
    """Coloured discs with a highlight on white, as sweets strewn on a table look."""
    picture = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(picture)
    colours = ["#e01020", "#10c040", "#2050e0", "#f08010", "#401010"]
    for n, (x, y) in enumerate([(90, 80), (300, 120), (520, 90), (150, 330), (340, 300), (540, 340), (420, 410)]):
        draw.ellipse((x - 38, y - 38, x + 38, y + 38), fill=colours[n % 5])
        draw.ellipse((x - 18, y - 22, x - 4, y - 8), fill="white")
    return picture


def board() -> Image.Image:
    """Chips, pins and tracks on green, as a circuit board looks."""
    picture = Image.new("RGB", (640, 480), "#1f7a2f")
    draw = ImageDraw.Draw(picture)
    for n in range(12):
        draw.line((0, 20 + 40 * n, 640, 20 + 40 * n), fill="#39a24c", width=3)
    for x, y, wide in [(60, 60, 150), (300, 90, 90), (380, 260, 170), (110, 280, 120)]:
        draw.rectangle((x, y, x + wide, y + wide * 2 // 3), fill="#181818")
        for pin in range(0, wide, 12):
            draw.rectangle((x + pin, y - 8, x + pin + 5, y), fill="#c0c0c0")
    return picture


def probabilities(**of_class: float) -> Floats:
    """Three views that agree: _662=0.9 gives class 662 a share of 0.9, and the rest to nothing that is spoken of."""
    row = np.zeros(1000, dtype=np.float32)
    for name, share in of_class.items():
        row[int(name[1:])] = share
    row[111] += 1 - row.sum()  # nematode: in no kind
    return np.stack([row] * 3)


def facts_of(picture: Image.Image, **changed: object) -> Facts:
    seen = Facts(tags=(), things=(), more=frozenset(), lines=(), lines_found=0, look=look(picture))
    return replace(seen, **changed)  # type: ignore[arg-type]


def dog(left: float, right: float) -> Thing:
    return Thing(name="dog", score=0.9, agreed=0.8, hedged=False, box=(left, 0.3, right, 0.6))


def test_the_weights_are_the_ones_whose_digests_are_written_down() -> None:
    for name, digest in weights.SHA256.items():
        assert hashlib.sha256((weights.FOLDER / name).read_bytes()).hexdigest() == digest


def test_naming_the_engine_in_a_recipe_loads_no_model() -> None:
    code = (
        "import sys; from captioner.engines import ENGINES; from captioner.registry import part;"
        "assert part(ENGINES, 'experts', ocr=False).settings == {'ocr': False};"
        "assert not {'onnxruntime', 'rapidocr', 'cv2'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UnknownPart, match="did you mean 'ocr'"):
        build(ENGINES, "experts", {"orc": False})


def test_a_part_carries_every_setting_and_the_revision_is_fixed() -> None:
    assert part(ENGINES, "experts").settings == {"ocr": True}
    assert weights.revision() == Experts.REVISION and len(Experts.REVISION) == 12


def test_asking_before_entering_is_an_error_that_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="enter the engine first"):
        asyncio.run(Experts().caption(request_of(candies())))


@pytest.mark.parametrize("jpeg", [b"", b"GIF89a", b"\xff\xd8\xff\xe0 cut short"])
def test_bytes_that_are_no_picture_are_refused_not_captioned(reading: Experts, jpeg: bytes) -> None:
    asked = replace(request_of(candies()), images=(Picture(jpeg=jpeg, width=1, height=1),))
    with pytest.raises(RequestRefused):
        asyncio.run(reading.caption(asked))


def test_no_ball_and_no_modem_can_ever_be_named() -> None:
    assert "sports ball" not in COMPATIBLE
    assert not any(kind.indices & BALLS for kind in KINDS)
    assert all(kind.leaves == "silent" for kind in KINDS if MODEM in kind.indices)
    assert tags(probabilities(_722=0.99)) == ()
    (equipment,) = tags(probabilities(_662=0.95))
    assert equipment.phrase == "electronic equipment"


@pytest.mark.parametrize("picture", [candies(), board()], ids=["candies", "board"])
def test_candies_are_no_balls_and_a_board_is_no_modem(sight: Sight, picture: Image.Image) -> None:
    words = set(describe(sight.see(picture), Voice(seed="any")).lower().replace(",", " ").replace(".", " ").split())
    assert not words & {"ball", "balls", "modem", "apple", "fruit", "food", "screen", "keyboard"}


def test_the_deepest_certain_kind_is_told_and_unsure_ones_are_hedged() -> None:
    assert tags(probabilities(_154=0.9))[0].resembles == "Pekingese"
    spread = tags(probabilities(_154=0.3, _200=0.3, _250=0.2))[0]
    assert (spread.name, spread.resembles, spread.hedged) == ("dog", "", False)
    assert tags(probabilities(_154=0.3, _200=0.3))[0].hedged
    assert tags(probabilities(_281=0.35, _154=0.35))[0].name == "mammal"
    assert tags(probabilities(_154=0.3)) == ()


def test_views_that_disagree_make_nothing_certain() -> None:
    views = probabilities(_483=0.95)
    views[2] = probabilities(_483=0.2)[0]
    assert tags(views) == () and tags(views[:2])[0].name == "building"


def test_only_lines_that_are_surely_read_are_quoted() -> None:
    assert quotable("Conference Centre", 0.96) and quotable("NO PARKING", 0.99)
    assert not quotable("WivennioePark", 0.99), "a capital inside a word is a space that was not seen"
    assert not quotable("Conference Centre", 0.90) and not quotable("the", 0.96) and not quotable("A1", 1.0)


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("owl", "an owl", "two owls"),
        ("unicycle", "a unicycle", "two unicycles"),
        ("person", "a person", "two people"),
        ("wine glass", "a wine glass", "two wine glasses"),
        ("bus", "a bus", "two buses"),
        ("sheep", "a sheep", "two sheep"),
        ("piece of fruit", "a piece of fruit", "two pieces of fruit"),
    ],
)
def test_articles_and_plurals_are_english(name: str, one: str, many: str) -> None:
    assert (with_article(name), counted(name, 2), plural(name)) == (one, many, many.removeprefix("two "))


def test_two_boxes_are_two_and_a_third_suspected_makes_them_at_least_two() -> None:
    facts = facts_of(candies(), things=(dog(0.05, 0.25), dog(0.75, 0.95)))
    text = describe(facts, Voice(seed="a")).lower()
    assert "two dogs, one at the left and one at the right" in text and "at least" not in text
    assert "at least two dogs" in describe(replace(facts, more=frozenset({"dog"})), Voice(seed="a")).lower()


def test_a_tag_and_the_boxes_it_means_are_told_once() -> None:
    tag = Tag(name="dog", phrase="a dog", level="group", score=0.9, hedged=False, resembles="Pekingese")
    text = describe(facts_of(candies(), tags=(tag,), things=(dog(0.05, 0.25),)), Voice(seed="a"))
    assert text.lower().count("dog") == 1 and "resembling the Pekingese" in text
    assert {name for names in SAME_AS.values() for name in names} <= {kind.name for kind in KINDS}


def test_colours_are_where_they_are_said_to_be() -> None:
    picture = Image.new("RGB", (600, 400), (20, 60, 200))
    picture.paste((200, 20, 30), (400, 0, 600, 400))
    seen = look(picture)
    assert [column.broad[0][0] for column in seen.columns] == ["blue", "blue", "red"]
    assert "left and the centre are almost entirely blue, while the right is almost entirely red" in describe(
        facts_of(picture), Voice(seed="a")
    )


@pytest.mark.parametrize("x", [60, 300, 540])
def test_a_vivid_patch_is_told_with_its_place(x: int) -> None:
    picture = Image.new("RGB", (600, 600), (128, 128, 128))
    picture.paste((230, 20, 30), (x - 40, 260, x + 40, 340))
    (accent,) = look(picture).accents
    assert (accent.colour, accent.place) == ("red", {60: "the left", 300: "the middle", 540: "the right"}[x])


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.new("RGB", (640, 480), (30, 60, 200)), "blue"),
        (Image.new("RGB", (3000, 4), (0, 160, 0)), "panoramic"),
        (Image.new("L", (1, 1), 255), "white"),
        (Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)), "detail all over"),
        (Image.linear_gradient("L").resize((640, 480)), "no colour"),
    ],
    ids=["blue", "line", "dot", "noise", "gradient"],
)
def test_what_is_no_photograph_gets_a_modest_sentence(sight: Sight, picture: Image.Image, said: str) -> None:
    facts = sight.see(picture.convert("RGB"))
    text = describe(facts, Voice(seed="b"))
    assert (facts.tags, facts.things) == ((), ()) and text.endswith(".") and len(text.split()) >= 6
    assert said in text or (said == "no colour" and "without colour" in text)


# What a true caption of each photograph of the demo may and must say: (one of these words, none of these).
TRUE_OF = {
    "aitzgorri": ({"mountain"}, {"animal", "person", "water"}),
    "friends": ({"dog", "dogs", "mammal", "animal"}, {"cat", "person", "people"}),
    "life": ({"landscape", "green"}, {"animal", "building", "mountain"}),
    "picosdeeuropa": ({"mountain"}, {"animal", "person", "building"}),
    "picture_0b": ({"red"}, {"animal", "orange", "strawberry", "bottle"}),
    "picture_1a": ({"paintbrush", "blue"}, {"person", "animal", "flower"}),
    "seeding": ({"olive", "green", "black"}, {"animal", "bird", "person"}),
    "sunset": ({"blue"}, {"animal", "fountain", "person"}),
    "umang": ({"gradations"}, {"animal", "screen", "flower", "person"}),
    "wine": ({"brown"}, {"animal", "person", "cup"}),
}


@pytest.mark.parametrize("name", TRUE_OF)
def test_the_photographs_of_the_demo_are_described_truly(sight: Sight, name: str) -> None:
    facts = sight.see(photo(name))
    for attempt in range(3):
        words = set(
            describe(facts, Voice(seed=name, attempt=attempt)).lower().replace(",", "").replace(".", "").split()
        )
        told, never = TRUE_OF[name]
        assert told & words and not never & words


def test_equal_pictures_get_equal_captions_and_a_second_ask_other_words(reading: Experts) -> None:
    first, again = (asyncio.run(reading.caption(request_of(photo("picos")))) for _ in range(2))
    second = asyncio.run(reading.caption(request_of(photo("picos"), attempt=1)))
    assert first == again and first.facts == second.facts and first.text != second.text


def test_the_facts_of_a_caption_are_plain_json_with_boxes_as_fractions(reading: Experts) -> None:
    caption = asyncio.run(reading.caption(request_of(photo("friends").resize((400, 600)))))
    facts = json.loads(json.dumps(caption.facts, allow_nan=False))
    assert facts == caption.facts and facts["engine"] == "experts" and (facts["width"], facts["height"]) == (400, 600)
    assert {"tags", "objects", "text", "look"} <= facts.keys() and set(facts["tags"][0]) >= {"name", "level", "score"}
    assert all(0 <= edge <= 1 for found in facts["objects"] + facts["text"] for edge in found["box"])
    assert (caption.finish_reason, caption.prompt_tokens) == ("stop", None)
    assert caption.completion_tokens == len(caption.text.split()) and caption.text.endswith(".")


def test_large_print_is_read_quoted_and_placed_unless_ocr_is_off(reading: Experts, sight: Sight) -> None:
    picture = Image.new("RGB", (900, 600), "#f4f0e0")
    ImageDraw.Draw(picture).text((120, 60), "Harbour closed", fill="#202020", font=ImageFont.load_default(size=80))
    caption = asyncio.run(reading.caption(request_of(picture)))
    assert '"Harbour closed"' in caption.text and caption.facts is not None
    left, top, right, bottom = caption.facts["text"][0]["box"]
    assert 0.05 < left < right < 0.85 and 0.05 < top < bottom < 0.3
    assert sight.see(picture).lines == ()


def video_of(*frames: Image.Image) -> CaptionRequest:
    images = tuple(request_of(frame).images[0] for frame in frames)
    return replace(request_of(frames[0]), images=images, times=tuple(map(float, range(len(images)))))


def test_of_a_video_is_told_what_changes_and_when(reading: Experts) -> None:
    frames = [Image.new("RGB", (320, 240), colour) for colour in ("red", "red", "blue", "blue")]
    caption = asyncio.run(reading.caption(video_of(*frames)))
    assert "video" in caption.text and "between seconds 1 and 2" in caption.text
    assert "main colours are red, at the end blue" in caption.text
    assert caption.facts is not None and [each["second"] for each in caption.facts["frames"]] == [0, 1, 2, 3]


def test_of_a_video_is_told_what_is_written_and_how_long(reading: Experts) -> None:
    def sign(words: str) -> Image.Image:
        board = Image.new("RGB", (900, 600), "#f4f0e0")
        ImageDraw.Draw(board).text((120, 60), words, fill="#202020", font=ImageFont.load_default(size=80))
        return board

    text = asyncio.run(
        reading.caption(video_of(sign("Harbour closed"), sign("Harbour closed"), sign("Open again")))
    ).text
    assert 'Up to second 1 one can read "Harbour closed".' in text
    assert 'At the end one can read "Open again".' in text
    assert "differ little" in text or "little changes" in text.lower()


def test_a_video_whose_frames_are_one_says_nothing_of_change(reading: Experts) -> None:
    frame = Image.new("RGB", (320, 240), "green")
    still, pair = (asyncio.run(reading.caption(video_of(*frames))).text for frames in ([frame], [frame, frame]))
    assert "frame looked at" not in still and "second" not in still
    assert "differ little" in pair or "little changes" in pair.lower()


def test_the_look_measures_light(sight: Sight) -> None:
    dark: Look = look(Image.new("RGB", (90, 90), (10, 10, 12)))
    assert dark.lightness < 10 and look(Image.new("RGB", (90, 90), "white")).lightness > 99

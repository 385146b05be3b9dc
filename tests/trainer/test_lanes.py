"""Lanes over real corpora: one order for any number of ranks and threads, exact from any row on, bad ones counted."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

from captioner.errors import CorruptState, Refused  # noqa: E402
from shards.reading import open_corpus  # noqa: E402
from tests.trainer import made  # noqa: E402
from trainer.data.clips import Look  # noqa: E402
from trainer.data.entries import Feed, Reader  # noqa: E402
from trainer.data.feeds import open_feed  # noqa: E402
from trainer.data.lane import Lane, Order  # noqa: E402
from trainer.data.loader import Ahead, Batch, Loader  # noqa: E402
from trainer.parallel import lanes_of  # noqa: E402
from trainer.recipes import STAGES  # noqa: E402
from trainer.stage import Pictures, Stage  # noqa: E402

LANES, ROWS = 4, 10
SMALL = Pictures(mode="train", max_side=96, tokens=13)
STAGE = replace(STAGES["eve-v2-1"], pictures=SMALL)
ORDER = Order(lanes=LANES, budget=256, window=3, block=1)


def spelled(text: str) -> list[int]:
    return [1 + ord(letter) for letter in text]


def reader(stage: Stage = STAGE, **more: object) -> Reader:
    return Reader(stage=stage, tokenize=spelled, image_token_id=0, patch=32, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.corpus(tmp_path_factory.mktemp("corpus"), shards=3, per_shard=20)


@pytest.fixture(scope="module")
def feeds(out: Path) -> list[Feed]:
    return [open_feed(f"recap:2={out}"), open_feed(f"web:1={out}")]


def keys(lane: Lane, rows: int) -> list[list[str]]:
    return [[each.entry.key for each in row.samples] for row in itertools.islice(lane, rows)]


def read(feeds: list[Feed], world: int, threads: int, steps: int = 4) -> list[list[Batch]]:
    """What all ranks read, step by step, lanes in order."""
    ranks: list[list[list[Batch]]] = []
    for rank in range(world):
        mine = lanes_of(rank, world, LANES)
        with Loader(feeds, reader(), ORDER, mine=mine, ahead=Ahead(threads=threads, steps=2)) as loader:
            ranks.append(list(itertools.islice(loader, steps)))
    return [sorted(itertools.chain(*step), key=lambda each: each.lane) for step in zip(*ranks, strict=True)]


def equal(ours: list[list[Batch]], theirs: list[list[Batch]]) -> bool:
    pairs = zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True)
    return all(
        torch.equal(one.ids_1T, other.ids_1T)
        and torch.equal(one.labels_1T, other.labels_1T)
        and len(one.pictures_F3HW) == len(other.pictures_F3HW)
        and all(torch.equal(*both) for both in zip(one.pictures_F3HW, other.pictures_F3HW, strict=True))
        for one, other in pairs
    )


@pytest.mark.parametrize(("world", "threads"), [(1, 2), (1, 4), (2, 1), (4, 3)])
def test_a_step_is_the_same_for_any_number_of_ranks_and_threads(feeds: list[Feed], world: int, threads: int) -> None:
    assert equal(read(feeds, world, threads), read(feeds, 1, 1))


def test_three_ranks_cannot_share_four_rows() -> None:
    with pytest.raises(Refused, match="4 rows a step do not share out among 3 ranks"):
        lanes_of(0, 3, LANES)


@pytest.mark.parametrize("at", range(ROWS))
def test_a_lane_goes_on_from_any_row_as_if_nothing_had_happened(feeds: list[Feed], at: int) -> None:
    whole = keys(Lane(1, feeds, reader(), ORDER), ROWS + 6)
    row = next(itertools.islice(Lane(1, feeds, reader(), ORDER), at, None))
    position = json.loads(json.dumps(row.position))
    again = Lane(1, feeds, reader(), ORDER, position)
    assert keys(again, 6) == whole[at + 1 : at + 7]


def test_an_epoch_has_every_captioned_sample_once_and_the_next_another_order(out: Path) -> None:
    feed = open_feed(str(out))
    order = replace(ORDER, lanes=1, window=2)
    lane = Lane(0, [feed], reader(), order)
    seen = list(itertools.chain(*keys(lane, 200)))
    first, second = seen[: feed.samples], seen[feed.samples : 2 * feed.samples]
    captioned = {f"{shard.name}/{row.key}" for shard in open_corpus(str(out))[1] for row in shard.rows()}
    assert len(captioned) == feed.samples == 51
    # Samples that found no row wait for the next window: an epoch's border is that blurred.
    assert len(captioned - set(first)) <= 4 and first != second


def test_a_mixture_has_the_shares_it_was_given(feeds: list[Feed]) -> None:
    rows = itertools.islice(Lane(0, feeds, reader(), ORDER), 40)
    words = Counter("alt text" in each.entry.turns[1].text for row in rows for each in row.samples)
    assert words[True] / words.total() == pytest.approx(1 / 3, abs=0.03)


def test_a_caption_and_its_picture_keep_together(out: Path) -> None:
    by_alt_text = {row.original_caption: row.sha256 for shard in open_corpus(str(out))[1] for row in shard.rows()}
    for row in itertools.islice(Lane(0, [open_feed(f"web={out}")], reader(), ORDER), 5):
        for sample in row.samples:
            assert sample.entry.fetch is not None
            assert sha256(sample.entry.fetch()[0]).hexdigest() == by_alt_text[sample.entry.turns[1].text]


def test_labels_are_the_caption_and_its_newline(out: Path) -> None:
    row = next(iter(Lane(0, [open_feed(str(out))], reader(), ORDER)))
    for sample in row.samples:
        assert sample.grid is not None
        text = spelled(sample.entry.turns[1].text + "\n")
        assert sample.example.ids == [0] * sample.grid.tokens + text
        assert sample.example.labels == [-100] * sample.grid.tokens + text


def test_what_is_held_out_is_left_out_and_only_that_is_judged(out: Path) -> None:
    feed = open_feed(str(out))
    trained, judged = Counter[str](), Counter[str]()
    for counted, own in ((trained, reader(hold_out=0.4)), (judged, reader(hold_out=0.4, held_out=True))):
        for row in itertools.islice(Lane(0, [feed], own, replace(ORDER, lanes=1)), 60):
            counted.update(each.entry.key for each in row.samples)
    assert len(trained) + len(judged) == feed.samples and not trained.keys() & judged.keys()
    assert 0.2 < len(judged) / feed.samples < 0.6


def spoilt(feed: Feed, bad: set[str]) -> Feed:
    """The feed, with other bytes for some of its pictures."""

    class Spoilt:
        def __init__(self, part: object) -> None:
            self.part, self.samples = part, part.samples  # type: ignore[attr-defined]

        def entries(self, start: int, stop: int) -> Iterator[object]:
            there = self.part.entries(start, stop)  # type: ignore[attr-defined]
            return [replace(each, fetch=lambda: [b"<html>"]) if each.key in bad else each for each in there]

    return replace(feed, parts=[Spoilt(part) for part in feed.parts])  # type: ignore[misc]


def test_a_bad_picture_leaves_its_row_and_is_counted(out: Path) -> None:
    feed = open_feed(str(out))
    row = next(iter(Lane(0, [feed], reader(), ORDER)))
    bad = row.samples[0]
    with Loader([spoilt(feed, {bad.entry.key})], reader(), ORDER, mine=[0]) as loader:
        batch = next(iter(loader))[0]
    assert batch.bad == {"undecodable": 1} and batch.samples == len(row.samples) - 1
    assert batch.ids_1T.shape[1] == row.tokens - bad.tokens
    assert batch.positions_1T[0, 0] == 0 and int((batch.positions_1T == 0).sum()) == batch.samples


def test_a_row_of_nothing_but_bad_pictures_teaches_nothing(out: Path) -> None:
    feed = open_feed(str(out))
    everything = {entry.key for part in feed.parts for entry in part.entries(0, 99)}
    with Loader([spoilt(feed, everything)], reader(), ORDER, mine=[0]) as loader:
        batch = next(iter(loader))[0]
        assert (batch.samples, batch.targets, batch.ids_1T.shape) == (0, 0, (1, 1))
        with pytest.raises(Refused, match="100 pictures in a row did not decode"):
            list(itertools.islice(loader, 100))


def test_bytes_that_were_not_captioned_are_not_trained_on(tmp_path: Path) -> None:
    out = made.corpus(tmp_path, shards=1, per_shard=5)
    tar = next((out / "data").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    at = data.index(b"\xff\xd8") + 300
    data[at] ^= 1
    tar.write_bytes(data)
    order = replace(ORDER, lanes=1)
    with Loader([open_feed(str(out))], reader(), order) as loader:
        seen = sum((batch.bad for step in itertools.islice(loader, 12) for batch in step), Counter[str]())
    assert seen["undecodable"] >= 1


def test_a_ledger_that_was_not_committed_is_refused(tmp_path: Path) -> None:
    out = made.corpus(tmp_path, shards=1, per_shard=5)
    ledger = next((out / "data").glob("*.parquet"))
    ledger.write_bytes(ledger.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptState, match="is not the file that was committed"):
        next(iter(Lane(0, [open_feed(str(out))], reader(), replace(ORDER, lanes=1))))


def test_conversations_are_read_with_pictures_videos_and_without(tmp_path: Path) -> None:
    path = made.llava(tmp_path, pictures=3, videos=2)
    stage = replace(STAGES["elva-3"], pictures=Pictures(mode="longest_edge", max_side=56, tokens=21, frames=2))
    own = Reader(stage=stage, tokenize=spelled, image_token_id=0, patch=14)
    feed = open_feed(f"llava={path}", Look(frames=2))
    with Loader([feed], own, Order(lanes=1, budget=2048, window=1)) as loader:
        batch = next(iter(loader))[0]
    shapes = sorted(tuple(each.shape) for each in batch.pictures_F3HW)
    assert shapes[-1] == (2, 3, 56, 56) and {shape[0] for shape in shapes} == {1, 2}
    tokens = sum(f * (1 + h // 14 * (w // 14 + 1)) for f, _, h, w in shapes)
    assert int((batch.ids_1T == 0).sum()) == tokens


def test_a_conversation_that_no_template_takes_is_counted(tmp_path: Path) -> None:
    path = made.llava(tmp_path, pictures=3)
    rows = json.loads(path.read_text())
    rows[0]["conversations"].pop()
    rows[1]["image"] = "gone.jpg"
    path.write_text(json.dumps(rows))
    stage = replace(STAGES["eve-v2-3"], pictures=SMALL)
    lane = Lane(0, [open_feed(f"llava={path}")], reader(stage), Order(lanes=1, budget=1024, window=1))
    row = next(iter(lane))
    assert row.position["left_out"].keys() == {"template", "missing"}
    assert {each.entry.key for each in row.samples} == {"p2", "words"}


@pytest.mark.parametrize(
    "odd",
    [
        {"conversations": [*made.talk("<image>\nWhat?")[:1], {"from": "gpt", "value": None}]},
        {"conversations": [{"from": "human", "value": None}, {"from": "gpt", "value": "A quiet harbour."}]},
        {"conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": 7}]},
        {"conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "Half \ud800 a pair."}]},
        {"image": "a\0b.jpg"},
        {"image": "half-\ud800.jpg"},
    ],
    ids=["no answer", "no question", "a number", "half a pair", "a NUL in a path", "half a pair in a path"],
)
def test_a_conversation_that_holds_what_is_no_text_is_counted(tmp_path: Path, odd: dict[str, object]) -> None:
    path = made.llava(tmp_path, pictures=2)
    rows = json.loads(path.read_text())
    rows[0] |= odd
    path.write_text(json.dumps(rows))
    stage = replace(STAGES["eve-v2-3"], pictures=SMALL)
    row = next(iter(Lane(0, [open_feed(f"llava={path}")], reader(stage), Order(lanes=1, budget=1024, window=1))))
    assert row.position["left_out"].keys() == {"template"}
    assert {each.entry.key for each in row.samples} == {"p1", "words"}


def test_a_conversation_whose_image_is_null_is_one_of_text(tmp_path: Path) -> None:
    path = made.llava(tmp_path, pictures=0)
    rows = [each | {"image": None} for each in json.loads(path.read_text())]
    # A line of its own for each; U+2028 and U+0085 end none, and JSON may hold them as they are.
    rows[0]["conversations"][1]["value"] = "Well.\u2028And\u0085you?"
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows))
    stage = replace(STAGES["eve-v2-3"], pictures=SMALL)
    feed = open_feed(f"llava={tmp_path / 'talks.jsonl'}")
    row = next(iter(Lane(0, [feed], reader(stage), Order(lanes=1, budget=1024, window=1))))
    assert {each.entry.key for each in row.samples} == {"words"} and row.position["left_out"] == {}


def test_a_lane_does_not_go_on_without_a_sample_that_it_had_taken(tmp_path: Path) -> None:
    stage, order = replace(STAGES["eve-v2-3"], pictures=SMALL), Order(lanes=1, budget=400, window=1)
    feed = open_feed(f"llava={made.llava(tmp_path, pictures=9)}")
    positions = (row.position for row in Lane(0, [feed], reader(stage), order))
    waiting = next(each for each in positions if any(index < 9 for _, _, _, index, _ in each["carried"]))
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    with pytest.raises(Refused, match="was read before, and is missing now"):
        Lane(0, [feed], reader(stage), order, waiting)


def test_a_feed_with_nothing_that_fits_says_so(out: Path) -> None:
    with pytest.raises(Refused, match=r"has no sample that fits; left out so far: {'too_long'"):
        next(iter(Lane(0, [open_feed(str(out))], reader(), replace(ORDER, budget=16))))
    with pytest.raises(Refused, match="51 samples for 52 rows a step"):
        Loader([open_feed(str(out))], reader(), replace(ORDER, lanes=52))


@pytest.mark.parametrize(
    "word", ["nothing=x", "web:0=x", "web:.=x", "web:1.2.3=x", "llava=/no/such.json", "/no/such/corpus"]
)
def test_a_feed_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(Refused):
        open_feed(word)


def test_a_corpus_streams_from_an_object_store(out: Path, bucket: str) -> None:
    from shards.store import Store

    here, there = Store(str(out)), Store(f"{bucket}/to-train-on")
    for name in here.names():
        there.create(name, here.read(name))
    near, far = open_feed(str(out)), open_feed(f"{bucket}/to-train-on")
    assert equal(read([far], 1, 2, steps=2), read([near], 1, 2, steps=2))

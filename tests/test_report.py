"""The report: everything is shown, nothing that came from outside is ever markup, and nothing is loaded."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections import Counter
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import Refused
from captioner.reasons import OUTCOMES, REASONS
from captioner.registry import build
from captioner.types import Caption, Decision, Failure, Filtered, Rejection, Sample, Unreadable
from pipelines.report import write_report
from pipelines.report_overlay import Seen, overlay, placed
from pipelines.report_pictures import Candidates
from pipelines.report_plots import histogram, quantile, scatter, shares
from shards import commits, ledger, manifest
from shards import plan as plans
from shards.corpus import ShardFiles
from shards.journal import Entry
from shards.pack import Packed, pack
from shards.sources import SOURCES
from shards.store import Store, open_blob
from tests.corpora import fake_recipe, picture, planned

PHOTOS = Path(__file__).parents[1] / "pipelines" / "demo" / "photos"
HOSTILE = '<script>alert("alt")</script><img src=https://evil.example/x onerror=alert(1)>'
HOSTILE_CAPTION = "</dd></style><script>alert('caption')</script> a dog & two \u202ecats {{ 7 * 7 }}"
SEEN: dict[str, Any] = {
    "tags": [{"name": "spaniel <b>", "level": "leaf", "score": 0.91, "hedged": False}],
    "objects": [
        {"name": "dog", "score": 0.93, "agreed": 0.9, "box": [0.31, 0.2, 0.53, 0.45]},
        {"name": "dog", "score": 0.88, "agreed": 0.9, "box": [0.45, 0.44, 0.7, 0.7]},
        {"name": "window", "score": 0.61, "agreed": 1.0, "box": [0.2, 0.0, 0.55, 0.52]},
    ],
    "text": [{"text": "<script>alert('ocr')</script>", "score": 0.8, "box": [0.1, 0.9, 0.6, 0.97]}],
}
DECISIONS: dict[str, tuple[Decision, dict[str, Any] | None]] = {
    "dogs": (
        Decision(outcome=Caption(text=HOSTILE_CAPTION, finish_reason="stop"), width=909, height=1365, attempts=1),
        SEEN,
    ),
    "plain": (
        Decision(
            outcome=Caption(text="Soft colours.", finish_reason="stop"), width=540, height=520, engine_seconds=0.4
        ),
        None,
    ),
    "tiny": (Decision(outcome=Filtered(reason="below_min_resolution"), width=64, height=64), None),
    "page": (Decision(outcome=Unreadable(reason="undecodable", detail="<b>no</b> JPEG")), None),
    "again": (
        Decision(
            outcome=Rejection(
                reason="repetitive_caption", caption=Caption(text="red red red <i>red</i>", finish_reason="stop")
            ),
            width=540,
            height=520,
        ),
        None,
    ),
    "lost": (Decision(outcome=Failure(reason="engine_timeout", detail="60 s")), None),
}


def packed() -> list[Packed]:
    """One picture for each decision, each beside a hostile alt text."""
    media = {key: picture(number) for number, key in enumerate(DECISIONS)} | {
        "dogs": (PHOTOS / "friends_by_aitzol_berasategi.jpg").read_bytes(),
        "tiny": picture(3, 64, 64),
        "page": b"<html>403</html>",
    }
    return [
        Packed(key=key, extension="jpg", media=media[key], caption=HOSTILE, fields={"caption": HOSTILE})
        for key in sorted(DECISIONS)
    ]


def make_run(folder: Path) -> Store:
    """A run's folder with one committed shard, every outcome in it, written as the line writes it."""
    pack(Store(str(folder / "in")), packed(), 100)
    recipe, store = fake_recipe(), Store(str(folder / "out"))
    plan = planned(recipe, folder / "in")
    plans.enter(store, plan)
    source = build(SOURCES, recipe.source.name, recipe.source.settings)
    with closing(ShardFiles(store=store, shard="00000", attempt="a" * 32)) as files:
        for sample in source.read(plan.inputs[0], open_blob):
            assert isinstance(sample, Sample)
            decision, facts = DECISIONS[sample.key]
            files.add(Entry(row=ledger.decided_row(sample, decision, recipe), facts=facts), sample)
        data = files.publish()
    record = commits.Record(
        plan=plan.run_id,
        shard="00000",
        attempt="a" * 32,
        epoch=1_763_000_000,
        input={"url": plan.inputs[0].url, "bytes_read": plan.inputs[0].size, "account": {}},
        reason=None,
        flags=(),
        counts=ledger.counted(files.rows),
        reasons=ledger.reasons(files.rows),
        spent=ledger.spent(files.rows),
        files=data,
        first_key=files.rows[0].key,
        last_key=files.rows[-1].key,
        digest=ledger.digest(files.rows),
    )
    commits.commit(store, record)
    manifest.publish(store, plan, "test")
    return store


class Page(HTMLParser):
    """A page as a browser takes it: its tags with their attributes, its visible text, its inline scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.inline.get(self._inside, self.texts).append(data)

    def all(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        return [has for name, has in self.tags if name == tag and class_ in (has.get("class") or "")]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def html(run: Store) -> str:
    return Path(write_report(run)).read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_outcome_is_shown_with_what_its_reason_means_and_asks_for(page: Page) -> None:
    assert Counter(card["data-outcome"] for card in page.all("article")) == Counter([*OUTCOMES, "captioned"])
    for name in ("below_min_resolution", "undecodable", "repetitive_caption", "engine_timeout"):
        assert name in page.text and REASONS[name].meaning[1:] in page.text and REASONS[name].remedy in page.text


def test_the_equation_is_written_out_with_the_real_numbers(page: Page) -> None:
    assert "6 = 2 + 1 + 1 + 1 + 1" in page.text
    assert "Yes" in page.text


def test_hostile_texts_stay_texts(page: Page, html: str) -> None:
    assert HOSTILE in page.text and "alert('caption')" in page.text and "alert('ocr')" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert len(page.all("script")) == 1 and "alert" not in page.inline["script"][0]
    assert not page.all("b", "x") and not page.all("i")
    assert not [name for _, has in page.tags for name in has if name.startswith("on")]
    assert "<script>alert" not in html and "<img src=https" not in html


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, has in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data"):
            assert (has.get(name) or "data:").startswith(("data:image/jpeg;base64,", "data:", "#")), has
    assert not re.search(r"url\(|@import", page.inline["style"][0])
    assert not re.search(r"fetch|XMLHttp|import\(|WebSocket", page.inline["script"][0])


def test_the_policy_of_the_page_allows_its_own_script_and_style_alone(page: Page) -> None:
    policy = next(has["content"] for has in page.all("meta") if has.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256("".join(page.inline[kind]).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [has for _, has in page.tags if "style" in has]


def test_every_picture_is_a_thumbnail_of_ours_or_says_why_not(page: Page) -> None:
    pictures = page.all("img")
    assert len(pictures) == 5 and all(each["alt"] for each in pictures)
    for each in pictures:
        jpeg = base64.b64decode((each["src"] or "").partition(",")[2])
        assert jpeg.startswith(b"\xff\xd8") and len(jpeg) < 200_000
    assert "No picture to show: " + REASONS["undecodable"].meaning in page.text


def test_what_the_experts_saw_is_drawn_where_they_saw_it(page: Page) -> None:
    frame = page.all("svg", "overlay")
    assert len(frame) == 1
    width, height = (float(side) for side in (frame[0]["viewbox"] or "").split()[2:])
    first = page.all("rect", "edge")[0]
    assert float(first["x"] or 0) == pytest.approx(0.31 * width, abs=0.1)
    assert float(first["y"] or 0) == pytest.approx(0.2 * height, abs=0.1)
    assert float(first["width"] or 0) == pytest.approx(0.22 * width, abs=0.15)
    assert len(page.all("rect", "edge")) == 4
    assert "1 dog 93%" in page.text and "spaniel <b> 91%" in page.text


def test_a_second_report_replaces_the_first_and_equals_it(run: Store, html: str) -> None:
    assert Path(write_report(run)).read_text() == html


def test_few_pictures_still_show_every_outcome_its_share(run: Store) -> None:
    shown = Page(Path(write_report(run, 4)).read_text())
    outcomes = Counter(card["data-outcome"] for card in shown.all("article"))
    assert outcomes == Counter(["captioned", "captioned", "filtered", "unreadable"])
    assert not Page(Path(write_report(run, 0)).read_text()).all("article")
    with pytest.raises(Refused):
        write_report(run, -1)


def test_pictures_that_are_gone_leave_a_card_that_says_so(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    (tmp_path / "in" / "00000.tar").unlink()
    next((tmp_path / "out" / "data").glob("*.tar")).write_bytes(b"no tar at all")
    page = Page(Path(write_report(store)).read_text())
    assert len(page.all("article")) == 6 and not page.all("img")
    assert "its input cannot be read again (source_missing)" in page.text and "not in its corpus file" in page.text


def test_a_run_without_a_finished_shard_has_a_report_too(tmp_path: Path) -> None:
    pack(Store(str(tmp_path / "in")), packed(), 100)
    store = Store(str(tmp_path / "out"))
    plans.enter(store, planned(fake_recipe(), tmp_path / "in"))
    assert "0 of 1 shards are done so far" in Page(Path(write_report(store)).read_text()).text
    with pytest.raises(Refused, match="no run"):
        write_report(Store(str(tmp_path / "elsewhere")))


def test_labels_keep_out_of_each_others_way() -> None:
    dice = random.Random(1)
    for _ in range(40):
        corners = [(dice.random() * 0.8, dice.random() * 0.8) for _ in range(10)]
        boxes = [(x, y, x + 0.2 * dice.random() + 0.01, y + 0.2 * dice.random() + 0.01) for x, y in corners]
        marks = placed([Seen(kind="object", name="traffic light", score=0.5, box=b) for b in boxes], (400.0, 300.0))
        areas = [mark.label_area for mark in marks]
        assert all(0 <= a[0] < a[2] <= 400.01 and 0 <= a[1] < a[3] <= 300.01 for a in areas)
        pairs = [(one, other) for at, one in enumerate(areas) for other in areas[:at]]
        covering = [p for p, q in pairs if min(p[2], q[2]) > max(p[0], q[0]) and min(p[3], q[3]) > max(p[1], q[1])]
        assert len(covering) <= 1


def test_facts_that_no_expert_wrote_draw_nothing() -> None:
    odd = [[0, 0, 1], [0.5, 0, 0.5, 1], [float("nan"), 0, 1, 1], "box", None, [0.9, 0.9, 0.1, 0.1]]
    facts = {"objects": [{"name": 1, "score": "?", "box": box} for box in odd], "text": "none"}
    assert not overlay(facts, 400, 300).marks
    assert overlay({"objects": [{"box": [-5, 0, 9, 0.5]}]}, 400, 300).marks[0].area == (0, 0, 400, 150)
    assert overlay({"objects": [{"box": [0, 0, 1, 1]}] * 60}, 3, 90_000).undrawn == 36


def test_the_draw_is_the_same_whatever_order_the_rows_come_in() -> None:
    rows = [ledger.Row(source_shard="s", key=f"{n}", member_offset=n, outcome="captioned") for n in range(500)]
    forward, backward = Candidates(most=20), Candidates(most=20)
    forward.add(0, rows)
    backward.add(0, rows[::-1])
    assert forward.chosen() == backward.chosen() and len(forward.chosen()) == 20


def test_a_histogram_counts_every_value_once() -> None:
    counts: Counter[float] = Counter({1: 5, 2: 3, 7: 1, 5000: 1})
    plot = histogram("Words", "words", {"now": counts, "before": Counter()}, least_step=1)
    assert plot is not None and [panel.name for panel in plot.panels] == ["now"]
    assert sum(int(bar.label.rpartition(": ")[2]) for bar in plot.panels[0].bars) == 10
    assert quantile(counts, 0.5) == 1 and plot.panels[0].median.label == "1"
    assert histogram("Words", "words", {"now": Counter()}, least_step=1) is None


def test_shares_fill_the_bar_and_sizes_their_square() -> None:
    parts = shares({"captioned": 2, "failed": 1, "read": 3})
    assert [part.outcome for part in parts] == ["captioned", "failed"]
    assert sum(part.width for part in parts) == pytest.approx(100, abs=0.01)
    dots = scatter([(1, 65_535_000, "filtered"), (800, 600, "captioned")])
    assert dots is not None and all(0 <= dot.x <= 560 and 0 <= dot.y <= 440 for dot in dots.dots)
    assert scatter([]) is None

"""The docs say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from captioner.reasons import OUTCOMES, REASONS, SHARD_REASONS
from pipelines.urls.environment import VERSION
from shards.failures import FAILURES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reasons.md"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def reasons_page() -> str:
    """docs/reasons.md as the tables of captioner/reasons.py make it; `python -m tests.test_docs` writes it."""
    lines = [
        "# Reasons",
        "",
        "Every sample that is not captioned has one of these in its ledger row, and a filter of yours may add its own.",
        "This page is made from `captioner/reasons.py` by `python -m tests.test_docs`.",
    ]
    for outcome in OUTCOMES[1:]:
        lines += ["", f"## {outcome}", "", "| reason | what it means | what to do |", "|---|---|---|"]
        chosen = {name: reason for name, reason in REASONS.items() if reason.outcome == outcome}
        lines += [f"| `{name}` | {reason.meaning} | {reason.remedy} |" for name, reason in chosen.items()]
    lines += ["", "## Of whole shards", "", "| reason | what it means | the run ends with |", "|---|---|---|"]
    for name, reason in SHARD_REASONS.items():
        lines.append(f"| `{name}` | {reason.meaning} | {'exit 1' if reason.error else 'exit 0'} |")
    return "\n".join(lines) + "\n"


def test_the_page_of_reasons_is_the_table_of_reasons() -> None:
    assert PAGE.read_text() == reasons_page()


def test_the_page_on_lists_of_urls_has_every_failure_and_the_version_that_is_installed() -> None:
    page = (ROOT / "docs/urls.md").read_text()
    rows = [f"| `{name}` | {each.meaning} | {'yes' if each.passes else ''} |" for name, each in FAILURES.items()]
    assert "\n".join(rows) in page
    assert f"~/.cache/recap/img2dataset-{VERSION}" in page


def test_every_remedy_names_an_option_that_exists() -> None:
    from pipelines.options import options_class
    from pipelines.recap_datacomp import DATACOMP

    options = options_class(DATACOMP).__dataclass_fields__
    for reason in REASONS.values():
        for part, setting in re.findall(r"--([a-z]+)\.([a-z-]+)", reason.remedy):
            assert setting.replace("-", "_") in options[part].type.__dataclass_fields__, reason.remedy


def test_whatever_the_pages_name_is_there() -> None:
    """Files, with or without words behind them, links and pictures, modules to run, and words of make."""
    words = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named, made = set(), set()
    for page in PAGES:
        text = page.read_text()
        paths = re.findall(
            r"\b((?:captioner|shards|pipelines|serving|trainer|tests|docs|benchmarks)/[\w./-]+\.\w+)", text
        )
        modules = re.findall(r"python -m ((?:pipelines|tests|benchmarks|trainer)[\w.]*)", text)
        named |= {ROOT / path for path in paths} | {ROOT / f"{each.replace('.', '/')}" for each in modules}
        named |= {page.parent / link for link in re.findall(r"\]\(([^):]+)\)", text)}
        made |= set(re.findall(r"`make ([a-z-]+)", text))
    missing = {str(path) for path in named if not path.exists() and not path.with_suffix(".py").exists()}
    assert not missing and not made - words
    assert len(named) > 40 and len(made) >= 6, "the pages name many, and all are looked for"


if __name__ == "__main__":
    PAGE.write_text(reasons_page())

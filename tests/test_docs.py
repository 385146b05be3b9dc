"""The docs say what the code does."""

from __future__ import annotations

from pathlib import Path

from captioner.reasons import OUTCOMES, REASONS, SHARD_REASONS
from pipelines.urls.environment import VERSION
from shards.failures import FAILURES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reasons.md"


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
    import re

    from pipelines.options import options_class
    from pipelines.recap_datacomp import DATACOMP

    options = options_class(DATACOMP).__dataclass_fields__
    for reason in REASONS.values():
        for part, setting in re.findall(r"--([a-z]+)\.([a-z-]+)", reason.remedy):
            assert setting.replace("-", "_") in options[part].type.__dataclass_fields__, reason.remedy


def test_every_file_that_the_readme_names_is_there() -> None:
    import re

    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"`((?:captioner|shards|pipelines|tests|docs|benchmarks)/[\w./-]+\.(?:py|md|j2))`", text):
        assert (ROOT / name).exists(), name


if __name__ == "__main__":
    PAGE.write_text(reasons_page())

"""Precision and recall of every filter, on the texts its thresholds were tuned on and on texts held out."""

from __future__ import annotations

import argparse
from collections import Counter

from tests.labels import HALVES, Labelled, Score, scores
from tests.mutations import labelled

OPTIONS = argparse.ArgumentParser(description=__doc__)
OPTIONS.add_argument("--half", choices=HALVES, help="only this half")
OPTIONS.add_argument("--mistakes", type=int, default=2, help="to show of each kind and reason; 0 shows none")
OPTIONS.add_argument("--scale", type=int, default=1, help="so many times as many made texts")
SHOWN_CHARACTERS = 110


def shown(text: Labelled) -> str:
    """One line: its style, and its beginning and end."""
    said = repr(text.text)
    if len(said) > 2 * SHOWN_CHARACTERS:
        said = f"{said[:SHOWN_CHARACTERS]} ... {said[-SHOWN_CHARACTERS:]}"
    return f"      {text.style}: {said}"


def print_reason(reason: str, score: Score, mistakes: int) -> None:
    """Its row and its worst mistakes: of every style one, the commonest styles first."""
    labelled_so = score.found + len(score.missed)
    print(f"{reason:20} {labelled_so:6} {score.precision:10.4f} {score.recall:8.4f}"
          f" {len(score.wrong):6} {len(score.missed):7}")  # fmt: skip
    for name, texts in (("dropped, honest or of another reason", score.wrong), ("not found", score.missed)):
        by_style = Counter(text.style for text in texts)
        for style, count in by_style.most_common(mistakes):
            print(f"    {name}, {count} of {style}, such as")
            print(shown(next(text for text in texts if text.style == style)))


def main() -> None:
    """Prints a table a half."""
    options = OPTIONS.parse_args()
    for half in [options.half] if options.half else HALVES:
        texts = labelled(half, options.scale)
        honest = [text for text in texts if text.reason is None]
        print(f"\n{half}: {len(texts)} texts, {len(honest)} of them honest, {len({t.style for t in texts})} styles")
        print(f"{'reason':20} {'texts':>6} {'precision':>10} {'recall':>8} {'wrong':>6} {'missed':>7}")
        by_reason = scores(texts)
        for reason, score in by_reason.items():
            print_reason(reason, score, options.mistakes)
        dropped = {text.text for score in by_reason.values() for text in score.wrong if text.reason is None}
        print(f"honest texts kept: {1 - len(dropped) / len(honest):.4f}")


if __name__ == "__main__":
    main()

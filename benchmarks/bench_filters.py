"""How fast captions are judged: the whole set of filters over ordinary captions, then each over hostile megabytes."""

from __future__ import annotations

import random
import time

from captioner.filters import FILTERS
from captioner.registry import build
from captioner.types import Caption, Filter, Measures, Sample

SAMPLE = Sample(key="0", kind="image", media=b"", meta={}, source_shard="bench")
PROMPT = "Describe what this picture shows to a blind reader, in plain sentences, and quote its text."
COMMON = """the a dog cat man woman table window left right side of with and in front behind red blue grey wooden
small large bright street tree building sky person wearing holding standing sitting next to shows light background"""
WORDS = COMMON.split()


# What a megabyte is made of, again and again: what each search has to stop at, or almost finds.
HOSTILE = {
    "loop": "a dog and ",
    "one word": "a",
    "marks": "! ",
    "quotes": '"a" “',
    "apostrophes": "'a ' ‘",
    "open tags": "<a ",
    "short tags": "<a>",
    "near tokens": "<im_en>",
    "numbered tokens": "<image_1234567>",
    "bars": "|>｜<|",
    "brackets": "[INS",
    "boxes": "[112, 40, 560,",
    "entities": "&a;&x",
    "roles": "\nUser",
    "Chinese": "一只棕色的狗，",
    "Thai": "สุนัข",
    "controls": "\0",
    "controls and letters": "\0a",
    "joiners": "\u200d",
    "joined letters": "\u0628\u200c",
    "hidden tags": "\U000e0041",
    "replacements": "\ufffd",
    "combining marks": "e\u0301",
    "newlines": "\n",
    "letters and newlines": "a\n",
    "spaces": " ",
    "full stops": "a. ",
    "short sentences": "The dog sat. ",
    "numbers": "1, 2, 3, ",
    "single letters": "a b c d ",
    "refusing": "i am not, ",
    "refusing at length": "i'm a model of it and not of ",
    "refusing too far from it": "i am not, " * 10 + "an old wooden table, " * 5 + "image. ",
    "sorry": "sorry, but the image. ",
    "instructing": "describe what it is, ",
    "asking": "what is in it, ",
    "hyphens": "a-b-",
    "pieces": "aĠ▁",
} | {f"period {period}": " ".join(f"w{n}" for n in range(period)) + " " for period in (2, 7, 31, 64, 127, 128, 129)}


def prose(words: int, seed: int) -> str:
    """Sentences of twelve words; one word in four is rare, as in real captions."""
    draw = random.Random(seed)
    picked = [draw.choice(WORDS) if draw.random() < 0.75 else f"w{draw.randrange(20_000):x}" for _ in range(words)]
    lines = [" ".join(picked[at : at + 12]) for at in range(0, words, 12)]
    return ". ".join(line.capitalize() for line in lines) + "."


def judge(filters: list[Filter], text: str) -> float:
    """Seconds of CPU to measure and judge one caption that no cache has seen."""
    caption = Caption(text=text, finish_reason="stop")
    started = time.process_time()
    for each in filters:
        if isinstance(each, Measures):
            each.signals(SAMPLE, caption)
        each(SAMPLE, caption)
    return time.process_time() - started


def main() -> None:
    """Prints captions and MB a second for the set, then the seconds of a megabyte by text and filter."""
    filters = {name: build(FILTERS, name, {"prompt": PROMPT} if name == "echo" else {}) for name in FILTERS}
    captions = [prose(190, seed) for seed in range(500)]
    seconds = sum(judge(list(filters.values()), text) for text in captions)
    size = sum(map(len, captions)) / 1e6
    print(f"190-word captions: {len(captions) / seconds:.0f} captions/s, {size / seconds:.2f} MB/s, the whole set")
    print(f"CPU seconds, a megabyte {' '.join(f'{name:>10}' for name in filters)} {'the set':>10}")
    worst = 0.0
    for name, unit in ({"prose": prose(170_000, 1)} | HOSTILE).items():
        text = (unit * (1_000_000 // len(unit.encode()) + 1)).encode()[:1_000_000].decode(errors="ignore")
        each = [min(judge([one], f"{text} {name} {n}.") for n in range(3)) for one in filters.values()]
        whole = min(judge(list(filters.values()), f"{text} {name}, again {n}.") for n in range(3))
        print(f"{name:22} {' '.join(f'{spent:>10.3f}' for spent in each)} {whole:>10.3f}")
        worst = max(worst, whole)
    print(f"slowest megabyte, the set: {worst:.3f} s")


if __name__ == "__main__":
    main()

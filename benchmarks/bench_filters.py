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
    units = {
        "prose": prose(170_000, 1),
        "loop": "a dog and ",
        "word": "a",
        "marks": "! ",
        "quotes": '"a" “',
        "tags": "<a ",
    }
    units |= {"Chinese": "一只棕色的狗，", "controls": "\0"}
    print(f"CPU seconds, a megabyte {' '.join(f'{name:>10}' for name in filters)} {'the set':>10}")
    for name, unit in units.items():
        text = (unit * (1_000_000 // len(unit.encode()) + 1)).encode()[:1_000_000].decode(errors="ignore")
        each = [min(judge([one], f"{text} {name} {n}.") for n in range(3)) for one in filters.values()]
        whole = min(judge(list(filters.values()), f"{text} {name}, again {n}.") for n in range(3))
        print(f"{name:22} {' '.join(f'{spent:>10.3f}' for spent in each)} {whole:>10.3f}")


if __name__ == "__main__":
    main()

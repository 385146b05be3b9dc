"""Every file below the named folders through header, screens and decoder processes: does anything crash or hang?"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import MediaError
from captioner.filters import SCREENS
from captioner.media.decoders import DecoderPool
from captioner.media.header import read_header
from captioner.reasons import REASONS
from captioner.recipe import Limits
from captioner.registry import build
from captioner.types import PixelBudget, Sample, Screen

OPTIONS = argparse.ArgumentParser(description=__doc__)
OPTIONS.add_argument("folders", nargs="+", type=Path)
OPTIONS.add_argument("--all-sizes", action="store_true", help="no screens: small and odd pictures are decoded too")
OPTIONS.add_argument("--processes", type=int, default=1)
BUDGET = PixelBudget(max_pixels=1280 * 28 * 28, multiple_of=28)
HANG_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a file. reason: `captioned` where the engine would have seen it."""

    path: Path
    reason: str
    seconds: float


def files(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


async def fate(path: Path, pool: DecoderPool, screens: list[Screen]) -> Fate:
    """Raises nothing but what is a bug of ours."""
    media = path.read_bytes()
    sample = Sample(key=path.name, kind="image", media=media, meta={}, source_shard="campaign")
    began = time.perf_counter()
    try:
        header = read_header(media)
        reason = next((reason for screen in screens if (reason := screen(sample, header))), None)
        if reason is None:
            await pool.decode(media, BUDGET)
    except MediaError as error:
        reason = error.reason
    return Fate(path=path, reason=reason or "captioned", seconds=time.perf_counter() - began)


async def campaign(paths: list[Path], screens: list[Screen], processes: int) -> list[Fate]:
    """One after the other a process, so that seconds are the file's own."""
    waiting, fates = list(reversed(paths)), []
    async with DecoderPool(processes, Limits()) as pool:

        async def work() -> None:
            while waiting:
                fates.append(await fate(waiting.pop(), pool, screens))

        await asyncio.gather(*(work() for _ in range(processes)))
    return fates


def main() -> None:
    """Prints counts by outcome and reason, the slowest files, and those over ten seconds."""
    options = OPTIONS.parse_args()
    names = ["format"] if options.all_sizes else list(SCREENS)
    paths = list(files(options.folders))
    fates = asyncio.run(campaign(paths, [build(SCREENS, name, {}) for name in names], options.processes))
    counts = Counter(each.reason for each in fates)
    print(f"{len(fates)} files of {len(paths)}, screens: {', '.join(names)}; the parent lives")
    for reason, count in counts.most_common():
        outcome = "captioned" if reason == "captioned" else f"{REASONS[reason].outcome}: {reason}"
        print(f"{count:6} {outcome}")
    slowest = sorted(fates, key=lambda each: -each.seconds)
    print("slowest: " + ", ".join(f"{each.path.name} {each.seconds:.2f} s ({each.reason})" for each in slowest[:5]))
    for each in fates:
        if each.reason in ("decoder_crash", "decode_timeout", "resource_exceeded"):
            print(f"{each.reason}: {each.path}")
    hangs = [each for each in fates if each.seconds > HANG_SECONDS]
    print(f"over {HANG_SECONDS:g} s: {len(hangs)}" + "".join(f"\n  {each.path} {each.seconds:.1f} s" for each in hangs))


if __name__ == "__main__":
    main()

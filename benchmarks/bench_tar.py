"""Our tar reader beside webdataset's and tarfile's, on one core, in one run: `python -m benchmarks.bench_tar`."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import webdataset

from shards.blob import FileBlob
from shards.samples import TarReading
from shards.sources.datacomp import META
from shards.tar import TarReader

SHARD_BYTES = 16 << 20
REPEATS = 15
PICTURES = {"2 KB pictures": 2_000, "20 KB pictures": 20_000, "100 KB pictures": 100_000}


def sidecar(key: str) -> bytes:
    """A JSON of the fields and the size that img2dataset writes."""
    fields = {
        "uid": (key + "abcdef0") * 2,
        "sha256": "a1" * 32,
        "key": key,
        "url": f"https://pictures.example/{key}.jpg",
    }
    sizes = {"width": 512, "height": 384, "original_width": 1024, "original_height": 768}
    scores = {"clip_l14_similarity_score": 0.31, "clip_b32_similarity_score": 0.29, "face_bboxes": []}
    return json.dumps({**fields, "caption": "a dog on a beach", "status": "success", **sizes, **scores}).encode()


def make_shard(path: Path, picture_bytes: int) -> int:
    """A shard of .jpg, .json and .txt; the number of its samples."""
    picture = bytes(range(1, 251)) * (picture_bytes // 250)
    count = SHARD_BYTES // (picture_bytes + 3000)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(count):
            key = f"{number:09d}"
            for ext, data in (("jpg", picture), ("json", sidecar(key)), ("txt", b"a dog on a beach near the sea")):
                info = tarfile.TarInfo(f"{key}.{ext}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return count


def our_members(path: Path) -> int:
    return sum(1 for _ in TarReader(FileBlob(path))) // 3


def our_samples(path: Path) -> int:
    return sum(1 for _ in TarReading(FileBlob(path), shard="s", meta_of=lambda text, fields: {}))


def our_datacomp(path: Path) -> int:
    return sum(1 for _ in TarReading(FileBlob(path), shard="s", meta_of=META))


def webdataset_samples(path: Path) -> int:
    return sum(1 for _ in webdataset.WebDataset(str(path), shardshuffle=False))


def webdataset_decoded(path: Path) -> int:
    """JSON and text decoded, pictures left as they are: what our samples are, too."""
    return sum(1 for _ in webdataset.WebDataset(str(path), shardshuffle=False).decode())


def tarfile_members(path: Path) -> int:
    with tarfile.open(path, "r:") as tar:
        return sum(len(tar.extractfile(entry).read()) > 0 for entry in tar) // 3  # type: ignore[union-attr]


READERS: dict[str, Callable[[Path], int]] = {
    "webdataset: samples, nothing decoded": webdataset_samples,
    "webdataset: samples, JSON and text decoded": webdataset_decoded,
    "tarfile: members": tarfile_members,
    "ours: members": our_members,
    "ours: samples, JSON and text decoded": our_samples,
    "ours: the same, with DataComp's fields": our_datacomp,
}


def bound(picture_bytes: int) -> Callable[[Path], int]:
    """What any reader does that gives members as bytes: read the file, copy each sample once, look at nothing."""
    piece = picture_bytes + 3000

    def copies(path: Path) -> int:
        for chunk in FileBlob(path).chunks():
            for at in range(0, len(chunk), piece):
                _ = chunk[at : at + piece]
        return SHARD_BYTES // piece

    return copies


def best_seconds(path: Path, readers: Mapping[str, Callable[[Path], int]], count: int) -> dict[str, float]:
    """Each reader's best CPU time; they take turns, so that a slow minute hits all of them."""
    seconds = dict.fromkeys(readers, float("inf"))
    for _ in range(REPEATS):
        for name, reader in readers.items():
            started = time.process_time()
            found = reader(path)
            seconds[name] = min(seconds[name], time.process_time() - started)
            assert found == count, f"{name} found {found} samples of {count}"
    return seconds


def main() -> None:
    for title, picture_bytes in PICTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shard.tar"
            count = make_shard(path, picture_bytes)
            seconds = best_seconds(path, READERS | {"no reader: read and copied": bound(picture_bytes)}, count)
            megabytes = path.stat().st_size / 1e6
        plain, decoded = list(seconds.values())[:2]
        print(f"{title}: {count} samples, {megabytes:.0f} MB, CPU seconds of one core, best of {REPEATS}")
        for name, took in seconds.items():
            rates = f"{megabytes / took:7.0f} MB/s {count / took:8.0f} samples/s"
            print(f"  {name:44} {rates} {plain / took:6.1f} x webdataset, {decoded / took:6.1f} x decoded")


if __name__ == "__main__":
    main()

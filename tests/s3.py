"""A real S3 server for the tests: SeaweedFS, on loopback, under our own pid."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.store import Store

KEYS = {"AWS_ACCESS_KEY_ID": "recap-test", "AWS_SECRET_ACCESS_KEY": "recap-test-secret", "AWS_REGION": "us-east-1"}
IDENTITY = {
    "name": "recap",
    "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}


def upload(folder: Path, url: str) -> str:
    """Every file of a folder as an object under a URL; the URL."""
    store = Store(url)
    for path in sorted(folder.iterdir()):
        store.create(path.name, path.read_bytes())
    return url


@contextmanager
def rclone(folder: Path) -> Iterator[dict[str, str]]:
    """`rclone serve s3`, which ignores conditions and checksums, with one bucket; the environment to reach it."""
    [port] = free_ports(1)
    (folder / "bucket").mkdir()
    keys = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    program = str(Path(sys.executable).parent / "rclone")
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/", server)
        yield KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true"}
    finally:
        server.kill()
        server.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and nobody on the one 10,000 above, where SeaweedFS puts its gRPC.

    All of them are under 32,768, where the kernel begins to take ports for outgoing connections.
    """
    found: list[int] = []
    ports = range(11000, 22000)
    for port in random.sample(ports, len(ports)):  # whoever starts a server at the same time looks elsewhere
        if all(_is_free(each) for each in (port, port + 10000)):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def seaweedfs(folder: Path) -> Iterator[dict[str, str]]:
    """A running server; the environment that an S3 client needs to reach it."""
    s3, master, volume, filer = free_ports(4)
    (folder / "s3.json").write_text(json.dumps({"identities": [IDENTITY]}))
    weed = str(Path(sys.executable).parent / "weed")
    command = [weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-s3", f"-s3.port={s3}"]
    command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    command += [f"-s3.config={folder}/s3.json", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # on one port each: a second server beside it would die
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{s3}/", server)
        yield KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}", "AWS_ALLOW_HTTP": "true"}
    finally:
        server.kill()  # its data are thrown away; an orderly end takes it half a minute
        server.wait()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(120):
        assert server.poll() is None, "the S3 server died"
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the S3 server never answered")

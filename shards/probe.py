"""The probe: what a commit rests on is tried on the store itself before a run begins."""

from __future__ import annotations

import contextlib
import secrets
from concurrent.futures import ThreadPoolExecutor

import obstore
from obstore.exceptions import BaseError

from captioner.errors import RecapError, Refused
from shards import patience
from shards.patience import ask
from shards.store import Store, connect

WRITERS = 8
FOLDER = "probe"
# The SHA-256 of nothing that we send, in the Base64 that x-amz-checksum-sha256 wants.
WRONG_SHA256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
REMEDY = "use a disk with hard links, or an S3 store with conditional puts and checksums, such as AWS S3 or SeaweedFS"


def probe(store: Store) -> None:
    """Try one winner among 8 writers, a second put, read-your-write and a wrong checksum; leave nothing behind.

    Raises Refused, naming the feature that is missing, and OutOfService.
    """
    name = f"{FOLDER}/{secrets.token_hex(8)}"
    try:
        _one_winner(store, name)
        _listed(store, name)
        _wrong_checksum(store, f"{name}-checksum")
    finally:
        with contextlib.suppress(RecapError, FileNotFoundError):  # what stays is garbage, and `recap gc` knows it
            store.delete([name, f"{name}-checksum"])


def _one_winner(store: Store, name: str) -> None:
    """Writers that start together, then one that comes late. An answer may be lost, so the bytes are the judge."""
    said = [str(number).encode() for number in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        verdicts = list(pool.map(lambda data: store.create(name, data), said))
    won = [data for data, mine in zip(said, verdicts, strict=True) if mine]
    kept = _read_back(store, name)
    if len(won) > 1 or (won and won[0] != kept) or kept not in said:
        raise _missing(store, f"conditional puts (If-None-Match: *): {len(won)} of {WRITERS} writers won one name")
    if store.create(name, b"late") or _read_back(store, name) != kept:
        raise _missing(store, "conditional puts (If-None-Match: *): a second writer may replace an object")


def _read_back(store: Store, name: str) -> bytes:
    try:
        return store.read(name)
    except FileNotFoundError:
        raise _missing(store, "read-your-write: what was just written is not there") from None


def _listed(store: Store, name: str) -> None:
    if store.names(name) != [name]:
        raise _missing(store, "list-your-write: what was just written is not listed")


def _wrong_checksum(store: Store, name: str) -> None:
    """On S3, bytes with another checksum than the request's must be turned away.

    Google and Azure check digests of their own, which no client of ours can send wrong; a disk has none.
    """
    if not store.url.startswith("s3://"):
        return
    lying = connect(store.url, headers={"x-amz-checksum-sha256": WRONG_SHA256})

    def taken() -> bool:
        try:
            obstore.put(lying, name, b"other bytes")
        except BaseError as error:
            if patience.status_of(error) == 400:
                return False
            raise
        return True

    with patience.answering(store.url):
        if ask(store.url, taken):
            raise _missing(store, "checksum verification (x-amz-checksum-sha256): wrong bytes were taken")


def _missing(store: Store, feature: str) -> Refused:
    return Refused(f"{store.url} has no {feature}; {REMEDY}")

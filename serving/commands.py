"""`recap serve`: its command line, its start and its orderly end; and the keys of its callers."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from captioner.errors import Refused
from serving.connections import within_files
from serving.keys import SCOPES, Key, add_key
from serving.server import Server, server_of
from serving.uploads import SUMMARY, options_type


def serve(words: Sequence[str], console: Console) -> int:
    """`recap serve …`. Raises Refused, OutOfService."""
    if words[:1] == ["keys"]:
        return _keys(words[1:], console)
    options = options_of(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = server_of(replace(options, bounds=within_files(options.bounds)))
    asyncio.run(_run(server, console))
    if server.service.engine.lost is not None:
        raise server.service.engine.lost
    return 0


def options_of(words: Sequence[str]) -> Any:
    """The command line's settings. Raises Refused for what does not fit, SystemExit for what is none."""
    return tyro.cli(options_type(), args=list(words), prog="recap serve", description=SUMMARY)


async def _run(server: Server, console: Console) -> None:
    with server.signalled():
        async with server.running() as place:
            if not place.url:
                return
            engine = server.service.recipe.engine.name
            console.print(f"{engine} at {place.url} (a page to try it, and /docs)", highlight=False, soft_wrap=True)
            if place.metrics:
                console.print(f"metrics at {place.metrics}", highlight=False, soft_wrap=True)
            await server.until_asked()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKey:
    """Make an API key, print it once, and add its hash to a file; a running service takes it up within seconds.

    To rotate a key add another one of the same tenant, hand it out, and delete the old one from the file.
    """

    file: tyro.conf.Positional[Path]
    """The file; made if it is not there."""
    name: tyro.conf.Positional[str]
    """The key's name in logs."""
    tenant: str = ""
    """Whose shares and results it has in common with its other keys. Default: its name."""
    scopes: tuple[str, ...] = ("caption",)
    """What it may do: caption, fetch (URLs), run (look at the run)."""
    days: int = 90
    """How long it is valid; 0 for ever."""
    a_minute: int = 60
    """Requests a minute; 0 for any number."""
    at_once: int = 8
    """Requests under way at once; 0 for any number."""
    megapixels_a_day: int = 0
    """Of pictures and of the frames that are looked at in clips; 0 for any number."""


def _keys(words: Sequence[str], console: Console) -> int:
    if words[:1] != ["add"]:
        console.print("usage: recap serve keys add FILE NAME [--tenant T] [--scopes caption fetch run] [--days 90] …")
        return 0 if words[:1] in (["--help"], ["-h"]) else 2
    asked = tyro.cli(AddKey, args=list(words[1:]), prog="recap serve keys add", description=AddKey.__doc__)
    shares = {name: getattr(asked, name) for name in ("a_minute", "at_once", "megapixels_a_day")}
    try:
        key = Key(name=asked.name, tenant=asked.tenant or asked.name, sha256="0" * 64, scopes=asked.scopes, **shares)
    except ValueError as error:
        raise Refused(f"{error}; scopes are {', '.join(SCOPES)}") from error
    print(add_key(asked.file, key, asked.days))
    return 0

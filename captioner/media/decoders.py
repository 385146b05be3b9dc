"""The pool of decoder processes: hostile bytes go in here, and only bounded pictures come back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import orjson

from captioner.errors import MediaError, OutOfService
from captioner.media.clip_answer import question, side, watched
from captioner.media.wire import LENGTHS, MAX_BODY_BYTES, MAX_HEADER_BYTES, OUT_OF_MEMORY, Header, frame_head
from captioner.reasons import REASONS
from captioner.recipe import Limits, to_json
from captioner.types import Decoded, FrameBudget, Picture, PixelBudget

START_SECONDS, START_TRIES = 30.0, 3
DYING_SECONDS = 1.0  # between a closed connection and a gone process
# A pixel takes 4 bytes in Pillow, and premultiplying alpha holds the picture twice.
BYTES_PER_PIXEL = 8
# A video decoder keeps up to 17 frames of 1.5 bytes a pixel to predict from: 8K (33 million px) is the most that fits.
BYTES_PER_VIDEO_PIXEL = 30
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME")
# Pixels are written into memory used before instead of fresh pages: a 1 MP picture costs 0.3 ms of kernel time, not 7.
_MEMORY_KEPT = {
    "PILLOW_BLOCKS_MAX": "4",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}


class ChildDied(Exception):
    """A decoder process ended while it had a picture; reason is what to say if it does so again."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Frames(asyncio.Protocol):
    """Our end of the socket: what the child has sent, and one caller that waits for a whole frame of it.

    A protocol and not a stream: a frame there takes three waits, here one, which saves 0.1 ms of CPU a picture.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._waiting: asyncio.Future[tuple[Header, bytes]] | None = None
        self._lost = False

    async def next(self) -> tuple[Header, bytes]:
        """Raises ValueError for what is no frame, ConnectionResetError when the child is gone."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._tell()
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def data_received(self, data: bytes) -> None:
        if self._lost:
            return
        self._held += data
        if self._waiting is None and len(self._held) > MAX_HEADER_BYTES + MAX_BODY_BYTES:
            self._held.clear()  # nobody asked, and a child taken over may send for ever
            self._lost = True
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._tell()

    def _tell(self) -> None:
        if self._waiting is None or self._waiting.done():
            return
        try:
            if (frame := self._cut()) is not None:
                self._waiting.set_result(frame)
            elif self._lost:
                self._waiting.set_exception(ConnectionResetError())
        except ValueError as error:
            self._waiting.set_exception(error)

    def _cut(self) -> tuple[Header, bytes] | None:
        """The first frame taken off what is held, None while it is not whole."""
        if len(self._held) < LENGTHS.size:
            return None
        header_bytes, body_bytes = LENGTHS.unpack_from(self._held)
        if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
            raise ValueError("a frame over its limit")
        body_at = LENGTHS.size + header_bytes
        end = body_at + body_bytes
        if len(self._held) < end:
            return None
        header = orjson.loads(self._held[LENGTHS.size : body_at])
        body = bytes(memoryview(self._held)[body_at:end])
        del self._held[:end]
        if not isinstance(header, dict):
            raise ValueError("a frame without a header")
        return header, body


@dataclass(slots=True, kw_only=True, eq=False)
class Child:
    """One decoder process and the socket to it; files: another one, over which it is lent large clips."""

    process: Process
    transport: asyncio.Transport
    frames: Frames
    oom_kills: int
    files: socket.socket | None = None
    network: str = "open"
    asked: int = 0

    @property
    def alive(self) -> bool:
        return self.process.returncode is None and not self.transport.is_closing()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.transport.abort()
        if self.files is not None:
            self.files.close()

    def lent(self, header: Header, media: bytes | IO[bytes]) -> tuple[Header, bytes]:
        """A question as it is asked: a file is not sent, but its descriptor."""
        if isinstance(media, bytes):
            return header, media
        assert self.files is not None, "a child that was told of clips"
        # Opened anew, to be read and no more: what it could write would be in the corpus, under the old sha256.
        descriptor = os.open(f"/proc/self/fd/{media.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            socket.send_fds(self.files, [b"f"], [descriptor])
        finally:
            os.close(descriptor)
        return {**header, "lent": True}, b""

    async def ask(self, header: Header, media: bytes | IO[bytes]) -> tuple[Header, bytes]:
        """Its answer. Whatever else happens, cancellation too, it is killed: nobody knows what it would say next."""
        self.asked += 1
        try:
            header, body = self.lent(header, media)
            self.transport.writelines((frame_head(header, len(body)), body))  # goes on in the background: nobody waits
            return await self.frames.next()
        except (ConnectionError, ValueError):
            raise ChildDied(await self._cause_of_death()) from None
        except BaseException:
            self.kill()
            raise

    async def _cause_of_death(self) -> str:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), DYING_SECONDS)
        code = self.process.returncode
        self.kill()
        if code == -signal.SIGXCPU:
            return "decode_timeout"
        out_of_memory = code == -signal.SIGKILL and _oom_kills() > self.oom_kills
        return "resource_exceeded" if out_of_memory or code == OUT_OF_MEMORY else "decoder_crash"


class DecoderPool:
    """At most `processes` pictures at once, each alone in a limited process; entering starts them, leaving ends them.

    A picture over its deadline, or one whose caller is cancelled, costs its process; the next one starts at once.
    A process is replaced after recycle_after pictures. clips: the reader, of clip_format.READERS, that clips are
    looked at with, "" where none will come: then no process loads it.
    """

    def __init__(self, processes: int, limits: Limits, recycle_after: int = 2000, clips: str = "") -> None:
        self.processes = processes
        self.limits = limits
        self.recycle_after = recycle_after
        self.clips = clips
        self._turns = asyncio.Semaphore(processes)
        self._starts: set[asyncio.Task[Child]] = set()  # one per process, done once the child is ready
        self._idle: list[asyncio.Task[Child]] = []  # those with no picture; last in is first out, its memory is warm
        self._children: set[Child] = set()
        self._entered = False

    @property
    def pids(self) -> list[int]:
        return [child.process.pid for child in self._children if child.process.returncode is None]

    @property
    def network(self) -> str:
        """`refused` if every child tried to open a socket and could not, else `open`: a kernel without seccomp."""
        return "refused" if self._children and all(c.network == "refused" for c in self._children) else "open"

    async def __aenter__(self) -> Self:
        self._entered = True
        self._idle = [self._begin() for _ in range(self.processes)]
        try:
            await asyncio.gather(*self._idle)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._entered = False
        self._idle.clear()
        for starting in self._starts:
            starting.cancel()
        for child in self._children:
            child.kill()
        await asyncio.gather(*self._starts, return_exceptions=True)
        await asyncio.gather(*(child.process.wait() for child in self._children))
        self._starts.clear()
        self._children.clear()

    async def decode(self, media: bytes, budget: PixelBudget) -> Decoded:
        """Raises MediaError with a reason; OutOfService if no decoder process can be started."""
        header: Header = {
            "budget": to_json(budget),
            "most_pixels": self.limits.decode_memory_mib * 2**20 // BYTES_PER_PIXEL,
        }
        return await self._answered(header, media)

    async def watch(self, media: bytes | IO[bytes], budget: FrameBudget) -> Decoded:
        """The frames of a clip, which may come as an open file. Raises as decode does; OutOfService from a pool that
        was not told of clips."""
        if not self.clips:
            raise OutOfService("this pool was made for pictures alone")
        most_pixels = self.limits.decode_memory_mib * 2**20 // BYTES_PER_VIDEO_PIXEL
        return await self._answered(question(budget, to_json(budget.pixels), most_pixels), media)

    async def _answered(self, header: Header, media: bytes | IO[bytes]) -> Decoded:
        async with self._turns:
            try:
                return await self._decode_once(header, media)
            except ChildDied as death:
                if death.reason == "decode_timeout":
                    raise MediaError("decode_timeout", "the decoder process used up its CPU time") from None
            try:  # the picture may not be at fault: once more, in a process that has seen no other
                return await self._decode_once(header, media)
            except ChildDied as death:
                raise MediaError(death.reason, "the decoder process died twice on it") from None

    async def _decode_once(self, header: Header, media: bytes | IO[bytes]) -> Decoded:
        if not self._entered:
            raise OutOfService("the decoder pool is closed; enter it with `async with`")
        starting = self._idle.pop()
        try:
            child = await asyncio.shield(starting)
            if not child.alive:  # it died while it had nothing to do: no picture's fault
                starting = self._replace(starting)
                child = await asyncio.shield(starting)
            async with asyncio.timeout(self.limits.decode_seconds):
                answer = await child.ask(header, media)
        except TimeoutError:
            raise MediaError("decode_timeout", f"decoding took over {self.limits.decode_seconds:g} s") from None
        finally:
            if self._entered:
                self._idle.append(starting if self._is_fit(starting) else self._replace(starting))
        return _decoded(*answer)

    def _is_fit(self, starting: asyncio.Task[Child]) -> bool:
        if not starting.done():  # whoever waited for it was cancelled
            return True
        if starting.cancelled() or starting.exception():
            return False
        child = starting.result()
        return child.alive and child.asked < self.recycle_after

    def _replace(self, gone: asyncio.Task[Child]) -> asyncio.Task[Child]:
        self._starts.discard(gone)
        if not gone.cancelled() and not gone.exception():
            gone.result().kill()
        return self._begin()

    def _begin(self) -> asyncio.Task[Child]:
        starting = asyncio.create_task(self._start())
        self._starts.add(starting)
        return starting

    async def _start(self) -> Child:
        """Raises OutOfService; what Python has to say of it is on our own stderr."""
        for _ in range(START_TRIES):
            child = await _spawn(self.limits, self.clips)
            self._children = {c for c in self._children if c.process.returncode is None} | {child}
            try:
                async with asyncio.timeout(START_SECONDS):
                    ready, _ = await child.frames.next()
                child.network = str(ready.get("network"))
                return child
            except (TimeoutError, ConnectionError, ValueError):
                child.kill()
            except BaseException:
                child.kill()
                raise
        raise OutOfService(f"a decoder process ended {START_TRIES} times while starting; its own words are on stderr")


async def _spawn(limits: Limits, clips: str) -> Child:
    arguments = (limits.decode_memory_mib, limits.decode_seconds, os.getpid(), clips)
    command = (sys.executable, "-s", "-P", "-m", "captioner.media.decoder_child", *map(str, arguments))
    oom_kills = _oom_kills()
    ours, theirs = socket.socketpair()
    end = theirs.fileno()
    files, borrowing = socket.socketpair()
    lent = borrowing.fileno()
    with theirs, borrowing:
        transport, frames = await asyncio.get_running_loop().create_connection(Frames, sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                *(*command, str(lent)), stdin=end, stdout=end, env=_environment(), pass_fds=(lent,)
            )
        except BaseException:
            transport.close()
            files.close()
            raise
    return Child(process=process, transport=transport, frames=frames, files=files, oom_kills=oom_kills)


def _environment() -> dict[str, str]:
    """What Python needs to find the same modules, and no more: the parent's secrets stay with it."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {"PYTHONPATH": path, "LC_ALL": "C.UTF-8", **_MEMORY_KEPT, **kept}


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory; 0 where it does not say."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _decoded(answer: Header, jpeg: bytes) -> Decoded:
    """Raises MediaError: the child's own, or decoder_crash for an answer that no sound child gives."""
    try:
        if "reason" in answer:
            raise MediaError(_known(answer["reason"]), str(answer["detail"])[:200])
        if "pictures" in answer:
            return watched(answer, jpeg)
        (width, height), (picture_width, picture_height) = answer["original"], answer["picture"]
        picture = Picture(jpeg=jpeg, width=side(picture_width), height=side(picture_height))
        flags = frozenset(map(str, answer["flags"]))
        return Decoded(picture=picture, width=side(width), height=side(height), flags=flags)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise MediaError("decoder_crash", "the decoder process gave an answer that is none") from None


def _known(reason: object) -> str:
    if not isinstance(reason, str) or reason not in REASONS:
        raise ValueError("a reason that is not on the list")
    return reason

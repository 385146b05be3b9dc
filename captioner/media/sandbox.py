"""What a decoder process does to itself before it reads the first hostile byte: it gives away all it will not need.

What is left can compute, and read and write the descriptors it already holds. Linux only; where the kernel has no
seccomp the limits still hold, and close() says that the network is open.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Network = Literal["refused", "open"]

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_PROT_EXEC = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Confines:
    """What the process may use. parent: pid it must not outlive. threads: whether it may start any; never a process."""

    memory_mib: int
    open_files: int = 16
    parent: int
    threads: bool = False


def close(confines: Confines) -> Network:
    """Never to be opened again: limits, death with the parent, then the system calls. Import everything before."""
    libc = ctypes.CDLL(None, use_errno=True)
    _die_with(confines.parent, libc)
    with contextlib.suppress(OSError):  # short of memory, the kernel shall kill a decoder first
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    if not confines.threads:  # it counts threads too, and all that the user runs elsewhere
        _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_NOFILE, confines.open_files)
    _limit(resource.RLIMIT_AS, confines.memory_mib * 2**20)
    _refuse_system_calls(libc, confines.threads)
    return _network(libc)


def allow_cpu(seconds: float) -> None:
    """From now on so much CPU time, then SIGXCPU: it stops a spinning decoder even if nobody watches it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _die_with(parent: int, libc: ctypes.CDLL) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the signal was asked for
        os._exit(0)


# System calls left to it: numbers on (x86_64, aarch64). Memory, its own pipes, clocks, signals to itself, the end.
ALLOWED: dict[str, tuple[int, int]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "recvmsg": (47, 212),  # descriptors that the parent lends it
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getrusage": (98, 165),
    "clock_gettime": (228, 113),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Allowed while (argument & mask) is 0: numbers, argument, mask. No code is loaded or made any more; limits are its own.
ALLOWED_IF: dict[str, tuple[tuple[int, int], int, int]] = {
    "mmap": ((9, 222), 2, _PROT_EXEC),
    "mprotect": ((10, 226), 2, _PROT_EXEC),
    "prlimit64": ((302, 261), 0, 0xFFFFFFFF),
}
# For threads: what glibc does at the beginning of one, and clone with CLONE_THREAD. The flags of clone3 lie in memory,
# where no filter sees them: it is "not implemented", and glibc then takes clone.
ALLOWED_WITH_THREADS = {"gettid": (186, 178), "set_robust_list": (273, 99), "rseq": (334, 293)}
_CLONE, _CLONE3, _CLONE_THREAD = (56, 220), (435, 435), 0x10000
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH

_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # classic BPF
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def seccomp_program(machine: str, threads: bool = False) -> bytes:
    """Classic BPF over struct seccomp_data: EPERM for all but the tables above; another architecture's call kills."""
    column, audit_arch = _MACHINES[machine]
    refuse = _instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = _instruction(_RETURN, 0, 0, _ALLOW)
    program = [
        _instruction(_LOAD, 0, 0, 4),
        _instruction(_JUMP_EQUAL, 1, 0, audit_arch),
        _instruction(_RETURN, 0, 0, _KILL),
        _instruction(_LOAD, 0, 0, 0),
    ]
    for numbers in ALLOWED.values():
        program += [_instruction(_JUMP_EQUAL, 0, 1, numbers[column]), allow]
    for numbers, argument, mask in ALLOWED_IF.values():
        program += [
            _instruction(_JUMP_EQUAL, 0, 4, numbers[column]),
            _instruction(_LOAD, 0, 0, 16 + 8 * argument),
            _instruction(_JUMP_ANY_BIT, 0, 1, mask),
            refuse,
            allow,
        ]
    if threads:
        for numbers in ALLOWED_WITH_THREADS.values():
            program += [_instruction(_JUMP_EQUAL, 0, 1, numbers[column]), allow]
        program += [
            _instruction(_JUMP_EQUAL, 0, 4, _CLONE[column]),
            _instruction(_LOAD, 0, 0, 16),
            _instruction(_JUMP_ANY_BIT, 0, 1, _CLONE_THREAD),
            allow,
            refuse,
            _instruction(_JUMP_EQUAL, 0, 1, _CLONE3[column]),
            _instruction(_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        ]
    return b"".join((*program, refuse))


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _refuse_system_calls(libc: ctypes.CDLL, threads: bool) -> None:
    """Does nothing on another machine or a kernel without seccomp: _network then finds the network open."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if platform.machine() in _MACHINES:
        code = seccomp_program(platform.machine(), threads)
        program = _Program(len(code) // 8, code)
        libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def _network(libc: ctypes.CDLL) -> Network:
    """Tried rather than trusted."""
    descriptor = libc.socket(2, 1, 0)
    if descriptor < 0 and ctypes.get_errno() == errno.EPERM:
        return "refused"
    if descriptor >= 0:
        os.close(descriptor)
    return "open"

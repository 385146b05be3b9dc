"""How much freed memory a long-lived process keeps for its threads."""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8  # glibc's malloc.h


def few_arenas(count: int = 2) -> bool:
    """Have glibc share so many heaps among all threads; False where the C library has no such setting.

    With one heap a thread, what one thread allocates and another frees piles up: 0.3 KB a sample, without end.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, count))

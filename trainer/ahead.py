"""Work on many things done ahead in threads, in order, and never more of it than fits into memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = max(1, min(4, os.cpu_count() or 1))
"""Threads that open pictures where nothing else is said: more wait for the disk."""
A = TypeVar("A")
B = TypeVar("B")


def ahead(
    items: Iterable[A], work: Callable[[A], B], workers: int, depth: int
) -> Generator[tuple[A, Future[B]], None, None]:
    """Each item in order with its work done (or failed), by threads that are at most `depth` items ahead.

    What is made ready is never more than that, so that memory does not grow with the number of pictures.
    """
    waiting: deque[tuple[A, Future[B]]] = deque()
    with ThreadPoolExecutor(workers, "pictures") as pool:  # decoding and resizing let go of Python's lock
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= depth:
                    waiting[0][1].exception()  # waits, and leaves it to who asks for the result
                    yield waiting.popleft()
            while waiting:
                waiting[0][1].exception()
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()

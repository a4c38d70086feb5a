"""Pictures as the taggers were trained on them, and many of them made ready ahead of the model.

The recipe is that of SmilingWolf's own program: transparent parts white, white bars to a square, Pillow's bicubic
filter, blue before red, numbers from 0 to 255.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image

WHITE = (255, 255, 255)
A = TypeVar("A")
B = TypeVar("B")


def square(image: Image.Image, side: int) -> Image.Image:
    """An RGB picture on a white square of `side` pixels; the same pixels as padding first and resizing then.

    Pillow resizes rows before columns, so the bars above and below need not go through the first half: a quarter less
    work for a landscape.
    """
    width, height = image.size
    if width <= height:
        return _padded(image, (height, height)).resize((side, side), Image.Resampling.BICUBIC)
    narrow = image.resize((side, height), Image.Resampling.BICUBIC)
    return _padded(narrow, (side, width)).resize((side, side), Image.Resampling.BICUBIC)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    ground = Image.new("RGB", size, WHITE)
    ground.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return ground


def numbers(image: Image.Image) -> np.ndarray:
    """The picture as float32 [H, W, 3] from 0 to 255, blue first."""
    return np.asarray(image)[:, :, ::-1].astype(np.float32)


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

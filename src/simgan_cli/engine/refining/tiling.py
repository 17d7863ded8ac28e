"""Cut large images into overlapping tiles of one shape, so that every pixel is computed as if there were no cut."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def in_tiles(run: Callable[[Tensor], Tensor], x: Tensor, longest: int, margin: int, at_once: int = 1) -> Tensor:
    """Return `run(x)` of N x C x H x W images, computed in tiles of at most `longest` > 2 `margin` pixels a side.

    `run` maps a batch to one of the same height and width, and its outputs depend on inputs up to `margin` pixels away.
    Each image is cut alone, so that its tiles do not depend on other images. Memory holds `at_once` tiles beside them.
    """
    counts = [cuts_needed(length, longest, margin) for length in x.shape[2:]]
    if counts == [1, 1]:
        return run(x)
    rows, columns = (cuts(length, count, margin) for length, count in zip(x.shape[2:], counts, strict=True))
    places = [(row, column) for row in rows for column in columns]
    results: list[Tensor] = []
    for image in x:
        result: Tensor | None = None
        for start in range(0, len(places), at_once):
            part = places[start : start + at_once]
            tiles = run(torch.stack([image[:, row.window, column.window] for row, column in part]))
            if result is None:
                result = tiles.new_empty((tiles.shape[1], *x.shape[2:]))
                results.append(result)
            for (row, column), tile in zip(part, tiles, strict=True):
                result[:, row.kept, column.kept] = tile[:, row.inner, column.inner]
    return torch.stack(results)


@dataclass(frozen=True)
class Cut:
    """One window along an axis: the network's input, the part of the result that it gives, and that part's place."""

    window: slice
    kept: slice

    @property
    def inner(self) -> slice:
        """The kept part, counted from the window's start."""
        return slice(self.kept.start - self.window.start, self.kept.stop - self.window.start)


def cuts_needed(length: int, longest: int, margin: int) -> int:
    """Return the least number of windows of at most `longest` > 2 `margin` pixels that cover `length`, overlapping."""
    return 1 if length <= longest else -(-(length - 2 * margin) // (longest - 2 * margin))


def cuts(length: int, count: int, margin: int) -> list[Cut]:
    """Return `count` windows of one length whose kept parts make up `length` pixels.

    Each kept part lies `margin` or more within its window, except at the ends of the image.
    """
    window = length if count == 1 else -(-(length - 2 * margin) // count) + 2 * margin
    starts = [index * (length - window) // max(1, count - 1) for index in range(count)]
    edges = [0, *(start + margin for start in starts[1:]), length]
    return [
        Cut(slice(start, start + window), slice(first, last))
        for start, first, last in zip(starts, edges, edges[1:], strict=False)
    ]

"""Groups of pictures of one size, for a network that takes batches."""

import math
from collections.abc import Iterator

from simgan_cli.engine.refining.image_file import Picture
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.refining.plan import RefineTask

MAX_WAITING_BYTES = 64_000_000  # of decoded images in front of the network, and as many behind it

Group = list[tuple[RefineTask, Picture]]
Key = tuple[int | None, str, tuple[int, ...]]  # which look; type and shape of pixels


class SizeBuckets:
    """Pictures that wait for others of their size and look, so that the network gets full batches."""

    def __init__(self, refiner: ImageRefiner, most: int) -> None:
        self._refiner, self._most = refiner, most
        self._groups: dict[Key, Group] = {}
        self._bytes = 0

    def add(self, task: RefineTask, picture: Picture) -> Iterator[Group]:
        """Add a picture and yield the groups that are due: full ones, or the largest beyond `most` bytes."""
        pixels = picture.pixels
        key = (task.copy, pixels.dtype.str, pixels.shape)
        self._groups.setdefault(key, []).append((task, picture))
        self._bytes += pixels.nbytes
        if len(self._groups[key]) >= self._refiner.capacity((pixels.shape[1], pixels.shape[2])):
            yield self._take(key)
        if self._bytes > self._most:
            yield self._take(max(self._groups, key=lambda key: len(self._groups[key]) * math.prod(key[2])))

    def rest(self) -> Iterator[Group]:
        """Yield the remaining groups."""
        while self._groups:
            yield self._take(next(iter(self._groups)))

    def _take(self, key: Key) -> Group:
        group = self._groups.pop(key)
        self._bytes -= sum(picture.pixels.nbytes for _, picture in group)
        return group

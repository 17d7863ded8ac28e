"""Apply a refiner to images of any size: channels, preprocessing, batches, tiles, strength, memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.images import Pixels, equalize
from simgan_cli.data.sampler import to_network, to_pixels
from simgan_cli.engine.model import RefinerModel
from simgan_cli.engine.networks import receptive_field
from simgan_cli.engine.runtime import autocast
from simgan_cli.errors import DataError

SMALLEST_TILE = 64  # pixels; where even this does not fit into memory, nothing would


class ImageRefiner:
    """Maps images to refined images of the same shape, type and range (see `__call__`).

    On a CPU an image's result does not depend on the images beside it, nor on `batch_size`, bit for bit; tiles change
    it by rounding only.
    """

    def __init__(
        self,
        model: RefinerModel,
        device: torch.device,
        *,
        precision: str = "fp32",
        batch_size: int = 32,
        tile: int = 512,
        strength: float = 1.0,
    ) -> None:
        self.model, self.device, self.strength = model, device, strength
        self.batch_size = batch_size
        self._network = model.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._autocast: Callable[[], AbstractContextManager[object]] = autocast(precision, device)
        self._margin = receptive_field(model.network) // 2
        self._tile = max(tile, 4 * self._margin)
        self._pixels_at_once = (16 if device.type == "cuda" else 2) * self._tile**2

    @overload
    def __call__(self, images: NDArray[Any]) -> NDArray[Any]: ...

    @overload
    def __call__(self, images: Tensor) -> Tensor: ...

    def __call__(self, images: NDArray[Any] | Tensor) -> NDArray[Any] | Tensor:
        """Refine one image or a batch of them, of any height and width.

        NumPy arrays have their channels last: H x W or H x W x C, or N x H x W x C for a batch. Tensors have them
        first: C x H x W or N x C x H x W. C is the model's, 1 or 3. uint8 (0 to 255) and uint16 (0 to 65535) come back
        as they came, rounded half to even; floating-point images lie in [-1, 1] and come back as float32. The result
        has the images' shape, and for a tensor its device. Raises DataError for another shape, type or range.
        """
        if isinstance(images, Tensor):
            batch = images.detach().cpu()
            return self._refine_batch(batch if batch.ndim == 4 else batch[None]).reshape(images.shape).to(images.device)
        array = images[..., None] if images.ndim == 2 else images
        array = array if array.ndim == 4 else array[None]
        refined = self._refine_batch(torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1))))
        return np.ascontiguousarray(np.moveaxis(refined.numpy(), 1, -1)).reshape(images.shape)

    def _refine_batch(self, batch: Tensor) -> Tensor:
        if batch.ndim != 4 or batch.shape[1] != self.model.channels or 0 in batch.shape:
            raise DataError(
                f"a batch of shape {tuple(batch.shape)} where N x C x H x W with C = {self.model.channels} was wanted"
            )
        if batch.dtype in (torch.uint8, torch.uint16):
            return torch.from_numpy(self.refine(batch.numpy()))
        if not batch.is_floating_point():
            raise DataError(f"images of type {batch.dtype}; wanted uint8, uint16 or floating point")
        if not bool((batch.abs() <= 1.001).all()):  # false for NaN, too
            raise DataError("floating-point images with values outside [-1, 1], or NaN; scale them")
        return self._blend(batch.float())

    def refine(self, pixels: Pixels) -> Pixels:
        """Refine images of one size, N x C x H x W, uint8 or uint16, C 1 or 3; return the same shape and type.

        Where the model has other channels than the images, it sees their luma and only that changes (hues stay), or
        grey as three equal channels and the luma of its result is kept.
        """
        channels, wanted = pixels.shape[1], self.model.channels
        seen = pixels if channels == wanted else luma(pixels) if wanted == 1 else np.repeat(pixels, 3, axis=1)
        prepared = _equalized(seen) if self.model.preprocess == "equalize" else seen
        refined = to_pixels(self._blend(to_network(torch.from_numpy(prepared))), pixels.dtype)
        if channels == wanted:
            return refined
        if wanted == 3:
            return luma(refined)
        moved = pixels.astype(np.int32) + (refined.astype(np.int32) - seen)
        result: Pixels = np.clip(moved, 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
        return result

    def capacity(self, size: tuple[int, int]) -> int:
        """Return how many images of `size` (H, W) make a full batch; large ones are cut into tiles, one at a time."""
        return max(1, min(self.batch_size, self._pixels_at_once // (size[0] * size[1])))

    @torch.no_grad()
    def _blend(self, x: Tensor) -> Tensor:
        """Return x + A (R(x) - x), N x C x H x W float32 on the CPU; halve what is done at once where memory ends."""
        if self.strength == 0:
            return x
        while True:
            try:
                refined = self._tiled(x)
                return refined if self.strength == 1 else x + self.strength * (refined - x)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error) or self._pixels_at_once <= 2 * self._smallest_tile**2:
                    raise
            self._halve()  # out here, where the failed attempt's tensors are gone

    def _halve(self) -> None:
        """Make room: half as many pixels at once, by smaller batches and then by smaller tiles."""
        self._pixels_at_once //= 2
        self._tile = max(self._smallest_tile, min(self._tile, int((self._pixels_at_once / 2) ** 0.5)))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def _smallest_tile(self) -> int:
        return max(SMALLEST_TILE, 4 * self._margin)

    def _tiled(self, x: Tensor) -> Tensor:
        counts = [cuts_needed(length, self._tile, self._margin) for length in x.shape[2:]]
        if counts == [1, 1]:
            return self._batched(x)
        if counts[0] * counts[1] % 2:  # an even number leaves no tile alone in a pass, which would cost that of two
            counts[counts.index(max(counts))] += 1
        rows, columns = (cuts(length, count, self._margin) for length, count in zip(x.shape[2:], counts, strict=True))
        # All tiles have one shape, so they make batches; each keeps what no artificial edge can reach.
        tiles = [(image, row, column) for image in range(len(x)) for row in rows for column in columns]
        refined = torch.empty_like(x)
        at_once = self._at_once(rows[0].length * columns[0].length)
        for start in range(0, len(tiles), at_once):
            group = tiles[start : start + at_once]
            cut = torch.stack([x[image, :, row.window, column.window] for image, row, column in group])
            for (image, row, column), tile in zip(group, self._batched(cut), strict=True):
                refined[image, :, row.kept, column.kept] = tile[:, row.inner, column.inner]
        return refined

    def _batched(self, x: Tensor) -> Tensor:
        at_once = self._at_once(x.shape[2] * x.shape[3])
        return torch.cat([self._pass(part, at_once) for part in torch.split(x, at_once)])

    def _at_once(self, pixels: int) -> int:
        return max(2, min(self.batch_size, self._pixels_at_once // pixels))

    def _pass(self, x: Tensor, full: int) -> Tensor:
        """Return R(x) in [-1, 1] on the CPU.

        Kernels are chosen by shape: a single image of one channel takes another one than a batch on a CPU, and on a
        GPU every batch size may. A batch filled up gives an image the same result in any company.
        """
        filled = full if self.device.type == "cuda" else 2
        count = len(x)
        if count < filled:
            x = torch.cat([x, x[-1:].expand(filled - count, -1, -1, -1)])
        x = x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            refined: Tensor = self._network(x)
        return refined[:count].float().clamp(-1, 1).cpu()


@dataclass(frozen=True)
class Cut:
    """One window along an axis: what the network sees, what of the whole it decides, and where that lies inside."""

    window: slice
    kept: slice

    @property
    def length(self) -> int:
        """Pixels of the window."""
        return int(self.window.stop - self.window.start)

    @property
    def inner(self) -> slice:
        """The kept part, counted from the window's start."""
        return slice(self.kept.start - self.window.start, self.kept.stop - self.window.start)


def cuts_needed(length: int, longest: int, margin: int) -> int:
    """Return how few windows of at most `longest` > 2 `margin` pixels cover `length` with `margin` of overlap."""
    return 1 if length <= longest else -(-(length - 2 * margin) // (longest - 2 * margin))


def cuts(length: int, count: int, margin: int) -> list[Cut]:
    """Return `count` windows of one length whose kept parts make up `length` pixels.

    Each kept part lies `margin` or more within its window, but for the ends of the whole.
    """
    window = length if count == 1 else -(-(length - 2 * margin) // count) + 2 * margin
    starts = [index * (length - window) // max(1, count - 1) for index in range(count)]
    edges = [0, *(start + margin for start in starts[1:]), length]
    return [
        Cut(slice(start, start + window), slice(first, last))
        for start, first, last in zip(starts, edges, edges[1:], strict=False)
    ]


def luma(pixels: Pixels) -> Pixels:
    """Return N x 1 x H x W grey of N x 3 x H x W colour (ITU-R 601, in Pillow's integers: equal channels stay)."""
    wide = pixels.astype(np.int64)
    red, green, blue = wide[:, 0:1], wide[:, 1:2], wide[:, 2:3]
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(pixels.dtype)


def _equalized(pixels: Pixels) -> Pixels:
    images = [image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, -1)) for image in pixels]
    return np.stack([np.moveaxis(np.atleast_3d(equalize(image)), -1, 0) for image in images])


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)

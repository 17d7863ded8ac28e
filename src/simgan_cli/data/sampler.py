"""Draw mini-batches for the networks: shuffled, endless, on the device, and resumable from one number."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.decoding import Pixels, top_of

MAX_RESIDENT_FRACTION = 0.4  # of the device's free memory that one domain's pixels may take
Batch = tuple[Tensor, Tensor | None]  # integer images, and their labels if any


def as_tensor(pixels: Pixels) -> Tensor:
    """Return pixels as a tensor; uint16 becomes int16 of the same bytes, since MPS has no uint16."""
    return torch.from_numpy(pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels)


def to_network(pixels: Tensor) -> Tensor:
    """Return integer pixels as float32 in [-1, 1]; 0 is -1, the largest value of the type is 1.

    16 bits are read as unsigned, also from the int16 of `as_tensor`.
    """
    if pixels.dtype == torch.uint8:
        return pixels.to(torch.float32).div_(127.5).sub_(1)
    return pixels.to(torch.int32).bitwise_and_(0xFFFF).to(torch.float32).div_(32767.5).sub_(1)


def to_pixels(images: Tensor, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> Pixels:
    """Return images in [-1, 1] as integers, rounded half to even and clipped: the inverse of `to_network`."""
    top = top_of(dtype)
    scaled = (images.detach().to(torch.float32) + 1) * (top / 2)
    return scaled.round().clamp(0, top).cpu().numpy().astype(dtype)


def on_device(numbers: NDArray[Any], device: torch.device) -> Tensor:
    """Return numbers as a tensor on `device`, copied from pinned memory so that the copy does not wait for the GPU."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Sampler:
    """An endless stream of mini-batches: one shuffled pass over the images after another.

    Pass k is a permutation that depends on (seed, stream, k) alone. A resume therefore needs only `position`, the
    number of images drawn so far. A batch may be larger than the data set. Images `left_out` are never drawn. With
    `weights`, one for each image, a pass draws as many images with replacement; `reweigh` changes them.

    Pixels that fit stay on the device as integers. Otherwise a thread gathers the next batch during the current step.

    `part` is (index, count) of the processes that share the stream: each takes its piece of every batch, and
    `position` counts the images of all. All processes must draw the same counts.
    After each batch `targets` holds the rows of `labels` of its images.
    """

    def __init__(
        self,
        pixels: Pixels,
        device: torch.device,
        seed: tuple[int, int],
        *,
        flip: bool = False,
        left_out: NDArray[np.int64] | None = None,
        resident: bool | None = None,
        part: tuple[int, int] = (0, 1),
        labels: NDArray[np.float32] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.position = 0
        self.targets: Tensor | None = None
        self._labels = None if labels is None else torch.from_numpy(labels).to(device)
        kept = np.arange(len(pixels))
        self.kept = kept if left_out is None else np.setdiff1d(kept, left_out)
        self._device, self._seed, self._flip, self._part = device, seed, flip, part
        self._host = as_tensor(pixels)
        self._pass: tuple[int, NDArray[np.int64]]
        if resident is None:
            resident = (
                device.type != "cuda" or pixels.nbytes < MAX_RESIDENT_FRACTION * torch.cuda.mem_get_info(device)[0]
            )
        self._resident = self._host.to(device) if resident else None
        self._ahead: tuple[tuple[int, int], Future[Batch]] | None = None
        self._thread = None if resident else ThreadPoolExecutor(1)
        self.reweigh(weights)

    def reweigh(self, weights: NDArray[np.float64] | None) -> None:
        """Draw by other weights from the current position on."""
        if self._ahead is not None:
            self._ahead[1].result()  # its thread reads what changes here
        self.weights, self._ahead = weights, None
        self._shares = None if weights is None else weights[self.kept] / weights[self.kept].sum()
        self._pass = (-1, np.empty(0, dtype=np.int64))

    def __call__(self, count: int) -> Tensor:
        """Return this part's next `count` images, count x C x H x W float32 in [-1, 1]."""
        index, parts = self._part
        start = self.position
        position = start + index * count
        self.position += parts * count
        if self._thread is None:
            batch, self.targets = self._gather(position, count)
        else:
            if self._ahead is None or self._ahead[0] != (position, count):
                self._ahead = ((position, count), self._thread.submit(self._gather, position, count))
            batch, self.targets = self._ahead[1].result()
            # Prefetch a batch of the same size; if another size is wanted, it is gathered again.
            following = (position + parts * count, count)
            self._ahead = (following, self._thread.submit(self._gather, *following))
        batch = to_network(batch.to(self._device, non_blocking=True))
        if self._flip:
            of_all = np.random.default_rng([*self._seed, 1, start]).random(parts * count) < 0.5
            chosen = on_device(of_all[index * count : (index + 1) * count], self._device).view(-1, 1, 1, 1)
            batch = torch.where(chosen, batch.flip(-1), batch)
        return batch.contiguous(memory_format=torch.channels_last)

    def indices(self, position: int, count: int) -> NDArray[np.int64]:
        """Return the indices of the images at `position` to `position + count` of the stream."""
        size = len(self.kept)
        parts = []
        while count > 0:
            index, offset = divmod(position, size)
            if self._pass[0] != index:
                rng = np.random.default_rng([*self._seed, 0, index])
                drawn = (
                    rng.permutation(self.kept) if self._shares is None else rng.choice(self.kept, size, p=self._shares)
                )
                self._pass = index, drawn
            part = self._pass[1][offset : offset + count]
            parts.append(part)
            position, count = position + len(part), count - len(part)
        return np.concatenate(parts)

    def _gather(self, position: int, count: int) -> Batch:
        chosen = self.indices(position, count)
        index = on_device(chosen, self._device)
        targets = None if self._labels is None else self._labels[index]
        if self._resident is not None:
            return self._resident[index], targets
        batch = self._host[torch.from_numpy(chosen)]
        return (batch.pin_memory() if self._device.type == "cuda" else batch), targets

"""Apply a refiner to images of any size: channels, preprocessing, batches, tiles, strength, memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from simgan_cli.data.augmentation import augment
from simgan_cli.data.decoding import Pixels, channels_first, channels_last, equalize, luma
from simgan_cli.data.matching import Match, MatchSetting, look_generators, match_tones
from simgan_cli.data.sampler import to_network, to_pixels
from simgan_cli.engine.export.onnx_network import OnnxNetwork
from simgan_cli.engine.export.refiner_model import RefinerModel
from simgan_cli.engine.method.noise import beside_their_own_noise, choices, look_keys
from simgan_cli.engine.refining.cpu_clock import CpuClock
from simgan_cli.engine.refining.tiling import in_tiles
from simgan_cli.engine.runtime.device import autocast, resolve_precision
from simgan_cli.errors import DataError, SettingsError, is_out_of_memory, plural

PIL_MODES = ("L", "RGB", "I;16")  # whose arrays are pixels of one or three channels
ValueRange = tuple[float, float]
TOLERANCE = 0.001  # beyond a range, as resizing leaves
RANGES: tuple[ValueRange, ...] = ((0, 1), (-1, 1))  # of floating-point images
MIN_TILE = 64  # pixels; smaller ones would not help where memory is out
# One core refines a part of a batch alone: cores that share a convolution wait for each other whenever one of them
# reads or writes a file.
IMAGES_PER_CORE = 32
AUGMENTATION = 1  # ends the seed of its random stream


def resolve_match(match: MatchSetting, model: RefinerModel, strength: float) -> Match:
    """Return how results are matched: auto is mean-std for grey refiners that have tones, else off.

    Strength 0 then gives the input itself.
    """
    if match != "auto":
        return match
    return "mean-std" if model.tones is not None and model.channels == 1 and strength else "off"


class ImageRefiner:
    """Maps images to refined images of the same shape, type and range (see `__call__`).

    On a CPU an image's result does not depend on other images, `batch_size` or cores, bit for bit. Tiles change it by
    rounding only. `precision` is that of `simgan refine`.
    """

    def __init__(
        self,
        model: RefinerModel,
        device: torch.device,
        *,
        precision: str = "auto",
        batch_size: int | None = None,
        tile: int = 512,
        strength: float = 1.0,
        seed: int = 0,
        match: MatchSetting = "auto",
        augment: bool = False,
    ) -> None:
        self.match = resolve_match(match, model, strength)
        self.augment = augment
        if self._changes_tones and model.tones is None:
            flag = "--augment" if augment else f"--match {match}"
            raise SettingsError(
                f"{flag}: {model.weights} has no tones of photographs beside it; take the refiner "
                "that a run on pictures exported (RUN/refiner)"
            )
        precision = _precision_for(model, device, precision)
        if isinstance(model.network, OnnxNetwork) and (device.type != "cpu" or precision != "fp32"):
            raise SettingsError(
                f"{model.weights}: ONNX Runtime runs it in fp32 on the CPU; leave out device {device} and {precision}"
            )
        self.model, self.device, self.strength, self.seed = model, device, strength, seed
        self._module: nn.Module = model.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._autocast = autocast(precision, device)
        self.clock = CpuClock()
        self.has_changed = False  # whether the network has changed a pixel, before tones are matched
        self._margin = model.receptive_field // 2
        self._min_tile = max(MIN_TILE, 4 * self._margin)
        self._tile = max(tile, self._min_tile)
        self._pixels_in_a_pass = (16 if device.type == "cuda" else 1) * self._tile**2
        self.cores = torch.get_num_threads() if device.type == "cpu" else 1  # that the network computes on
        self.batch_size = batch_size or (IMAGES_PER_CORE * 2 * self.cores if device.type == "cpu" else 512)
        self._images_in_a_pass = IMAGES_PER_CORE if device.type == "cpu" else self.batch_size
        self._pool = (
            ThreadPoolExecutor(self.cores, initializer=torch.set_num_threads, initargs=(1,)) if self.cores > 1 else None
        )

    @property
    def network(self) -> nn.Module:
        """R itself, frozen, on its device: N x (C + 3 maps of noise, if it has) x H x W in [-1, 1] -> N x C x H x W."""
        return self._module

    @overload
    def __call__(self, images: NDArray[Any], value_range: ValueRange = ...) -> NDArray[Any]: ...

    @overload
    def __call__(self, images: Tensor, value_range: ValueRange = ...) -> Tensor: ...

    @overload
    def __call__(self, images: Image.Image, value_range: ValueRange = ...) -> Image.Image: ...

    def __call__(
        self, images: NDArray[Any] | Tensor | Image.Image, value_range: ValueRange = (0, 1)
    ) -> NDArray[Any] | Tensor | Image.Image:
        """Refine one image or a batch of them, of any height and width.

        NumPy arrays have their channels last: H x W or H x W x C, or N x H x W x C for a batch. Tensors have them
        first: C x H x W or N x C x H x W. C is the model's, 1 or 3. uint8 (0 to 255) and uint16 (0 to 65535) keep their
        type, rounded half to even. Floating-point images lie in `value_range`, (0, 1) or (-1, 1); their result is
        float32 in that range. A PIL image of mode L, RGB or I;16 gives one of the same mode. The result has the images'
        shape, and for a tensor its device. Raises DataError for another shape, type or range, and for floating-point
        images where the refiner equalizes histograms or `augment` is set.
        """
        if isinstance(images, Image.Image):
            if images.mode not in PIL_MODES:
                raise DataError(f"a PIL image of mode {images.mode}; convert it to one of {', '.join(PIL_MODES)}")
            return Image.fromarray(self(np.asarray(images)))
        if value_range not in RANGES:
            raise SettingsError(f"value_range {value_range}: wanted {RANGES[0]} or {RANGES[1]}")
        if isinstance(images, Tensor):
            batch = images.detach().cpu()
            batch = batch[None] if batch.ndim == 3 else batch
        elif not isinstance(images, np.ndarray):
            raise DataError(
                f"a {type(images).__name__}; wanted a NumPy array, a tensor or a PIL image; pass a batch as one array, "
                "as of numpy.stack"
            )
        else:
            array = images[..., None] if images.ndim == 2 else images
            array = array[None] if array.ndim == 3 else array
            batch = _tensor_of(np.moveaxis(array, -1, 1) if array.ndim == 4 else array)
        if batch.ndim != 4 or batch.shape[1] != self.model.channels or 0 in batch.shape:
            channels = self.model.channels
            wanted = f"N x {channels} x H x W" if isinstance(images, Tensor) else f"N x H x W x {channels}"
            raise DataError(
                f"images of shape {tuple(images.shape)}; this refiner maps {plural(channels, 'channel')}, so wanted "
                f"{wanted}, or one image"
            )
        refined = self._refine_batch(batch, value_range)
        if isinstance(images, Tensor):
            return refined.reshape(images.shape).to(images.device)
        return np.ascontiguousarray(np.moveaxis(refined.numpy(), 1, -1)).reshape(images.shape)

    def _refine_batch(self, batch: Tensor, value_range: ValueRange) -> Tensor:
        if batch.dtype in (torch.uint8, torch.uint16):
            return torch.from_numpy(self.refine(batch.numpy()))
        if not batch.is_floating_point():
            raise DataError(f"images of type {batch.dtype}; wanted uint8, uint16 or floating point")
        if self.model.preprocess == "equalize":
            raise DataError("floating-point images; this refiner equalizes histograms, of uint8 or uint16 images alone")
        if self.augment:
            raise DataError("floating-point images; augment takes uint8 or uint16 images alone")
        low, high = value_range
        smallest, largest = float(batch.min()), float(batch.max())  # NaN where there is one
        if not low - TOLERANCE <= smallest <= largest <= high + TOLERANCE:
            raise DataError(
                f"floating-point images from {smallest:.4g} to {largest:.4g}; wanted value_range [{low}, {high}]: "
                "scale them, or give another value_range"
            )
        scale = 2 / (high - low)
        x = (batch.float() - low) * scale - 1
        return self._matched(self._blend(x), x).add_(1).div_(scale).add_(low)

    def refine(self, pixels: Pixels, looks: Sequence[str | None] | None = None, copy: int = 0) -> Pixels:
        """Refine images of one size, N x C x H x W, uint8 or uint16, C 1 or 3; return the same shape and type.

        Images with the same name in `looks` get the same noise and photograph. By default, and for None, both follow
        from the image. Each `copy` is another look: that of copy 0 under the seed plus `copy`.

        A grey model refines the luma of colour images, whose hues stay. A colour model sees grey as three equal
        channels; the result is its luma.
        """
        return self.finish(self.refine_and_match(pixels, looks, copy), pixels, looks, copy)

    def refine_and_match(self, pixels: Pixels, looks: Sequence[str | None] | None = None, copy: int = 0) -> Pixels:
        """Return refined images before `finish` augments and equalizes them, with edges still in place."""
        channels, wanted = pixels.shape[1], self.model.channels
        seen = pixels if channels == wanted else luma(pixels) if wanted == 1 else np.repeat(pixels, 3, axis=1)
        prepared = _equalize(seen) if self.model.preprocess == "equalize" else seen
        x = to_network(torch.from_numpy(prepared))
        blended = self._blend(x, looks, copy)
        self.has_changed = self.has_changed or not np.array_equal(to_pixels(blended, pixels.dtype), prepared)
        refined = to_pixels(self._matched(blended, x, looks, copy), pixels.dtype)
        if channels == wanted:
            return refined
        if wanted == 3:
            return luma(refined)
        moved = pixels.astype(np.int32) + (refined.astype(np.int32) - seen)
        result: Pixels = np.clip(moved, 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
        return result

    def finish(
        self, refined: Pixels, pixels: Pixels, looks: Sequence[str | None] | None = None, copy: int = 0
    ) -> Pixels:
        """Return `refined` images augmented, then equalized where photographs are; `pixels` are their originals.

        Augmented 16-bit images have only the levels of 8 bits.
        """
        if self.augment:
            generators = look_generators(pixels, self.seed + copy, looks, AUGMENTATION)
            refined = np.stack([_augmented(*pair) for pair in zip(refined, generators, strict=True)])
        return _equalize(refined) if self._changes_tones and self.model.equalized else refined

    def capacity(self, size: tuple[int, int]) -> int:
        """Return the best number of images of `size` (H, W) to refine together."""
        return max(1, min(self.batch_size, 2 * self.cores * self._pixels_in_a_pass // (size[0] * size[1])))

    @property
    def _changes_tones(self) -> bool:
        return self.match != "off" or self.augment

    def _matched(self, blended: Tensor, x: Tensor, looks: Sequence[str | None] | None = None, copy: int = 0) -> Tensor:
        """Return images in [-1, 1] with the tones of photographs that follow from the originals `x`."""
        if self.model.tones is None or self.match == "off":
            return blended
        with self.clock.of("matching"):
            chosen = choices(look_keys(x, self.seed + copy, looks), len(self.model.tones))
            levels = (blended.clamp(-1, 1).numpy() + 1) / 2
            return torch.from_numpy(match_tones(levels, self.model.tones, chosen, self.match)) * 2 - 1

    @torch.no_grad()
    def _blend(self, x: Tensor, looks: Sequence[str | None] | None = None, copy: int = 0) -> Tensor:
        """Return x + A (R(x) - x), N x C x H x W float32 on the CPU; halve the work at once when memory runs out."""
        if self.strength == 0:
            return x
        while True:
            try:
                seen = x
                if self.model.network.settings["noise"]:
                    with self.clock.of("noise"):
                        seen = beside_their_own_noise(x, self.seed + copy, looks)
                at_once = max(1, self.cores * self._pixels_in_a_pass // self._tile**2)
                refined = in_tiles(self._run_in_passes, seen, self._tile, self._margin, at_once)
                return refined if self.strength == 1 else x + self.strength * (refined - x)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self._tile <= self._min_tile:
                    raise
            self._pixels_in_a_pass //= 2  # outside of `try`, where the failed attempt's tensors are freed
            self._tile = max(self._min_tile, min(self._tile, int(self._pixels_in_a_pass**0.5)))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _run_in_passes(self, x: Tensor) -> Tensor:
        """Return R(x) in [-1, 1] on the CPU, a part at a time on a GPU, a part on each core at a time on a CPU."""
        part = max(1, min(self._images_in_a_pass, self._pixels_in_a_pass // (x.shape[2] * x.shape[3])))
        # Kernels depend on shapes: on a GPU any batch size may take another one, on a CPU a single image does. A part
        # is therefore filled up, so that an image's result does not depend on its batch.
        filled = part if self.device.type == "cuda" else min(2, part)
        parts = [(images, filled) for images in torch.split(x, part)]
        if self._pool is None:
            return torch.cat([self._run_pass(*images) for images in parts])
        results = list(self._pool.map(lambda images: self._run_pass(*images), parts))
        torch.set_num_threads(self.cores)  # the pool's threads change the default of later threads, too
        return torch.cat(results)

    @torch.no_grad()
    def _run_pass(self, x: Tensor, filled: int) -> Tensor:
        count = len(x)
        if count < filled:
            x = torch.cat([x, x[-1:].expand(filled - count, -1, -1, -1)])
        with self.clock.of("network"), self._autocast():
            x = x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            refined: Tensor = self._module(x)
            return refined[:count].float().clamp(-1, 1).cpu()


def _precision_for(model: RefinerModel, device: torch.device, name: str) -> str:
    """Return the arithmetic of the network: auto is bf16 on CPUs that compute in it, else fp32 (TF32 on GPUs).

    Where the model has no tones, values may be distances of 16 bits, for which bf16 is too coarse.
    """
    needs_fp32 = device.type != "cpu" or isinstance(model.network, OnnxNetwork) or model.tones is None
    if name == "auto" and needs_fp32:
        return "fp32"  # on GPUs the difference of bf16 from TF32 is not measured
    return resolve_precision(name, device)


def _tensor_of(array: NDArray[Any]) -> Tensor:
    try:
        # PyTorch takes only its own byte order, and warns about read-only arrays.
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except TypeError as error:
        raise DataError(f"images of type {array.dtype}; wanted uint8, uint16 or floating point") from error


def _augmented(image: Pixels, generator: np.random.Generator) -> Pixels:
    unit = np.iinfo(image.dtype).max // 255
    augmented = augment(channels_last(np.rint(image / unit).astype(np.uint8)), generator)
    return channels_first(augmented).astype(image.dtype) * unit


def _equalize(pixels: Pixels) -> Pixels:
    return np.stack([channels_first(equalize(channels_last(image))) for image in pixels])

"""A residual block on a CPU with fused operations, which read and write memory less often than single ones.

Between convolutions of a few maps, padding, ReLU and additions cost as much as the arithmetic: they wait for memory.
Here oneDNN adds and clips a convolution's result while it is in the cache, and the backward pass folds the gradient of
a padded map in place. Results equal those of the single operations, but for the order of sums.
"""

from collections.abc import Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from simgan_cli.engine.method.networks import Refiner, ResidualBlock

Network = TypeVar("Network", bound=nn.Module)


def fuse(network: Network) -> Network:
    """Return `network` itself, with residual blocks that run fused where possible; same weights."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ResidualBlock):
                setattr(parent, name, FusedResidualBlock(child))
    return network


class FusedResidualBlock(ResidualBlock):
    """A block with the convolutions of another one, fused."""

    def __init__(self, block: ResidualBlock) -> None:
        nn.Module.__init__(self)
        self.conv1, self.conv2 = block.conv1, block.conv2

    def forward(self, x: Tensor) -> Tensor:
        if not can_fuse(x):
            return super().forward(x)
        first, second = self.conv1, self.conv2
        block: Tensor = _FusedBlock.apply(x, first.weight, first.bias, second.weight, second.bias, first.padding_mode)
        return block


def can_fuse(x: Tensor) -> bool:
    """Return whether blocks run fused on `x`: on a CPU with oneDNN, but not while compiled, exported or traced."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return False
    return can_fuse_in(_computed_in(x), x.device)


def can_fuse_in(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether `device` is a CPU with oneDNN that computes in `dtype`."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    native = dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return native and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _computed_in(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class FusedRefiner:
    """R without gradients on a CPU: weights are converted once, and every ReLU and addition is part of a convolution.

    Maps N x C x H x W float32 like the refiner it was made of. Maps between its layers are of `dtype`. The last layer
    and its sum with the image are float32, so that bf16 stays within a grey level.
    """

    def __init__(self, network: Refiner, dtype: torch.dtype) -> None:
        self._dtype, self._channels, self._is_residual = dtype, network.settings["channels"], network.residual
        self._first = _Convolution(network.first, dtype)
        blocks = cast("Iterable[ResidualBlock]", network.blocks)
        self._blocks = [(_Convolution(block.conv1, dtype), _Convolution(block.conv2, dtype)) for block in blocks]
        self._last = _Convolution(network.last, torch.float32)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        maps = self._first(x.to(self._dtype), "relu")
        for first, second in self._blocks:
            maps = second(first(maps, "relu"), "relu", added=maps)
        correction = self._last(maps.float(), "none")
        return correction.add_(x[:, : self._channels]) if self._is_residual else correction.tanh_()


class _Convolution:
    """A convolution of the refiner that keeps size, for oneDNN."""

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype) -> None:
        self._weight = layer.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self._bias = layer.bias.detach().to(dtype)  # type: ignore[union-attr]
        side = layer.kernel_size[0] // 2
        self._padded, inside = (side, 0) if layer.padding_mode == "replicate" else (0, side)
        self._geometry = [inside] * 2, [1, 1], [1, 1], 1

    def __call__(self, maps: Tensor, activation: str, *, added: Tensor | None = None) -> Tensor:
        seen, run = _pad(maps, self._padded), torch.ops.mkldnn._convolution_pointwise
        if added is None:
            result: Tensor = run(seen, self._weight, self._bias, *self._geometry, activation, [], "")
        else:
            result = run.binary(seen, added, self._weight, self._bias, *self._geometry, "add", 1.0, activation, [], "")
        return result


class _FusedBlock(torch.autograd.Function):
    """relu(x + conv2(relu(conv1(x)))), N x C x H x W in autocast's precision or that of x.

    Both convolutions are square and keep size and maps; their `padding` is zeros or replicate.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, padding: str) -> Tensor:
        dtype = _computed_in(x)
        with torch.autocast("cpu", enabled=False):
            x, w1, b1, w2, b2 = (tensor.to(dtype) for tensor in (x, w1, b1, w2, b2))
            side = w1.shape[-1] // 2
            ctx.padded, ctx.inside = (side, 0) if padding == "replicate" else (0, side)
            seen = _pad(x, ctx.padded)
            geometry = [ctx.inside] * 2, [1, 1], [1, 1], 1
            convolution = torch.ops.mkldnn._convolution_pointwise
            middle = convolution(seen, w1, b1, *geometry, "relu", [], "")
            seen_middle = _pad(middle, ctx.padded)
            result: Tensor = convolution.binary(seen_middle, x, w2, b2, *geometry, "add", 1.0, "relu", [], "")
        ctx.save_for_backward(seen, w1, middle, seen_middle, w2, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        seen, w1, middle, seen_middle, w2, result = ctx.saved_tensors
        needed = ctx.needs_input_grad

        def through(gradient: Tensor, seen: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
            back = torch.ops.aten.convolution_backward(
                gradient, seen, weight, [len(weight)], [1, 1], [ctx.inside] * 2, [1, 1], False, [0, 0], 1, mask
            )
            return _fold(back[0], ctx.padded) if mask[0] else back[0], *back[1:]

        gradient = torch.ops.aten.threshold_backward(gradient, result, 0)
        of_middle, of_w2, of_b2 = through(gradient, seen_middle, w2, [True, needed[3], needed[4]])
        of_middle = torch.ops.aten.threshold_backward(of_middle, middle, 0)
        of_x, of_w1, of_b1 = through(of_middle, seen, w1, [needed[0], needed[1], needed[2]])
        return gradient.add_(of_x) if needed[0] else None, of_w1, of_b1, of_w2, of_b2, None


def _pad(maps: Tensor, side: int) -> Tensor:
    """Return `maps` with their edges repeated `side` times, as replicate padding does, in half of its time."""
    if not side:
        return maps
    height, width = (length + 2 * side for length in maps.shape[2:])
    shape, inside = (*maps.shape[:2], height, width), slice(side, -side)
    padded = torch.empty(shape, dtype=maps.dtype, device=maps.device, memory_format=torch.channels_last)
    padded[..., inside, inside] = maps
    padded[..., :side, inside] = maps[..., :1, :]
    padded[..., -side:, inside] = maps[..., -1:, :]
    padded[..., :side] = padded[..., side : side + 1]
    padded[..., -side:] = padded[..., -side - 1 : -side]
    return padded


def _fold(gradient: Tensor, side: int) -> Tensor:
    """Return the gradient of maps from that of `_pad`'s result: a view of it, with the margins added in place."""
    for axis in (2, 3) if side else ():
        first, length = side, gradient.shape[axis] - 2 * side
        for edge, margin in ((first, 0), (first + length - 1, first + length)):
            gradient.select(axis, edge).add_(gradient.narrow(axis, margin, side).sum(axis))
    return gradient[..., side : gradient.shape[2] - side, side : gradient.shape[3] - side]

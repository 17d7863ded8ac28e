"""The refiner's maps on a CPU, by fused operations that read and write memory less often than single ones.

Between convolutions of a few maps, padding, ReLU and additions cost as much as the arithmetic: they wait for memory.
Here oneDNN adds and clips a convolution's result while it is in the cache. Where edges are repeated, maps are stored
with their margins, which every convolution writes, too. Then only margins are replaced, and no map is copied. Results
equal those of the single operations, but for the order of sums.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def can_fuse(x: Tensor) -> bool:
    """Return whether `x` is on a CPU with oneDNN that computes in its precision; not while compiled or exported."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return False
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    dtype = _computed_in(x)
    native = dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return native and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def fused_features(x: Tensor, layers: Sequence[nn.Conv2d], *, replicate: bool) -> Tensor:
    """Return relu(conv(x)) after residual blocks, N x maps x H x W in autocast's precision or that of x.

    `layers` are the first convolution, then two for each block. All keep size, with zeros or repeated edges around.
    """
    dtype = _computed_in(x)
    first, side = (layers[index].kernel_size[0] // 2 for index in (0, -1))
    with torch.autocast("cpu", enabled=False):
        tensors = [tensor.to(dtype) for layer in layers for tensor in layer.parameters()]
        seen = F.pad(x.to(dtype), (first,) * 4, mode="replicate") if replicate else x.to(dtype)
        # Around `seen`, `side` zeros more leave space for the margin of the maps.
        insides, margin = ((side if replicate else first), side), (side if replicate else 0)
        if torch.is_grad_enabled():
            features: Tensor = _FusedFeatures.apply(seen, insides, margin, *tensors)
            return features
        for maps in _maps(seen, tensors, insides, margin):
            last = maps  # earlier ones are freed on the way
        return _inner(last, margin)


def _computed_in(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class _FusedFeatures(torch.autograd.Function):
    """The maps of the last block, from the padded image, and weight and bias of each convolution."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, insides: tuple[int, int], margin: int, *tensors: Tensor) -> Tensor:
        maps = [*_maps(seen, tensors, insides, margin)]
        ctx.insides, ctx.margin = insides, margin
        ctx.save_for_backward(seen, *maps, *tensors[::2])
        return _inner(maps[-1], margin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 2
        inputs, weights = ctx.saved_tensors[: count + 1], ctx.saved_tensors[count + 1 :]
        of_tensors: list[Tensor] = []
        is_learning = any(ctx.needs_input_grad[3:])

        def through(index: int, gradient: Tensor, *, inwards: bool = True) -> Tensor:
            """Return the gradient of the input of a convolution from that of its ReLU's result."""
            weight, inside = weights[index], ctx.insides[min(index, 1)]
            of_input, *of_layer = torch.ops.aten.convolution_backward(
                gradient, inputs[index], weight, [len(weight)], [1, 1], [inside] * 2, [1, 1], False, [0, 0], 1,
                [inwards, is_learning, is_learning],
            )  # fmt: skip
            of_tensors[:0] = of_layer
            return cast("Tensor", of_input)

        gradient = F.pad(gradient, (ctx.margin,) * 4)
        for second in range(count - 1, 0, -2):
            _clip(gradient, inputs[second + 1])
            of_middle = _fold(through(second, gradient), ctx.margin)
            of_x = through(second - 1, _clip(of_middle, inputs[second]))
            gradient = _fold(of_x.add_(gradient), ctx.margin)
        of_seen = through(0, _clip(gradient, inputs[1]), inwards=ctx.needs_input_grad[0])
        return of_seen, None, None, *(of_tensors if is_learning else [None] * len(of_tensors))


def _maps(seen: Tensor, tensors: Sequence[Tensor], insides: tuple[int, int], margin: int) -> Iterator[Tensor]:
    """Yield each convolution's result with its margin: the first one's, then the middle and the end of each block."""

    def convolve(x: Tensor, index: int, added: Tensor | None = None) -> Tensor:
        weight, bias = tensors[2 * index : 2 * index + 2]
        geometry = [insides[min(index, 1)]] * 2, [1, 1], [1, 1], 1
        run = torch.ops.mkldnn._convolution_pointwise
        if added is None:
            result: Tensor = run(x, weight, bias, *geometry, "relu", [], "")
        else:
            result = run.binary(x, added, weight, bias, *geometry, "add", 1.0, "relu", [], "")
        return _repeat_edges(result, margin)

    x = convolve(seen, 0)
    yield x
    for index in range(1, len(tensors) // 2, 2):
        middle = convolve(x, index)
        yield middle
        x = convolve(middle, index + 1, added=x)
        yield x


def _clip(gradient: Tensor, result: Tensor) -> Tensor:
    """Return `gradient` itself, 0 where the `result` of a ReLU is 0."""
    if gradient.dtype == torch.bfloat16:  # PyTorch's own operation is slow in it; bits of values above 0 are positive
        gradient.view(torch.int16).mul_(result.view(torch.int16).sign())
    else:
        torch.ops.aten.threshold_backward.grad_input(gradient, result, 0, grad_input=gradient)
    return gradient


def _repeat_edges(maps: Tensor, margin: int) -> Tensor:
    """Return `maps` themselves, whose margin now repeats the edges inside of it."""
    for axis in (2, 3) if margin else ():
        end = maps.shape[axis] - margin
        maps.narrow(axis, 0, margin).copy_(maps.narrow(axis, margin, 1))
        maps.narrow(axis, end, margin).copy_(maps.narrow(axis, end - 1, 1))
    return maps


def _fold(gradient: Tensor, margin: int) -> Tensor:
    """Return `gradient` itself, after `_repeat_edges`' backward pass: the margin, then zero, is added to the edges."""
    for axis in (3, 2) if margin else ():
        end = gradient.shape[axis] - margin
        for edge, outside in ((margin, range(margin)), (end - 1, range(end, end + margin))):
            for line in outside:
                gradient.select(axis, edge).add_(gradient.select(axis, line))
            gradient.narrow(axis, outside[0], margin).zero_()
    return gradient


def _inner(maps: Tensor, margin: int) -> Tensor:
    """Return a view of `maps` without their margin."""
    return maps[..., margin : maps.shape[2] - margin, margin : maps.shape[3] - margin]

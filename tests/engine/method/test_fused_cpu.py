"""Fused maps against the same network written out in double precision."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simgan_cli.engine.method.fused_cpu import can_fuse
from simgan_cli.engine.method.networks import Padding, Refiner, repeat_edges


def fuses_in_bf16() -> bool:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return can_fuse(torch.zeros(1))


needs_fusion = pytest.mark.skipif(not can_fuse(torch.zeros(1)), reason="this build of PyTorch has no oneDNN")


def written_out(x: Tensor, weights: list[Tensor], padding: Padding) -> Tensor:
    def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        side = weight.shape[-1] // 2
        mode = "constant" if padding == "zeros" else padding
        return F.conv2d(F.pad(x, (side,) * 4, mode=mode), weight, bias)

    maps = torch.relu(convolution(x, *weights[:2]))
    for first in range(2, len(weights), 4):
        middle = torch.relu(convolution(maps, *weights[first : first + 2]))
        maps = torch.relu(maps + convolution(middle, *weights[first + 2 : first + 4]))
    return maps


@needs_fusion
@pytest.mark.parametrize("padding", get_args(Padding))
@pytest.mark.parametrize(("kernel", "block_kernel"), [(3, 3), (5, 3), (3, 5), (7, 1), (1, 3)])
@pytest.mark.parametrize("frozen", [False, True])
def test_fused_maps_equal_the_network_written_out(
    padding: Padding, kernel: int, block_kernel: int, frozen: bool
) -> None:
    torch.manual_seed(kernel)
    refiner = Refiner(2, 8, 2, kernel, block_kernel, padding=padding).requires_grad_(not frozen)
    refiner.to(memory_format=torch.channels_last)
    learning = [weight for name, weight in refiner.named_parameters() if not name.startswith("last.")]
    x = torch.randn(3, 2, 6, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = [weight.detach().double().requires_grad_(not frozen) for weight in learning]
    exact_x = x.detach().double().requires_grad_()
    result, exact = refiner.features(x), written_out(exact_x, weights, padding)
    torch.testing.assert_close(result.double(), exact, rtol=1e-4, atol=1e-5)
    gradient = torch.randn_like(result)
    given = gradient.clone()
    gradients = torch.autograd.grad(result, [x, *([] if frozen else learning)], gradient)
    wanted = torch.autograd.grad(exact, [exact_x, *([] if frozen else weights)], gradient.double())
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(gradient, given)  # the caller's gradient is unchanged, although folding works in place
    with torch.no_grad():
        assert torch.equal(refiner.features(x), result)


@pytest.mark.skipif(not fuses_in_bf16(), reason="this CPU does not compute in bf16")
@pytest.mark.parametrize("padding", get_args(Padding))
def test_autocast_reaches_into_fused_maps_but_not_the_last_layer(padding: Padding) -> None:
    torch.manual_seed(0)
    refiner = Refiner(width=16, padding=padding).to(memory_format=torch.channels_last)
    x = torch.randn(2, 1, 8, 9).contiguous(memory_format=torch.channels_last)
    exact = refiner.features(x)
    gradient = torch.randn_like(exact)
    wanted = torch.autograd.grad(exact, [*refiner.parameters()][:-2], gradient)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, image = refiner.features(x), refiner(x)
    assert rounded.dtype == torch.bfloat16 and image.dtype == torch.float32
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
    gradients = torch.autograd.grad(rounded, [*refiner.parameters()][:-2], gradient.bfloat16())
    for ours, theirs in zip(gradients, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.15 * theirs.norm()  # rounded in nine layers


@pytest.mark.parametrize("side", [0, 1, 3])
def test_both_paddings_repeat_edges_alike(side: int) -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    elsewhere = torch.compile(repeat_edges, backend="eager", fullgraph=True)  # the path of GPUs and compilers
    here, there = repeat_edges(x, side), elsewhere(x, side)
    assert torch.equal(here, there)
    assert there.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(here)
    (ours,), (theirs,) = (torch.autograd.grad(padded, [x], gradient) for padded in (here, there))
    torch.testing.assert_close(ours, theirs)

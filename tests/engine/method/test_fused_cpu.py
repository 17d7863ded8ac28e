"""Fused passes against the same block written out in double precision."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simgan_cli.engine.method.fused_cpu import FusedResidualBlock, can_fuse, fuse
from simgan_cli.engine.method.networks import Padding, Refiner, ResidualBlock, repeat_edges


def fuses_in_bf16() -> bool:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return can_fuse(torch.zeros(1))


needs_fusion = pytest.mark.skipif(not can_fuse(torch.zeros(1)), reason="this build of PyTorch has no oneDNN")


def fused(width: int, kernel: int, padding: Padding) -> FusedResidualBlock:
    return FusedResidualBlock(ResidualBlock(width, kernel, padding))


def written_out(x: Tensor, weights: list[Tensor], padding: Padding) -> Tensor:
    def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        side = weight.shape[-1] // 2
        mode = "constant" if padding == "zeros" else padding
        return F.conv2d(F.pad(x, (side,) * 4, mode=mode), weight, bias)

    return torch.relu(x + convolution(torch.relu(convolution(x, *weights[:2])), *weights[2:]))


@needs_fusion
@pytest.mark.parametrize("padding", get_args(Padding))
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_fused_block_equals_the_block_written_out(padding: Padding, kernel: int, frozen: bool) -> None:
    torch.manual_seed(kernel)
    block = fused(8, kernel, padding).to(memory_format=torch.channels_last).requires_grad_(not frozen)
    x = torch.randn(3, 8, 6, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = [weight.detach().double().requires_grad_(not frozen) for weight in block.parameters()]
    exact_x = x.detach().double().requires_grad_()
    result, exact = block(x), written_out(exact_x, weights, padding)
    torch.testing.assert_close(result.double(), exact, rtol=1e-4, atol=1e-5)
    gradient = torch.randn_like(result)
    given = gradient.clone()
    learning = [] if frozen else list(block.parameters())
    gradients = torch.autograd.grad(result, [x, *learning], gradient)
    wanted = torch.autograd.grad(exact, [exact_x, *([] if frozen else weights)], gradient.double())
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(gradient, given)  # the caller's gradient is unchanged, although folding works in place


@pytest.mark.skipif(not fuses_in_bf16(), reason="this CPU does not compute in bf16")
def test_autocast_reaches_into_a_fused_block() -> None:
    block = fused(16, 3, "replicate").to(memory_format=torch.channels_last)
    x = torch.randn(2, 16, 8, 9).contiguous(memory_format=torch.channels_last)
    exact = block(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = block(x)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
    rounded.float().sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in block.parameters())


def test_a_fused_refiner_has_the_same_weights_in_fused_blocks() -> None:
    refiner = Refiner(width=2, blocks=3)
    before = dict(refiner.state_dict())
    assert fuse(refiner) is refiner
    assert all(isinstance(block, FusedResidualBlock) for block in refiner.blocks)
    assert list(refiner.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in refiner.state_dict().items())


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

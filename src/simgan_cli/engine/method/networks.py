"""The refiner R and the discriminator D (Sec. 2 and 3 of the paper), their receptive fields and map sizes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simgan_cli.engine.method.fused_cpu import can_fuse, fused_features
from simgan_cli.engine.method.noise import MAPS
from simgan_cli.errors import SettingsError

Padding = Literal["zeros", "replicate"]
Layer = tuple[Literal["conv", "pool"], int, int, int]  # kind, kernel, stride, maps; pooling keeps its maps

# D without its last convolution, 1x1 to the two maps of the softmax. Each layer's output is maps x h x w.
EYES: tuple[Layer, ...] = (  # Sec. 3.1, for images of 1 x 35 x 55
    ("conv", 3, 2, 96),  # 96 x 18 x 28
    ("conv", 3, 2, 64),  # 64 x 9 x 14
    ("pool", 3, 1, 64),  # 64 x 9 x 14
    ("conv", 3, 1, 32),  # 32 x 9 x 14
    ("conv", 1, 1, 32),  # 32 x 9 x 14, and 2 x 9 x 14 logits
)
HANDS: tuple[Layer, ...] = (  # Sec. 3.2, for images of 1 x 224 x 224
    ("conv", 7, 4, 96),  # 96 x 56 x 56
    ("conv", 5, 2, 64),  # 64 x 28 x 28
    ("pool", 3, 2, 64),  # 64 x 14 x 14
    ("conv", 3, 2, 32),  # 32 x 7 x 7
    ("conv", 1, 1, 32),  # 32 x 7 x 7, and 2 x 7 x 7 logits
)


class SameConv2d(nn.Conv2d):
    """A convolution whose output has its input's size, with zeros or repeated edges as `padding`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: Padding) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, padding_mode=padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode == "zeros":
            return super().forward(x)
        return F.conv2d(repeat_edges(x, self.kernel_size[0] // 2), self.weight, self.bias)


def repeat_edges(x: Tensor, side: int) -> Tensor:
    """Return N x C x H x W maps with `side` more pixels all round, which repeat the outermost ones; same layout."""
    if torch.compiler.is_exporting():
        return F.pad(x, (side,) * 4, mode="replicate")  # one operation of ONNX
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        # Autocast on CPUs pads in float32: two casts of every map, forward and backward, a sixth of a training step.
        with torch.autocast("cpu", enabled=False):
            return F.pad(x, (side,) * 4, mode="replicate")
    # On GPUs F.pad loses channels-last, forward and backward, and compilers do so on CPUs, too.
    for axis in (2, 3):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        x = torch.cat([*[first] * side, x, *[last] * side], dim=axis)
    return x


class ResidualBlock(nn.Module):
    """conv, ReLU, conv, add the input, ReLU."""

    def __init__(self, width: int, kernel: int, padding: Padding) -> None:
        super().__init__()
        self.conv1 = SameConv2d(width, width, kernel, padding)
        self.conv2 = SameConv2d(width, width, kernel, padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))), inplace=True)


class Refiner(nn.Module):
    """R_theta: N x C x H x W in [-1, 1] -> the same shape; no striding, pooling or batch norm (Sec. 2.1, 3.1).

    With `noise` it sees random maps behind the image, N x (C + MAPS) x H x W, so that an image has many looks.

    With `output="tanh"` the last convolution passes tanh. With "residual" it is a correction that is added to the input
    and starts at zero, so that R starts as the identity; values may leave [-1, 1] a little. The paper does not name its
    padding: ports take "zeros"; "replicate" repeats the last pixel and leaves no strips along the edges.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        blocks: int = 4,
        kernel: int = 3,
        block_kernel: int = 3,
        output: Literal["tanh", "residual"] = "tanh",
        padding: Padding = "zeros",
        noise: bool = False,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "channels": channels, "width": width, "blocks": blocks,
            "kernel": kernel, "block_kernel": block_kernel, "output": output, "padding": padding, "noise": noise,
        }  # fmt: skip
        self.residual = output == "residual"
        self.inputs = channels + (MAPS if noise else 0)
        self.first = SameConv2d(self.inputs, width, kernel, padding)
        self.blocks = nn.Sequential(*(ResidualBlock(width, block_kernel, padding) for _ in range(blocks)))
        self.last = nn.Conv2d(width, channels, 1)
        if self.residual:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def features(self, x: Tensor) -> Tensor:
        """Return the maps before the last convolution, N x width x H x W."""
        if can_fuse(x):
            blocks = cast("Iterable[ResidualBlock]", self.blocks)
            layers = [self.first, *(layer for block in blocks for layer in (block.conv1, block.conv2))]
            return fused_features(x, layers, replicate=self.first.padding_mode == "replicate")
        maps: Tensor = self.blocks(F.relu(self.first(x), inplace=True))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)
        if can_fuse(x):
            with torch.autocast("cpu", enabled=False):  # bf16 is too coarse for a sum with the image
                correction: Tensor = self.last(maps.to(x.dtype))
        else:
            correction = self.last(maps)
        return x[:, : self.settings["channels"]] + correction if self.residual else torch.tanh(correction)


class Discriminator(nn.Module):
    """D_phi: N x C x H x W in [-1, 1] -> N x 2 x h x w logits, class 1 = refined, class 0 = real, at each patch.

    `head` is the (height, width) of the last filter: (1, 1) judges every patch (Sec. 2.2). The size of the complete map
    gives one fully connected decision for the image, the "global" loss that the paper compares with.

    `half_layers` are those of a second network, which judges the image at half its size (pix2pixHD: Wang et al., CVPR
    2018, Sec. 3.2). Its h x w logits stand below the others, N x 2 x 2h x w.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        channels: int = 1,
        head: Sequence[int] = (1, 1),
        half_layers: Sequence[Layer] = (),
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "layers": [list(layer) for layer in layers],
            "channels": channels,
            "head": list(head),
            "half_layers": [list(layer) for layer in half_layers],
        }
        self.of_halves = Discriminator(half_layers, channels) if half_layers else None
        self.inputs = channels
        body: list[nn.Module] = []
        for kind, kernel, stride, maps in layers:
            if kind == "pool":
                body.append(nn.MaxPool2d(kernel, stride, padding=kernel // 2))
            else:
                body += [
                    nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2),
                    nn.ReLU(inplace=True),
                ]
                channels = maps
        self.body = nn.Sequential(*body)
        self.last = nn.Conv2d(channels, 2, (head[0], head[1]))

    def features(self, x: Tensor) -> Tensor:
        """Return the maps before the last convolution."""
        maps: Tensor = self.body(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(x))
        if self.of_halves is None:
            return logits
        return torch.cat([logits, self.of_halves(F.avg_pool2d(x, 2, ceil_mode=True))], dim=2)


def discriminator_layers(preset: str, size: tuple[int, int]) -> Sequence[Layer]:
    """Choose D's layers for images of `size` (H, W).

    `auto` takes the eyes network with the largest strides, up to the paper's 2 and 2, that fit the image. They fit if
    the receptive field stays within 2/3 of the shorter side and the map has at least 4x4 patches. 35x55 gives the
    paper's network. Larger images keep its field of 23 px, as R sees no more than 19.
    Raises SettingsError where even strides of 1 leave fewer than 4x4 patches.
    """
    if preset != "auto":
        return HANDS if preset == "hands" else EYES
    for first, second in ((2, 2), (2, 1), (1, 1)):
        layers: list[Layer] = [("conv", 3, first, 96), ("conv", 3, second, 64), *EYES[2:]]
        with torch.device("meta"):  # counts only: no memory, and no draw from the random state
            network = Discriminator(layers)
        if min(map_size(network, size)) >= 4 and (receptive_field(network) <= 2 / 3 * min(size) or first == 1):
            return layers
    raise SettingsError(
        f"images of {size[0]}x{size[1]} are too small: the discriminator needs 4x4 patches; give a larger --size"
    )


def layers_of_halves(layers: Sequence[Layer]) -> list[Layer]:
    """Return `layers` for images of half the size, with as many patches; none where all strides are 1.

    The last stride is halved, so that a patch covers up to twice the side in the complete image. 35x55 has 23 px, and
    30 px at half the size.
    """
    strided = [index for index, layer in enumerate(layers) if layer[2] > 1]
    if not strided:
        return []
    halved = list(layers)
    kind, kernel, stride, maps = layers[strided[-1]]
    halved[strided[-1]] = (kind, kernel, stride // 2, maps)
    return halved


def build_discriminator(
    preset: str, adversarial: str, channels: int, size: tuple[int, int], scales: str = "1"
) -> Discriminator:
    """Build D for images of `size` (H, W) on the CPU from the global random state.

    `scales` 2 adds the network of halves, and "auto" does so where it can. Raises SettingsError for images that are
    too small.
    """
    layers = discriminator_layers(preset, size)
    if adversarial == "global":
        with torch.device("meta"):
            head = map_size(Discriminator(layers, channels), size)
        return Discriminator(layers, channels, head)
    half_layers = [] if scales == "1" else layers_of_halves(layers)
    if scales == "2" and not half_layers:
        raise SettingsError(
            f"--discriminator-scales 2: images of {size[0]}x{size[1]} have no 4x4 patches at half the size; "
            "leave it out, or give a larger --size"
        )
    return Discriminator(layers, channels, half_layers=half_layers)


def spatial_layers(network: nn.Module) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield (kernel (H, W), stride) of each convolution and pooling on the path from input to output.

    That of a discriminator's half size does not count.
    """
    for name, module in network.named_modules():
        if name.startswith("of_halves."):
            continue
        if isinstance(module, nn.Conv2d):
            yield (module.kernel_size[0], module.kernel_size[1]), module.stride[0]
        elif isinstance(module, nn.MaxPool2d):
            side, stride = cast("tuple[int, int]", (module.kernel_size, module.stride))  # ours are square
            yield (side, side), stride


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Set the weights of `average` to `decay` times themselves plus 1 - `decay` times those of `network`."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


def receptive_field(network: nn.Module) -> int:
    """Return the side, in pixels, of the window of the input that one output value depends on (the longer side)."""
    field, jump = 1, 1
    for kernel, stride in spatial_layers(network):
        field += (max(kernel) - 1) * jump
        jump *= stride
    return field


def count_patches(network: Discriminator, size: tuple[int, int]) -> int:
    """Return the number of patches that D judges in an image of `size` (H, W), at all scales."""
    height, width = map_size(network, size)
    return height * width * (1 if network.of_halves is None else 2)


def map_size(network: Refiner | Discriminator, size: tuple[int, int]) -> tuple[int, int]:
    """Return (h, w) of the network's maps, at full size, for an image of `size` (H, W)."""
    with torch.no_grad():
        images = torch.zeros(1, network.inputs, *size, device=network.last.weight.device)
        height, width = network.last(network.features(images)).shape[2:]
    return height, width

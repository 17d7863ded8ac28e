"""The task term: the run trains an estimator f of the renders' labels, and its error on R(x) joins Eq. 4.

    L_f(omega) = mean_1 |f(R(x_i)) - l_i|^2 + mean_2 |f(x_i) - l_i|^2 + mean_2 |f(V(R(x_i))) - l_i|^2
    L_R(theta) = Eq. 4 + W mean_1 |f(R(x_i)) - l_i|^2, f fixed

l are the labels that every renderer has; the means are over the first and the second half of a batch. The term
punishes a refiner that moves or erases their content (PixelDA: Bousmalis et al., CVPR 2017, Eq. 3). V degrades an
image at random and gives it the histogram of a random photograph. f thus learns from every look that R went through,
in the tones of photographs, and reads photographs, too.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from simgan_cli.data.augmentation import augment
from simgan_cli.data.matching import Bank, match_tones
from simgan_cli.data.sampler import to_pixels
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.networks import update_average

LEARNING_RATE = 1e-3  # of f, by Adam
FULL_CONTRAST = 0.5  # standard deviation, of levels from -1 to 1
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as in Pillow


class RandomLooks:
    """V: a random degradation, then the histogram of a random photograph; its random stream restarts at each step.

    `bank` holds the photographs' quantiles, of one channel; `stream` holds the seed and the rank.
    """

    def __init__(self, bank: Bank, stream: Sequence[int]) -> None:
        self._bank, self._stream = bank, stream
        self.restart(0)

    def restart(self, step: int) -> None:
        """Start the stream of `step`."""
        self._rng = np.random.default_rng([*self._stream, step])

    def __call__(self, images: Tensor) -> Tensor:
        """Return grey images in other looks: N x 1 x H x W in [-1, 1], both."""
        centred = images.detach() - images.detach().mean(dim=(2, 3), keepdim=True)
        # Degradations suit images of full contrast; tones are replaced anyway.
        full = centred / centred.std(dim=(2, 3), keepdim=True, correction=0).clamp_min(1e-3) * FULL_CONTRAST
        pixels = np.stack([augment(image, self._rng) for (image,) in to_pixels(full, np.dtype(np.uint8))])
        chosen = self._rng.integers(len(self._bank), size=len(pixels)).tolist()
        levels = match_tones(pixels[:, None] / np.float32(255), self._bank, chosen, "histogram")
        return (torch.from_numpy(levels) * 2 - 1).to(images)


class TaskTerm:
    """f, its optimizer and its moving average.

    `weight` is W, `targets` the labels of the batch drawn last, N x K, `looks` V; None where values are distances.
    """

    def __init__(
        self,
        estimator: Estimator,
        weight: float,
        targets: Callable[[], Tensor],
        average_decay: float,
        looks: RandomLooks | None,
    ) -> None:
        self.estimator, self.weight, self.targets, self.average_decay = estimator, weight, targets, average_decay
        self.looks = looks
        self.average = copy.deepcopy(estimator).requires_grad_(False)
        self.optimizer = torch.optim.Adam(estimator.parameters(), LEARNING_RATE, fused=True)

    def restart(self, step: int) -> None:
        """Start the random stream of `step`."""
        if self.looks is not None:
            self.looks.restart(step)

    def losses(self, synthetic: Tensor, refined: Tensor) -> dict[str, Tensor]:
        """Return f's squared errors for x and R(x), N x C x H x W: scalars, the terms of L_f.

        One pass serves both networks: f gets the gradient as it is, R gets W times that of R(x). Missing labels,
        NaN, do not count.
        """
        half = len(synthetic) // 2
        first, second = slice(half), slice(half, None)
        refined, labels = to_grey(refined.to(synthetic.dtype)), self.targets()
        judged = refined[first] if self.weight else refined[first].detach()
        if judged.requires_grad:
            judged.register_hook(lambda gradient: self.weight * gradient)  # type: ignore[no-untyped-call]
        parts = {"refined": (judged, labels[first]), "synthetic": (to_grey(synthetic[second]), labels[second])}
        if self.looks is not None:
            parts["varied"] = (self.looks(refined[second]), labels[second])
        images, targets = (torch.cat(group) for group in zip(*parts.values(), strict=True))
        errors = self.estimator.squared_errors(self.estimator(images), targets)
        known = ~targets.isnan().all(dim=1)
        sizes = [len(part) for part, _ in parts.values()]
        by_part = zip(torch.split(errors, sizes), torch.split(known, sizes), strict=True)
        means = [squares.sum() / labelled.sum().clamp_min(1) for squares, labelled in by_part]
        return {f"loss_task_{name}": mean for name, mean in zip(parts, means, strict=True)}

    def step(self, average_gradients: Callable[[nn.Module], None]) -> None:
        """Update f by the gradient that a backward pass has left, and forget that."""
        average_gradients(self.estimator)
        self.optimizer.step()
        self.optimizer.zero_grad()
        update_average(self.average, self.estimator, self.average_decay)


def to_grey(images: Tensor) -> Tensor:
    """Return N x C x H x W images as N x 1 x H x W, in the same range."""
    if images.shape[1] == 1:
        return images
    luma = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return torch.einsum("nchw,c->nhw", images, luma)[:, None].contiguous(memory_format=torch.channels_last)

"""The task term: an estimator f of the renders' labels is trained along, and what it reads off R(x) joins Eq. 4.

    L_f(omega) = mean_i |f(x_i) - l_i|^2 + mean_i |f(R(x_i)) - l_i|^2 + mean_i |f(M(R(x_i))) - l_i|^2
    L_R(theta) = Eq. 4 + W mean_i |f(R(x_i)) - l_i|^2, f fixed

l are the labels that every renderer has. A refiner that moves or erases what they name is punished (PixelDA: Bousmalis
et al., CVPR 2017, Eq. 3). M gives an image the histogram of a random photograph. f has then seen every look that R went
through, in the tones of photographs, and reads photographs, too.
"""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.networks import update_average
from simgan_cli.engine.method.noise import mixed_seed

LEARNING_RATE = 1e-3  # of f, by Adam
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow turns colour into grey


class Toning:
    """M, whose random stream restarts at each step; `stream` tells seeds and ranks apart.

    `quantiles` are those of photographs, M x C x Q, of pixels in [-1, 1], at the middles of Q equal shares.
    """

    def __init__(self, quantiles: Tensor, stream: Sequence[int]) -> None:
        self._quantiles, self._stream = quantiles, tuple(stream)
        self._generator = torch.Generator(quantiles.device)

    def restart(self, step: int) -> None:
        """Begin the stream of `step`."""
        self._generator.manual_seed(mixed_seed(*self._stream, step))

    def __call__(self, images: Tensor) -> Tensor:
        """Return N x C x H x W images with the histogram of a random photograph each; each channel is matched alone."""
        levels = images.contiguous().flatten(2)
        places = (len(images),)
        chosen = torch.randint(len(self._quantiles), places, generator=self._generator, device=self._quantiles.device)
        wanted = F.interpolate(self._quantiles[chosen], levels.shape[2], mode="linear")
        return torch.empty_like(levels).scatter_(2, levels.argsort(dim=2), wanted).view(images.shape)


class TaskTerm:
    """f, its optimizer and its moving average.

    `weight` is W, `targets` the labels of the batch drawn last, N x K, `toning` M; None where values are distances.
    """

    def __init__(
        self,
        estimator: Estimator,
        weight: float,
        targets: Callable[[], Tensor],
        average_decay: float,
        toning: Toning | None,
    ) -> None:
        self.estimator, self.weight, self.targets, self.average_decay = estimator, weight, targets, average_decay
        self.toning = toning
        self.average = copy.deepcopy(estimator).requires_grad_(False)
        self.optimizer = torch.optim.Adam(estimator.parameters(), LEARNING_RATE, fused=True)

    def restart(self, step: int) -> None:
        """Begin the random stream of `step`."""
        if self.toning is not None:
            self.toning.restart(step)

    def losses(self, synthetic: Tensor, refined: Tensor) -> dict[str, Tensor]:
        """Return f's squared error on x, on R(x) and on M(R(x)), scalars, for a batch N x C x H x W.

        One pass serves both networks: f gets the gradient as it is, R gets W times that of R(x). Missing labels,
        NaN, do not count.
        """
        judged = refined.to(synthetic.dtype)
        judged = judged.view_as(judged) if self.weight else judged.detach()
        if judged.requires_grad:
            judged.register_hook(lambda gradient: self.weight * gradient)  # type: ignore[no-untyped-call]
        inputs = {"synthetic": synthetic, "refined": judged}
        if self.toning is not None:
            inputs["toned"] = self.toning(judged.detach())
        targets = self.targets()
        predicted = self.estimator(to_grey(torch.cat([*inputs.values()])))
        known = ~targets.isnan().all(dim=1)
        errors = self.estimator.squared_errors(predicted, targets.repeat(len(inputs), 1))
        means = [(part * known).sum() / known.sum().clamp_min(1) for part in errors.chunk(len(inputs))]
        return {f"loss_task_{name}": mean for name, mean in zip(inputs, means, strict=True)}

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

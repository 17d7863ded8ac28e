"""The task term: an estimator f of the renders' labels is trained along, and what it reads off R(x) joins Eq. 4.

    L_f(omega) = mean_i |f(x_i) - l_i|^2 + mean_i |f(R(x_i)) - l_i|^2
    L_R(theta) = Eq. 4 + W mean_i |f(R(x_i)) - l_i|^2, f fixed

l are the labels that every renderer has. A refiner that moves or erases what they name is punished (PixelDA: Bousmalis
et al., CVPR 2017, Eq. 3). f has then seen every look that R went through, and reads photographs, too.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from simgan_cli.engine.method.gaze_estimator import Estimator

LEARNING_RATE = 1e-3  # of f, by Adam
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow turns colour into grey


class TaskTerm:
    """f, its optimizer and its moving average; `weight` is W, `targets` the labels of the batch drawn last, N x K."""

    def __init__(
        self, estimator: Estimator, weight: float, targets: Callable[[], Tensor], average_decay: float
    ) -> None:
        self.estimator, self.weight, self.targets, self.average_decay = estimator, weight, targets, average_decay
        self.average = copy.deepcopy(estimator).requires_grad_(False)
        self.optimizer = torch.optim.Adam(estimator.parameters(), LEARNING_RATE, fused=True)

    def losses(self, synthetic: Tensor, refined: Tensor) -> dict[str, Tensor]:
        """Return f's squared error on x and on R(x), scalars, for a batch N x C x H x W.

        One pass serves both networks: f gets the gradient as it is, R gets W times it. Labels with a NaN do not count.
        """
        judged = refined.view_as(refined) if self.weight else refined.detach()
        if judged.requires_grad:
            judged.register_hook(lambda gradient: self.weight * gradient)
        targets = self.targets()
        predicted = self.estimator(to_grey(torch.cat([synthetic, judged.to(synthetic.dtype)])))
        known = ~targets.isnan().any(dim=1)
        errors = (predicted - targets.nan_to_num().repeat(2, 1)).square().sum(dim=1)
        on_synthetic, on_refined = ((half * known).sum() / known.sum().clamp_min(1) for half in errors.chunk(2))
        return {"loss_task_synthetic": on_synthetic, "loss_task_refined": on_refined}

    def step(self, average_gradients: Callable[[nn.Module], None]) -> None:
        """Update f by the gradient that a backward pass has left, and forget that."""
        average_gradients(self.estimator)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.estimator.parameters()), 1 - self.average_decay
            )


def to_grey(images: Tensor) -> Tensor:
    """Return N x C x H x W images as N x 1 x H x W, in the same range."""
    if images.shape[1] == 1:
        return images
    luma = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return torch.einsum("nchw,c->nhw", images, luma)[:, None].contiguous(memory_format=torch.channels_last)

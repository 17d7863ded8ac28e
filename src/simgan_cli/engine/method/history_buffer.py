"""The history of refined images that keeps the discriminator from forgetting (Sec. 2.3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgan_cli.data.sampler import on_device


class HistoryBuffer:
    """A fixed number of refined images, replaced at random, with the step each was made at and its draws.

    Images live on the training device as one float16 tensor, capacity x C x H x W, with half the memory of float32. Its
    rounding is at most 2**-12 near +-1, a 32nd of a grey level of 8 bits. Integers would show the discriminator steps
    that refined images do not have. The buffer has its own random stream. Without capacity it stays empty.
    """

    def __init__(
        self, capacity: int, shape: tuple[int, int, int], rng: np.random.Generator, device: torch.device
    ) -> None:
        self.capacity = capacity
        self.filled = 0
        self.images = torch.zeros((capacity, *shape), dtype=torch.float16, device=device)
        self.made_at = np.zeros(capacity, dtype=np.int64)  # the step that refined the image
        self.draws = np.zeros(capacity, dtype=np.int64)  # times that the discriminator has seen it since
        self.rng = rng

    def draw(self, count: int) -> Tensor:
        """Return up to `count` different images, min(count, filled) x C x H x W float32 in [-1, 1]."""
        chosen = self._choose(min(count, self.filled))
        self.draws[chosen] += 1
        return self.images[on_device(chosen, self.images.device)].float()

    def replace(self, refined: Tensor, step: int) -> None:
        """Put in up to `capacity` newly refined images (n x C x H x W), made at `step`.

        They fill empty places first, then overwrite different random entries that were there before.
        """
        refined = refined[: self.capacity]
        room = min(len(refined), self.capacity - self.filled)
        overwritten = self._choose(len(refined) - room)
        places = np.concatenate([np.arange(self.filled, self.filled + room), overwritten])
        self.images[on_device(places, self.images.device)] = refined.detach().to(torch.float16)
        self.made_at[places] = step
        self.draws[places] = 0
        self.filled += room

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the filled part as tensors to save: images, made_at, draws."""
        return {
            "images": self.images[: self.filled],
            "made_at": torch.from_numpy(self.made_at[: self.filled]),
            "draws": torch.from_numpy(self.draws[: self.filled]),
        }

    def load_state(self, tensors: dict[str, Tensor], rng_state: Mapping[str, Any]) -> None:
        """Restore a state from `state_tensors` and `rng.bit_generator.state`; the capacity must be large enough."""
        self.filled = len(tensors["images"])
        self.images[: self.filled] = tensors["images"].to(self.images.device)
        self.made_at[: self.filled] = tensors["made_at"].numpy()
        self.draws[: self.filled] = tensors["draws"].numpy()
        self.rng.bit_generator.state = rng_state

    def _choose(self, count: int) -> np.ndarray:
        return self.rng.choice(self.filled, size=count, replace=False) if count else np.empty(0, dtype=np.int64)

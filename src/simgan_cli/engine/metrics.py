"""Means of what was measured since the last line, kept on the device until somebody asks."""

import torch
from torch import Tensor


class RunningMeans:
    """Sums of scalar tensors by name; reading them is the only synchronisation with the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, measures: dict[str, Tensor]) -> None:
        """Add one step's scalars."""
        for name, value in measures.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the means so far."""
        if not self.sums:
            return {}
        values = torch.stack([tensor.float() for tensor in self.sums.values()]).tolist()  # one transfer for all
        return {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}

    def clear(self) -> None:
        """Start a new line."""
        self.sums.clear()
        self.counts.clear()

    def state(self) -> dict[str, list[float]]:
        """Return {name: [sum, count]}; float32 sums survive JSON exactly."""
        return {name: [float(total), self.counts[name]] for name, total in self.sums.items()}

    def load_state(self, state: dict[str, list[float]], device: torch.device) -> None:
        """Restore what `state` gave."""
        self.sums = {name: torch.tensor(total, device=device) for name, (total, _) in state.items()}
        self.counts = {name: int(count) for name, (_, count) in state.items()}

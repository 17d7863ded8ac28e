"""Means of the measures since the last line, kept on the device until they are read."""

from collections.abc import Sequence

import torch
from torch import Tensor

State = dict[str, list[float]]  # {name: [sum, count]}


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

    def clear(self) -> None:
        """Start a new line."""
        self.sums.clear()
        self.counts.clear()

    def state(self) -> State:
        """Return {name: [sum, count]}; float32 sums survive JSON exactly."""
        if not self.sums:
            return {}
        values = torch.stack([tensor.float() for tensor in self.sums.values()]).tolist()  # one transfer for all
        return {name: [total, self.counts[name]] for name, total in zip(self.sums, values, strict=True)}

    def load_state(self, state: State, device: torch.device) -> None:
        """Restore a result of `state`."""
        self.sums = {name: torch.tensor(total, device=device) for name, (total, _) in state.items()}
        self.counts = {name: int(count) for name, (_, count) in state.items()}


def means_of(states: Sequence[State]) -> dict[str, float]:
    """Return the means over the `states` of several ranks; a rank that did not measure does not count."""
    sums: State = {}
    for state in states:
        for name, (total, count) in state.items():
            before = sums.get(name, [0.0, 0])
            sums[name] = [before[0] + total, before[1] + count]
    return {name: total / count for name, (total, count) in sums.items()}

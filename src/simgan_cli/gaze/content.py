"""Whether a training set shows what the photographs show: their labels' distributions, as an estimator sees them.

Labels of photographs are unknown. An estimator's errors would make equal distributions look different; so it predicts
held-out images of its own training set, too, and predictions are compared with predictions (Lipton et al., ICML 2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgan_cli.data.reweighting import Targets, overlap

# Of the two distributions; less is reported and weighed away.
MIN_OVERLAP = 0.8


@dataclass(frozen=True)
class Content:
    """The labels of photographs, as the estimator of the set `name` predicts them with its first seed.

    `overlap` is the share that they have in common with held-out images of that set, `ci95` its interval over images;
    both are means over seeds.
    """

    name: str
    predicted: Targets
    overlap: float
    ci95: tuple[float, float]

    @property
    def differs(self) -> bool:
        """Whether the two distributions surely share less than what deserves weights."""
        return self.ci95[1] < MIN_OVERLAP

    @property
    def sentence(self) -> str:
        """What a person reads of it."""
        shown = f"overlap by {self.overlap:.0%} (95%: {self.ci95[0]:.0%} to {self.ci95[1]:.0%})"
        if self.differs:
            return f"Labels differ: those predicted for the photographs {shown} with those of {self.name}."
        return f"Labels predicted for the photographs {shown} with those of {self.name}."

    def describe(self) -> dict[str, Any]:
        """Return what results.json says of it."""
        return {
            "name": self.name,
            "overlap": self.overlap,
            "ci95": list(self.ci95),
            "differs": self.differs,
            "sentence": self.sentence,
        }


def compare_content(name: str, ours: Sequence[Targets], theirs: Sequence[Targets], resamples: int) -> Content:
    """Return what predictions say, by seed, of held-out images of the set `name` (`ours`) and of the photographs."""
    by_seed = [overlap(one, other, resamples) for one, other in zip(ours, theirs, strict=True)]
    share, low, high = (float(mean) for mean in np.mean(by_seed, axis=0))
    return Content(name, theirs[0], share, (low, high))

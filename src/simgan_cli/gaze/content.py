"""Compare the label distributions of a training set and of unlabelled photographs, as an estimator predicts them.

The photographs' labels are unknown, so predictions are compared with predictions (Lipton et al., ICML 2018): those for
the photographs with those for held-out images of the training set. An estimator's errors then affect both alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simgan_cli.data.reweighting import Targets, overlap
from simgan_cli.documents import ContentOverlap

MIN_OVERLAP = 0.8  # of the two distributions; less is reported and corrected by weights


@dataclass(frozen=True)
class Content:
    """The labels of photographs, as predicted by the first seed's estimator of the set `name`.

    `overlap` is the share in common with predictions for held-out images of that set, `ci95` its interval over images.
    Both are means over seeds.
    """

    name: str
    predicted: Targets
    overlap: float
    ci95: tuple[float, float]

    @property
    def differs(self) -> bool:
        """Return whether the overlap is significantly below MIN_OVERLAP."""
        return self.ci95[1] < MIN_OVERLAP

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        shown = f"overlap by {self.overlap:.0%} (95%: {self.ci95[0]:.0%} to {self.ci95[1]:.0%})"
        if self.differs:
            return f"Labels differ: those predicted for the photographs {shown} with those of {self.name}."
        return f"Labels predicted for the photographs {shown} with those of {self.name}."

    def describe(self) -> ContentOverlap:
        """Return the comparison for results.json."""
        return {
            "name": self.name,
            "overlap": self.overlap,
            "ci95": list(self.ci95),
            "differs": self.differs,
            "sentence": self.sentence,
        }


def compare_content(name: str, ours: Sequence[Targets], theirs: Sequence[Targets], resamples: int) -> Content:
    """Return the comparison of predictions by seed: `ours` for held-out images of `name`, `theirs` for photographs."""
    by_seed = [overlap(one, other, resamples) for one, other in zip(ours, theirs, strict=True)]
    share, low, high = (float(mean) for mean in np.mean(by_seed, axis=0))
    return Content(name, theirs[0], share, (low, high))

"""Outcomes: of each image, and of all in a job."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from simgan_cli.documents import Failure, ImageStatus
from simgan_cli.engine.refining.plan import RefineTask
from simgan_cli.engine.runtime.stop import StopReason

MIN_BUSY = 0.5  # share of the cores' time; below it a job waits more than it computes


@dataclass(frozen=True)
class Outcome:
    """The outcome of one image, or of a file beside them."""

    task: RefineTask
    status: ImageStatus
    reason: str = ""  # why it failed, or looks like a label
    source_sha256: str | None = None
    output_sha256: str | None = None
    converted: str | None = None
    lossy: bool = False
    lost: tuple[str, ...] = ()  # contents of the source's file that the result lacks
    sidecars: tuple[str, ...] = ()  # kinds of files carried along that hold the render's own pixels
    outdated: tuple[str, ...] = ()  # files carried along with names of images that --copies changed
    labels: int = 0  # files carried along: this one, or, for the last image of an archive, its other members


@dataclass
class Report:
    """The outcome of a job; reports of several ranks add up."""

    images: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # images refined, unchanged and skipped
    has_changed: bool = False  # whether the network changed a pixel of any image, before tones were matched
    odd: dict[str, str] = field(default_factory=dict)  # images carried along since they look like labels, and why
    failed: list[Failure] = field(default_factory=list)
    labels: int = 0
    lossy: int = 0
    converted: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # contents of sources' files that results lack
    sidecars: Counter[str] = field(default_factory=Counter)  # files carried along that hold the render's own pixels
    outdated: set[str] = field(default_factory=set)  # files carried along that name images by their old names
    shifts: list[float] = field(default_factory=list)  # pixels, of each image measured
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)  # seconds of all threads by their use
    cores: int = 1  # that the network may compute on
    stopped: StopReason | None = None

    def add(self, outcome: Outcome) -> None:
        """Count one image with its files, or one file beside them."""
        self.labels += outcome.labels
        self.lossy += outcome.lossy
        self.lost.update(outcome.lost)
        self.sidecars.update(outcome.sidecars)
        self.outdated.update(outcome.outdated)
        self.converted.update([outcome.converted] if outcome.converted else [])
        if outcome.status == "failed":
            self.failed.append({"path": str(outcome.task.source), "reason": outcome.reason})
        elif outcome.reason:
            self.odd[str(outcome.task.source)] = outcome.reason
        elif outcome.status != "carried":
            self.counts[outcome.status] += 1

    @property
    def through_network(self) -> int:
        """Images that the network saw."""
        return self.counts["refined"] + self.counts["unchanged"]

    @property
    def images_per_second(self) -> float:
        """Images that went through the network per second of the complete job."""
        return self.through_network / self.seconds if self.seconds else 0.0

    @property
    def cpu_seconds(self) -> float:
        """CPU time in all."""
        return sum(self.cpu.values())

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the CPU time: network, decoding, encoding, noise, matching, files and other, the largest first."""
        parts = sorted(self.cpu.items(), key=lambda part: -part[1])
        return {name: seconds / self.cpu_seconds for name, seconds in parts}

    @property
    def busy(self) -> float:
        """Share of the cores' time that the job used; more than 1 where readers and writers had further cores."""
        return self.cpu_seconds / (self.seconds * self.cores) if self.seconds else 0.0

    @property
    def limit(self) -> str | None:
        """The largest use of CPU time, or "waiting" where cores were idle; None where nothing was refined."""
        if not self.through_network or not self.cpu:
            return None
        return "waiting" if self.busy < MIN_BUSY else next(iter(self.shares))

    @property
    def mean_drift(self) -> float:
        """Mean shift of the measured images, in pixels."""
        return float(np.mean(self.shifts))

    @property
    def p95_drift(self) -> float:
        """95th percentile of the shifts, in pixels."""
        return float(np.percentile(self.shifts, 95))

    @property
    def done(self) -> int:
        """Images that need nothing more."""
        return self.counts.total() + len(self.odd) + len(self.failed)

    @classmethod
    def total(cls, parts: list["Report"]) -> "Report":
        """Add the parts of all ranks; the time is that of the slowest."""
        return cls(
            images=sum(part.images for part in parts),
            counts=sum((part.counts for part in parts), Counter()),
            has_changed=any(part.has_changed for part in parts),
            odd={path: why for part in parts for path, why in part.odd.items()},
            failed=[failure for part in parts for failure in part.failed],
            labels=sum(part.labels for part in parts),
            lossy=sum(part.lossy for part in parts),
            converted=sum((part.converted for part in parts), Counter()),
            lost=sum((part.lost for part in parts), Counter()),
            sidecars=sum((part.sidecars for part in parts), Counter()),
            outdated={path for part in parts for path in part.outdated},
            shifts=[shift for part in parts for shift in part.shifts],
            seconds=max((part.seconds for part in parts), default=0.0),
            cpu={name: sum(part.cpu.get(name, 0.0) for part in parts) for part in parts for name in part.cpu},
            cores=sum(part.cores for part in parts),
            stopped=next((part.stopped for part in parts if part.stopped), None),
        )

"""The limits of a gaze estimator trained on renders: looks, labels, number of images, or the estimator itself.

    python -m benchmarks.efficacy.limits --data DATA --work WORK --job camera --seed 0 1 --train-steps 1000

This uses labels of the target on purpose, to explain results; nothing here chooses a recipe, step or checkpoint. One
estimator (`--estimator`) is trained on each set of `Sets.makers`, or on those of `--row`:

- raw renders, fewer renders, renders augmented by hand, and renders refined once or in several ways
- renders drawn again so that their gaze is distributed as in the target, or weighted so by predictions, which needs no
  label (`simgan eval-gaze --reweight-to`)
- fewer and fewer labelled target images

Refined rows use the `--run`, the refiner of efficacy.py in WORK, or a new one by the default recipe. A second table has
the share that each row closes of the gap between raw renders and all labelled target images, if both are rows.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.efficacy import efficacy
from benchmarks.speed._table import print_head, print_row
from simgan_cli.data.reweighting import weights_like
from simgan_cli.engine.export.refiner_model import RefinerModel, open_model
from simgan_cli.engine.run_folder.layout import RunFolder, step_of
from simgan_cli.files import atomic_directory
from simgan_cli.gaze.estimator_training import fit, predict
from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.gaze.preparation import refined_by

FEWER = (1000, 3000)  # renders
FEWER_REAL = (300, 1000, 3000)  # labelled images of the target
LOOKS = 4  # of each render
RAW, LABELLED = "renders", "all labelled target images"  # the ends of the gap


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and test each of them, print a table."""
    parser = efficacy.parser_of(__doc__, [0, 1], 1000)
    parser.add_argument("--job", choices=["camera", "pupils", "demo", "eyes9x15"], default="camera")
    parser.add_argument("--row", nargs="+", help="only these, by their names in the table")
    parser.add_argument("--beyond", default=RAW, help="row whose share of the gap is subtracted from the others")
    parser.add_argument("--run", type=Path, help="a finished run on the job's images, used instead of a new one")
    options = parser.parse_args(arguments)
    if options.run and options.train:
        parser.error("--run: nothing is trained, so that flags after -- say nothing")
    efficacy.prepare(options)
    downstream = efficacy.downstream_of(efficacy.job_of(options.job, options.data, options.work), options)
    of_seeds = [Sets(downstream, seed, options.train, options.run).makers() for seed in options.seed]
    rows = options.row or list(of_seeds[0])
    if unknown := set(rows) - set(of_seeds[0]):
        parser.error(f"--row: no {', '.join(sorted(unknown))}; there are: {'; '.join(of_seeds[0])}")
    if options.beyond != RAW and not {RAW, LABELLED, options.beyond} <= set(rows):
        parser.error(f"--beyond: needs the rows {RAW}; {LABELLED}; {options.beyond}")
    print_head(
        ("trained on", "error", "by seed"),
        f"{options.estimator}, {options.train_steps} updates, {len(options.seed)} seeds, {options.job}",
    )
    errors = dict[str, efficacy.Errors]()
    for name in rows:
        paths = [
            downstream.errors(kept_as(name, options.train, options.run), makers[name], seed)
            for makers, seed in zip(of_seeds, options.seed, strict=True)
        ]
        errors[name] = np.stack([np.load(options.work / path) for path in paths])
        by_seed = ", ".join(f"{error:.2f}" for error in errors[name].mean(axis=1))
        print_row((name, f"{errors[name].mean():.2f}", by_seed))
    if {RAW, LABELLED} <= errors.keys():
        print("", *shares(errors, options.beyond, downstream.test.persons), sep="\n")


def shares(errors: dict[str, efficacy.Errors], beyond: str, persons: Sequence[str] | None) -> Iterator[str]:
    """Yield a table of the shares of the gap that rows close beyond one of them; errors are seeds x images."""
    yield f"| trained on | share of the gap beyond {beyond} (95%) | by seed |\n|---|---|---|"
    start = errors[beyond]
    end = start - errors[RAW] + errors[LABELLED]  # as far off as the gap is wide
    for name in [name for name in errors if name not in (RAW, beyond, LABELLED)]:
        low, high = efficacy.closure_interval(start, errors[name], end, persons)
        by_seed = [efficacy.closure(*of_seed) for of_seed in zip(start, errors[name], end, strict=True)]
        of_each = ", ".join(f"{share:.2f}" for share in by_seed)
        yield f"| {name} | {np.mean(by_seed):.2f} ({low:.2f} to {high:.2f}) | {of_each} |"


def kept_as(row: str, flags: Sequence[str], run: Path | None) -> str:
    """Return the name of a row's errors; with a refiner it depends on the `run`, or on the `flags` of its training."""
    if "refined" not in row:
        return f"limits, {row}"
    of = "\0".join([open_model(run).sha256, str(run.resolve())] if run else flags)
    return f"limits, {row}, {hashlib.sha256(of.encode()).hexdigest()[:16]}"


def last_steps(run: Path) -> list[int]:
    """Return the steps of the run's last LOOKS checkpoints; end with a message where it keeps fewer."""
    steps = [step_of(path) for path in RunFolder(run).existing_checkpoints()]
    if len(steps) < LOOKS:
        raise SystemExit(
            f"{run}: found {len(steps)} checkpoints, wanted {LOOKS}; take another --work, and end the command with "
            "-- --keep 0 --save-every N"
        )
    return steps[-LOOKS:]


class Sets:
    """The sets that estimators of one seed are trained on; refiners are trained when a set first needs them."""

    def __init__(
        self, downstream: efficacy.Downstream, seed: int, flags: Sequence[str], run: Path | None = None
    ) -> None:
        self.downstream, self.seed, self.flags, self.given = downstream, seed, flags, run
        self.renders, self.target = downstream.synthetic, downstream.oracle
        rng = np.random.default_rng([seed, 7])
        weights, _ = weights_like(self.renders.targets, self.target.targets)
        self.alike = self.renders.part(  # as many images, with the target's label distribution
            rng.choice(len(self.renders), len(self.renders), p=weights / weights.sum())
        )
        self.order = rng.permutation(len(self.target))
        self.order_of_renders = rng.permutation(len(self.renders))

    def makers(self) -> dict[str, Callable[[], LabelledImages]]:
        """Return the function that makes each set, by its name in the table."""
        alike, reweighted = "renders, labels as in the target", "renders, refined, reweighted"
        fewer = {count: self.order_of_renders[:count] for count in FEWER}
        return {
            RAW: lambda: self.renders,
            **{f"{count:,} renders": partial(self.renders.part, chosen) for count, chosen in fewer.items()},
            "renders, augmented": lambda: self._augmented(self.renders),
            "renders, refined": lambda: self.refined,
            **{f"{count:,} renders, refined": partial(self._part_refined, chosen) for count, chosen in fewer.items()},
            f"renders, refined with {LOOKS} noises": self._with_noises,
            f"renders, refined by {LOOKS} checkpoints": self._by_checkpoints,
            "renders, refined at random strength": self._at_random_strength,
            alike: lambda: self.alike,
            f"{alike}, augmented": lambda: self._augmented(self.alike),
            f"{alike}, refined": lambda: self.alike_refined,
            **({} if self.given else {"renders, refined by a refiner of those": self._by_one_of_those}),
            f"{alike}, refined, augmented": lambda: self._augmented(self.alike_refined),
            "renders, reweighted": lambda: self._reweighted(self.renders),
            reweighted: lambda: self.refined_reweighted,
            f"{reweighted}, augmented": lambda: self._augmented(self.refined_reweighted),
            **{
                f"{count:,} labelled target images": partial(self.target.part, self.order[:count])
                for count in FEWER_REAL
            },
            LABELLED: lambda: self.target,
        }

    def _augmented(self, images: LabelledImages) -> LabelledImages:
        return efficacy.augmented_copies(images, self.seed)

    @cached_property
    def run(self) -> Path:
        """The given run, or the default recipe's on the renders, which efficacy.py may have trained."""
        if self.given:
            return self.given
        job = self.downstream.job
        run = efficacy.run_of(self.downstream.work, job.name, "default", self.seed)
        efficacy.trained(job, "default", self.seed, run, self.flags)
        return run

    @cached_property
    def refined(self) -> LabelledImages:
        """The renders, refined by the default recipe."""
        return self._refined_by(open_model(self.run), self.renders)

    def _part_refined(self, chosen: NDArray[np.int64]) -> LabelledImages:
        return self.refined.part(chosen)

    def _with_noises(self) -> LabelledImages:
        model = open_model(self.run)
        return efficacy.together([self._refined_by(model, self.renders, noise) for noise in range(LOOKS)])

    def _by_checkpoints(self) -> LabelledImages:
        looks = [self._refined_by(open_model(self.run, step), self.renders, step) for step in last_steps(self.run)]
        return efficacy.together(looks)

    def _at_random_strength(self) -> LabelledImages:
        """Return each render mixed with its refined image at random, as if by its own `--strength`."""
        raw, refined = (images.pixels.astype(np.float32) for images in (self.renders, self.refined))
        strength = np.random.default_rng([self.seed, 2]).random((len(raw), 1, 1), np.float32)
        return replace(self.renders, pixels=np.rint(raw + strength * (refined - raw)).astype(np.uint8))

    @cached_property
    def refined_reweighted(self) -> LabelledImages:
        """The refined renders with weights."""
        return self._reweighted(self.refined)

    def _reweighted(self, images: LabelledImages) -> LabelledImages:
        """Return the images with the weights of `simgan eval-gaze --reweight-to`, which need no label of the target."""
        downstream = self.downstream
        device, schedule = downstream.device, downstream.schedule
        network = fit(downstream.architecture, images, self.seed, schedule, device)
        predicted = predict(network, self.target.pixels, device, schedule.precision)
        return replace(images, weights=weights_like(images.targets, predicted)[0])

    @cached_property
    def alike_refined(self) -> LabelledImages:
        """The renders drawn again, refined by the given run or by a refiner trained on them alone."""
        return self._refined_by(open_model(self.alike_run), self.alike)

    @cached_property
    def alike_run(self) -> Path:
        """The given run, or the default recipe's on the renders drawn again."""
        if self.given:
            return self.given
        work, job = self.downstream.work, self.downstream.job
        folder = work / "alike" / f"{job.name}-{self.seed}"
        if not folder.is_dir():
            with atomic_directory(folder) as building:
                for index, file in enumerate(self.alike.files):  # one drawn twice has two links
                    path = job.synthetic / file
                    (building / f"{index:06}{path.suffix}").symlink_to(path.resolve())
        run = work / "runs" / f"{job.name}-alike-{self.seed}"
        efficacy.trained(replace(job, synthetic=folder), "default", self.seed, run, self.flags)
        return run

    def _by_one_of_those(self) -> LabelledImages:
        return self._refined_by(open_model(self.alike_run), self.renders)

    def _refined_by(self, model: RefinerModel, images: LabelledImages, noise: int = 0) -> LabelledImages:
        return refined_by(model, images, self.downstream.device, noise, match="off")


if __name__ == "__main__":
    main()

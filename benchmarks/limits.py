"""What keeps a gaze estimator that is trained on renders from doing better: looks, labels, or the number of images.

    python benchmarks/limits.py --data DATA --work WORK --job camera --seed 0 1 --train-steps 1000

This looks at labels of the target on purpose, to explain results: nothing here chooses a recipe, step or checkpoint.
The same estimator is trained on the raw renders, on renders drawn anew so that their gaze is distributed as the
target's, on copies augmented by hand (`efficacy.augment`), on both, and on fewer and fewer labelled target images.
With --refined also on renders drawn anew and refined by the default recipe, which is then trained on them.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import efficacy
import numpy as np
from numpy.typing import NDArray
from train_step import machine

from simgan_cli.data.files import atomic_directory
from simgan_cli.engine.model import open_model
from simgan_cli.engine.runtime import prepare_process, resolve_device, resolve_precision
from simgan_cli.gaze.evaluation import refined_by
from simgan_cli.gaze.fitting import Schedule
from simgan_cli.gaze.labels import LabelledImages

FEWER = (300, 1000, 3000)  # labelled images of the target
BINS = 9  # along each of the two coordinates of the labels


def main() -> None:
    """Train and test each of them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for errors; what is there is not done again")
    parser.add_argument("--job", choices=["camera", "pupils", "demo"], default="camera")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--train-steps", type=int, default=1000)
    parser.add_argument("--refined", action="store_true", help="also train refiners, on renders drawn anew")
    parser.add_argument("train", nargs="*", help="after --: flags of simgan train for these refiners")
    options = parser.parse_args()
    device = resolve_device("auto")
    prepare_process(device, deterministic=False)
    schedule = Schedule(options.train_steps, 64, 1e-3, resolve_precision("auto", device))
    job = efficacy.job_of(options.job, options.data, options.work)
    downstream = efficacy.Downstream(job, options.work, "resnet", schedule)
    print(f"{machine()}, {options.train_steps} updates, {len(options.seed)} seeds, job {options.job}\n")
    print("| trained on | error | by seed |\n|---|---:|---|")
    makers = [
        sets(downstream, seed) | (refined_sets(downstream, seed, options.train) if options.refined else {})
        for seed in options.seed
    ]
    for name in makers[0]:
        paths = [
            downstream.errors(f"limits, {name}", make[name], seed)
            for make, seed in zip(makers, options.seed, strict=True)
        ]
        found = [float(np.load(options.work / path).mean()) for path in paths]
        print(f"| {name} | {np.mean(found):.2f} | {', '.join(f'{error:.2f}' for error in found)} |", flush=True)


def sets(downstream: efficacy.Downstream, seed: int) -> dict[str, Callable[[], LabelledImages]]:
    """Return what makes each of the sets that estimators are trained on, by its name in the table."""
    rng = stream_of(seed)
    renders, target, alike = downstream.synthetic, downstream.oracle, drawn_anew(downstream, rng)
    order = rng.permutation(len(target))
    return {
        "renders": lambda: renders,
        "renders, labels as in the target": lambda: alike,
        "renders, augmented": lambda: efficacy.augmented_copies(renders, seed),
        "renders, labels as in the target, augmented": lambda: efficacy.augmented_copies(alike, seed),
        **{f"{count:,} labelled target images": partial(target.part, order[:count]) for count in FEWER},
        "all labelled target images": lambda: target,
    }


def stream_of(seed: int) -> np.random.Generator:
    """Return the random numbers of a seed's sets, from their beginning."""
    return np.random.default_rng([seed, 7])


def drawn_anew(downstream: efficacy.Downstream, rng: np.random.Generator) -> LabelledImages:
    """Return as many renders as there are, drawn so that their labels are distributed as the target's."""
    renders = downstream.synthetic
    return renders.part(rng.choice(len(renders), len(renders), p=likeness(renders, downstream.oracle)))


def refined_sets(
    downstream: efficacy.Downstream, seed: int, flags: Sequence[str]
) -> dict[str, Callable[[], LabelledImages]]:
    """Return what makes the sets that need a refiner, which trains when the first of them is made."""
    name = "renders, labels as in the target, refined"
    return {
        name: lambda: refined_alone(downstream, seed, flags),
        f"{name}, augmented": lambda: efficacy.augmented_copies(refined_alone(downstream, seed, flags), seed),
    }


def refined_alone(downstream: efficacy.Downstream, seed: int, flags: Sequence[str]) -> LabelledImages:
    """Return renders drawn anew as a refiner makes them that has trained on no others."""
    renders = drawn_anew(downstream, stream_of(seed))
    folder = downstream.work / "alike" / f"{downstream.job.name}-{seed}"
    if not folder.is_dir():
        with atomic_directory(folder) as building:
            for index, file in enumerate(renders.files):  # one drawn twice has two links
                path = downstream.job.synthetic / file
                (building / f"{index:06}{path.suffix}").symlink_to(path.resolve())
    run = downstream.work / "runs" / f"{downstream.job.name}-alike-{seed}"
    efficacy.train_refiner(replace(downstream.job, synthetic=folder), "default", seed, run, flags)
    return refined_by(open_model(run), renders, downstream.device)


def likeness(renders: LabelledImages, target: LabelledImages) -> NDArray[np.float64]:
    """Return the probability of each render under which labels are distributed as the target's, in coarse bins."""
    both = np.concatenate([renders.targets[:, :2], target.targets[:, :2]])
    low, high = np.percentile(both, [0.5, 99.5], axis=0)
    edges = np.linspace(low, high, BINS + 1)[1:-1].T
    bins = np.stack([np.digitize(axis, edge) for axis, edge in zip(both.T, edges, strict=True)])
    place = np.ravel_multi_index(tuple(bins), (BINS, BINS))
    of_renders, of_target = (
        np.bincount(part, minlength=BINS * BINS) for part in (place[: len(renders)], place[len(renders) :])
    )
    weights = (of_target / np.maximum(of_renders, 1))[place[: len(renders)]]
    return np.asarray(weights / weights.sum(), np.float64)


if __name__ == "__main__":
    main()

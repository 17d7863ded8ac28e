"""Does refining help? Train refiners, train the same estimator on refined images, and test it on the target.

    python -m benchmarks.efficacy.efficacy --data DATA --work WORK --job camera --recipe default --recipe lambda=1

Each job, recipe and seed becomes a line of WORK/results.jsonl with all settings. An interrupted command skips existing
lines when it is rerun. Several commands may share a WORK if their seeds, jobs or recipes differ. `--train-only` ends
before any label is read; WORK/runs can then move to another machine for the same command without it.

A recipe is `default`, `paper`, or settings of `simgan train` such as `lambda=1,psi=blur,noise=false`; `variant=NAME`
among them trains with one of variants.py. No recipe, step or checkpoint uses a label of the target: `train_refiner`
starts `simgan train` as a process with two folders of images. Only after it has ended, `Downstream` opens labels, for
the oracle and the test.
"""

import argparse
import csv
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks._record import append, machine, read_lines
from simgan_cli.data.augmentation import augment
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.run_folder.layout import RunFolder, step_of
from simgan_cli.engine.runtime.device import prepare_process, resolve_device, resolve_precision
from simgan_cli.files import atomic_directory, atomic_file, write_atomic
from simgan_cli.gaze.baselines import make_baseline
from simgan_cli.gaze.estimator_training import Schedule, fit, predict
from simgan_cli.gaze.labels import UNIT, Grey, LabelFormat, LabelledImages
from simgan_cli.gaze.preparation import load_estimator, refined_by
from simgan_cli.gaze.readers import read, read_unlabelled
from simgan_cli.gaze.scores import errors_of, gap_share, interval_of
from simgan_cli.pictures.grid import sheet
from simgan_cli.settings.base import Target
from simgan_cli.settings.eval_gaze import BaselineName

JobName = Literal["camera", "pupils", "demo", "eyes9x15", "mpiigaze"]
COPIES = 4  # looks of each image in sets that are augmented
RUN_ESTIMATOR = "run's estimator"  # it was trained with the refiner, and the run exports it
ROWS = (
    "synthetic",
    "histogram",
    "reinhard",
    "mixed",
    "refined",
    "refined, matched",
    "refined, mean-std",
    "refined, mixed",
    RUN_ESTIMATOR,
    "oracle",
)
PICTURES = 8  # rows of a sheet
RESAMPLES = 2000
TEST_PERSONS = {"7", "8", "9"}  # of eyes9x15; the others are the unlabelled target
SIMGAN = str(Path(sys.executable).with_name("simgan"))
Errors = NDArray[np.float64]  # of each test image
Kept = dict[str, Path]  # training set of an estimator, and the file of its errors below WORK


@dataclass(frozen=True)
class Job:
    """Two folders of images to train on; a test set and labels of the target are opened by `Downstream` alone."""

    name: str
    synthetic: Path
    real: Path
    target: Target | None = None  # None where nothing of the target is labelled
    test: Path | None = None
    real_labels: Path | None = None


def job_of(name: JobName, data: Path, work: Path) -> Job:
    """Return a job on the folders below `data`."""
    if name == "demo":
        camera = demo_data(work / name) / "camera"
        return Job(
            name, work / name / "synthetic", camera / "train", "gaze", camera / "test", camera / "oracle" / "labels.csv"
        )
    folder = data / {"mpiigaze": "eyes"}.get(name, name)
    if name == "mpiigaze":
        return Job(name, folder / "synthetic", folder / "real")
    if name == "eyes9x15":
        folder = as_images(folder, work / name)
    target: Target = "pupil" if name == "pupils" else "gaze"
    return Job(name, folder / "synthetic", folder / "target", target, folder / "test", folder / "target_labels.csv")


def demo_data(folder: Path) -> Path:
    """Render the simulated eyes of `simgan demo-data` where they are not there yet; return their folder."""
    if not folder.is_dir():
        subprocess.run([SIMGAN, "demo-data", str(folder), "--quiet"], check=True)
    return folder


def as_images(source: Path, folder: Path) -> Path:
    """Write the npz files of eyes9x15 as folders of PNGs with labels, real persons apart; return the folder."""
    if not folder.is_dir():
        synthetic, real = (
            read(source / f"{name}.npz", LabelFormat(convention="gazehub")) for name in ("synthetic", "real")
        )
        is_test = np.isin(np.array(real.persons), list(TEST_PERSONS))
        with atomic_directory(folder) as building:
            _write_images(building / "synthetic", building / "synthetic" / "labels.csv", synthetic)
            _write_images(building / "target", building / "target_labels.csv", real.part(np.flatnonzero(~is_test)))
            _write_images(building / "test", building / "test" / "labels.csv", real.part(np.flatnonzero(is_test)))
    return folder


def _write_images(folder: Path, labels: Path, eyes: LabelledImages) -> None:
    folder.mkdir()
    with labels.open("w", newline="") as table:
        lines = csv.writer(table)
        lines.writerow(["file", "gx", "gy", "gz", *(["person"] if eyes.persons else [])])
        for index, (pixels, gaze) in enumerate(zip(eyes.pixels, eyes.targets, strict=True)):
            Image.fromarray(pixels).save(folder / f"{index:06}.png")
            lines.writerow([f"{index:06}.png", *gaze, *(eyes.persons[index : index + 1] if eyes.persons else [])])


def program_and_flags(recipe: str) -> tuple[list[str], list[str]]:
    """Return the program of a recipe, `simgan` or a variant, and its flags of `train`."""
    program, flags = [SIMGAN], list[str]()
    if recipe == "paper":
        recipe = "recipe=paper"
    for key, _, value in (setting.partition("=") for setting in recipe.split(",") if recipe != "default"):
        name = key.replace("_", "-")
        if name == "variant":
            program = [sys.executable, "-m", "benchmarks.efficacy.variants", value]
        else:
            flags += [f"--{'no-' * (value == 'false')}{name}"] if value in ("true", "false") else [f"--{name}", value]
    return program, flags


def train_refiner(job: Job, recipe: str, seed: int, run: Path, common: Sequence[str]) -> dict[str, Any]:
    """Train in a process that gets two folders of images and nothing else; return its JSON document."""
    program, flags = program_and_flags(recipe)
    command = [*program, "train", "--synthetic", str(job.synthetic), "--real", str(job.real), "--out", str(run)]
    command += [
        "--target",
        job.target or "gaze",
        "--seed",
        str(seed),
        "--resume",
        "auto",
        "--quiet",
        "--json",
        *common,
        *flags,
    ]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with exit code {result.returncode}")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


class Downstream:
    """The same estimator trained on one set after another and tested on the target, in degrees or pixels."""

    def __init__(self, job: Job, work: Path, architecture: Architecture, schedule: Schedule) -> None:
        assert job.test is not None and job.target is not None and job.real_labels is not None
        label_format = LabelFormat(job.target)
        self.job, self.architecture, self.schedule = job, architecture, schedule
        self.device = resolve_device("auto")
        self.synthetic = read(job.synthetic, label_format)
        self.test = read(job.test, label_format)
        self.oracle = read(_with_labels(job, work / "labelled" / job.name), label_format)
        self.work = work

    def errors(self, name: str, images: Callable[[], LabelledImages], seed: int) -> Path:
        """Return the file, below WORK, of the errors on all test images after training on `images`.

        An earlier call's file of that name stands for the same training.
        """
        schedule = "-".join(str(value) for value in asdict(self.schedule).values())
        path = Path("errors", self.job.name, f"{name}-{self.architecture}-{schedule}-{seed}.npy")
        if not (self.work / path).exists():
            self._write_errors(fit(self.architecture, images(), seed, self.schedule, self.device), path)
        return path

    def _write_errors(self, network: Estimator, path: Path) -> Path:
        predicted = predict(network, self.test.pixels, self.device, self.schedule.precision)
        (self.work / path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.work / path) as file:
            np.save(file, errors_of(predicted, self.test.targets, self.test.target))
        return path

    @cached_property
    def photographs(self) -> Grey:
        """The unlabelled images of the target."""
        return read_unlabelled(self.job.real, self.synthetic.size, LabelFormat(self.synthetic.target))[0]

    def made(self, name: BaselineName, seed: int) -> LabelledImages:
        """Return the renders, changed by a baseline."""
        return make_baseline(name, self.synthetic, self.photographs, seed)

    def rows(self, run: Path, seed: int, chosen: Collection[str]) -> Kept:
        """Return the file of errors of each of the `chosen` ROWS."""
        model = open_model(run)

        def refined(**how: Any) -> LabelledImages:
            return refined_by(model, self.synthetic, self.device, seed * COPIES, **how)

        sets: dict[str, Callable[[], LabelledImages]] = {
            "synthetic": lambda: self.synthetic,
            "histogram": lambda: self.made("histogram", seed),
            "reinhard": lambda: self.made("reinhard", seed),
            "mixed": lambda: together([self.made("mixed", seed * COPIES + copy) for copy in range(COPIES)]),
            "refined": lambda: refined(match="off"),
            "refined, matched": lambda: refined(match="histogram"),
            "refined, mean-std": lambda: refined(match="mean-std"),
            "refined, mixed": lambda: refined(match="histogram", augment=True, copies=COPIES),
            "oracle": lambda: self.oracle,
        }
        kept = {
            name: self.errors(f"{model.sha256[:16]}-{name}" if "refined" in name else name, images, seed)
            for name, images in sets.items()
            if name in chosen
        }
        if RUN_ESTIMATOR in chosen and (run / "estimator").is_dir():
            kept[RUN_ESTIMATOR] = self._tested(run / "estimator", f"{model.sha256[:16]}-{RUN_ESTIMATOR}", seed)
        return kept

    def _tested(self, estimator: Path, name: str, seed: int) -> Path:
        """Return the file, below WORK, of the errors of a trained estimator."""
        assert self.job.target is not None
        network = load_estimator(estimator, self.job.target)
        return self._write_errors(network, Path("errors", self.job.name, f"{name}-{seed}.npy"))

    def refined_at(self, run: Path, step: int, seed: int) -> float:
        """Return the mean error after training on renders refined by the run's checkpoint at `step`."""
        model = open_model(run, step)
        images = refined_by(model, self.synthetic, self.device, match="off")
        return float(np.load(self.work / self.errors(f"{model.sha256[:16]}-refined", lambda: images, seed)).mean())


def _with_labels(job: Job, folder: Path) -> Path:
    """Link the target's images and labels into one folder, as readers expect."""
    if not folder.is_dir():
        assert job.real_labels is not None
        with atomic_directory(folder) as building:
            for image in job.real.iterdir():
                (building / image.name).symlink_to(image.resolve())
            shutil.copy(job.real_labels, building / "labels.csv")
    return folder


def together(sets: Sequence[LabelledImages]) -> LabelledImages:
    """Return several sets as one; all or none have weights."""
    weights = [images.weights for images in sets if images.weights is not None]
    return replace(
        sets[0],
        pixels=np.concatenate([images.pixels for images in sets]),
        targets=np.concatenate([images.targets for images in sets]),
        files=[f"{index}/{file}" for index, images in enumerate(sets) for file in images.files],
        persons=None,
        weights=np.concatenate(weights) if weights else None,
    )


def augmented_copies(images: LabelledImages, seed: int) -> LabelledImages:
    """Return COPIES of each image, each with its own blur, shading, tone curve and noise; labels stay true."""
    rng = np.random.default_rng([seed, 1])
    return together(
        [replace(images, pixels=np.stack([augment(image, rng) for image in images.pixels])) for _ in range(COPIES)]
    )


def closure(synthetic: Errors, refined: Errors, oracle: Errors) -> float:
    """Return the share of the gap that refining closes, from the errors of one seed."""
    return float(gap_share(synthetic.mean(), refined.mean(), oracle.mean()))


def closure_interval(synthetic: Errors, refined: Errors, oracle: Errors, persons: Sequence[str] | None) -> list[float]:
    """Return the 95% interval of the mean over seeds of `closure`; errors are seeds x images of these persons."""
    return interval_of(gap_share, [synthetic, refined, oracle], persons, RESAMPLES)


def run_of(work: Path, job: str, recipe: str, seed: int) -> Path:
    """Return the folder of a training below `work`."""
    return work / "runs" / f"{job}-{recipe.replace('/', '_')}-{seed}"


def measure(job: Job, recipe: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one job with one recipe and seed; return its line of results."""
    run = run_of(options.work, job.name, recipe, seed)
    training = trained(job, recipe, seed, run, options.train)
    line = {"job": job.name, "recipe": recipe, "seed": seed, "conditions": conditions(options), **training}
    if job.target is not None:
        downstream = downstream_of(job, options)
        kept = downstream.rows(run, seed, options.row)
        errors: dict[str, Errors] = {name: np.load(options.work / path) for name, path in kept.items()}
        line["kept"] = {name: str(path) for name, path in kept.items()}
        line["persons"] = downstream.test.persons  # for the table, which reads no labels
        line["unit"] = UNIT[job.target]
        line["errors"] = {name: float(values.mean()) for name, values in errors.items()}
        line["closure"] = {
            name: closure(errors["synthetic"], values, errors["oracle"])
            for name, values in errors.items()
            if {"synthetic", "oracle"} <= errors.keys() and name not in ("synthetic", "oracle")
        }
    return line


def trained(job: Job, recipe: str, seed: int, run: Path, common: Sequence[str]) -> dict[str, Any]:
    """Return the facts of a training; a finished one has them in the record beside its run."""
    record, attempts = (run.with_name(f"{run.name}.{suffix}") for suffix in ("json", "minutes"))
    if not record.exists():
        started, cpu = time.monotonic(), cpu_of_children()
        try:
            document = train_refiner(job, recipe, seed, run, common)
        finally:  # interrupted attempts count, too
            attempts.parent.mkdir(parents=True, exist_ok=True)
            with attempts.open("a") as file:
                file.write(f"{(cpu_of_children() - cpu) / 60}\n")
        cpu_minutes = sum(float(minutes) for minutes in attempts.read_text().split())
        training = {
            "machine": machine(), "settings": json.loads((run / "config.json").read_text())["settings"],
            "minutes": round((time.monotonic() - started) / 60, 2), "cpu_minutes": round(cpu_minutes, 2),
            "train_seconds": document["seconds"], "steps": document["step"],
            "metrics": document["exported"] or {}, "health": [finding["rule"] for finding in document["health"]],
        }  # fmt: skip
        write_atomic(record, json.dumps({"flags": list(common), "told": training}))
    stored = json.loads(record.read_text())
    if stored["flags"] != list(common):
        raise SystemExit(f"{record}: trained with {stored['flags']}, not with {list(common)}; take another --work")
    result: dict[str, Any] = stored["told"]
    return result


def hindsight(lines: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[str]:
    """Yield a table of the measurements of each kept checkpoint, and of the error after training on its images."""
    yield "| job | recipe | seed | step | patch distance | drift px | error | |\n|---|---|---:|---:|---:|---:|---:|---|"
    for line in lines:
        if "errors" in line and line["job"] in options.job and line["seed"] in options.seed:
            run = RunFolder(run_of(options.work, line["job"], line["recipe"], line["seed"]))
            measured = {entry["step"]: entry for entry in run.read_metrics() if "swd_refined" in entry}
            errors = errors_at(line, run, measured.keys(), options)
            best = min(errors, key=lambda step: (errors[step], step), default=None)  # none measured and kept: no row
            for step, error in sorted(errors.items()):
                marks = ["exported"] * (step == line["metrics"].get("step")) + ["best"] * (step == best)
                distance, drift = measured[step]["swd_refined"], measured[step].get("label_drift", np.nan)
                yield (
                    f"| {line['job']} | {line['recipe']} | {line['seed']} | {step} | {distance:.3f} "
                    f"| {drift:.2f} | {error:.2f} | {', '.join(marks)} |"
                )


def errors_at(
    line: dict[str, Any], run: RunFolder, steps: Collection[int], options: argparse.Namespace
) -> dict[int, float]:
    """Return the errors with the refiner of each of `steps` whose checkpoint was kept, and with the exported one."""
    downstream = downstream_of(job_of(line["job"], options.data, options.work), options)
    kept = [step for step in map(step_of, run.existing_checkpoints()) if step in steps]
    errors = {step: downstream.refined_at(run.root, step, line["seed"]) for step in kept}
    exported = line["metrics"].get("step")
    return errors | ({exported: line["errors"]["refined"]} if exported in steps else {})


def precision_of(options: argparse.Namespace) -> Literal["fp32", "bf16"]:
    """Return the precision of the estimators' training."""
    return resolve_precision(options.precision, resolve_device("auto"))


def downstream_of(job: Job, options: argparse.Namespace) -> Downstream:
    """Return the estimators of a job under this command's conditions."""
    schedule = Schedule(options.train_steps, 64, 1e-3, precision_of(options))
    return Downstream(job, options.work, options.estimator, schedule)


def cpu_of_children() -> float:
    """Return the CPU seconds of our ended processes, a cost that a busy machine hardly changes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def conditions(options: argparse.Namespace) -> list[str]:
    """Return the conditions that all lines of a job in one table must share."""
    return [options.estimator, str(options.train_steps), precision_of(options), *options.train]


def check_conditions(lines: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """End with a message where WORK holds lines of these jobs under other conditions."""
    for line in lines:
        if line["job"] in options.job and line["conditions"] != conditions(options):
            raise SystemExit(
                f"{options.work}: holds {line['job']} with {' '.join(line['conditions'])}, not with "
                f"{' '.join(conditions(options))}; take another --work, or the same flags"
            )


def drawn(job: Job, runs: dict[str, Path], title: str) -> bytes:
    """Return a PNG of a few renders of a job, refined by each run, and of target images."""
    renders, photos = (_a_few(folder) for folder in (job.synthetic, job.real))
    columns, device = {"synthetic": renders}, resolve_device("auto")
    for name, run in runs.items():
        refined = ImageRefiner(open_model(run), device, match="off").refine(renders[:, None])
        columns[name] = np.asarray(refined, np.uint8)[:, 0]
    columns["real"] = photos
    return sheet(list(columns), list(zip(*columns.values(), strict=True)), title)


def _a_few(folder: Path) -> NDArray[np.uint8]:
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    chosen = paths[:: max(1, len(paths) // PICTURES)][:PICTURES]
    return np.stack([np.asarray(Image.open(path).convert("L")) for path in chosen])


def record(lines: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Add a record for each line, and one with the intervals of each job and recipe, to `options.record`.

    The lines must be of this machine: they do not hold its device.
    """
    for (job, recipe), group in groups(lines):
        common: dict[str, Any] = {"job": job, "recipe": recipe}
        for line in group:
            estimator, updates, precision, *flags = line["conditions"]
            metrics, distances = line["metrics"], ("swd_synthetic", "swd_refined", "swd_real")
            measured = {"step": "step", "drift": "label_drift", "two_sample": "two_sample"}
            fields: dict[str, Any] = {
                "seed": line["seed"], "estimator": estimator, "train_steps": int(updates), "precision": precision,
                "device": resolve_device("auto").type, "flags": flags,
                **{name: line[name] for name in ("unit", "errors", "closure") if name in line},
                **{name: metrics.get(metric) for name, metric in measured.items()},
                "distances": [metrics[name] for name in distances] if "swd_refined" in metrics else None,
                **{name: line[name] for name in ("steps", "cpu_minutes", "health")},
            }  # fmt: skip
            append(options.record, common | _rounded(fields), line["machine"])
        if "errors" in group[0]:
            intervals = {name: _interval(options.work, group, name) for name in group[0]["closure"]}
            seeds = [line["seed"] for line in group]
            append(options.record, common | _rounded({"seeds": seeds, "interval": intervals}), group[-1]["machine"])


def _rounded(value: Any) -> Any:
    """Return a record's value with four decimals and without unknown values."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def groups(lines: Sequence[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Yield (job, recipe) and its lines, in order of appearance."""
    for key in dict.fromkeys((line["job"], line["recipe"]) for line in lines):
        yield key, [line for line in lines if (line["job"], line["recipe"]) == key]


def table(lines: Sequence[dict[str, Any]], work: Path) -> str:
    """Return the results as Markdown: means over seeds; errors in the job's unit."""
    rows = [
        "| job | recipe | seeds | trained on | error | gap closure (95%) | by seed | drift px "
        "| patch distance before, after (floor) | two-sample | CPU minutes | steps | health |",
        "|---|---|---:|---|---:|---|---|---:|---|---:|---:|---:|---|",
    ]
    for (job, recipe), group in groups(lines):
        metrics = {
            name: float(np.mean([line["metrics"].get(name, np.nan) for line in group]))
            for name in ("label_drift", "swd_synthetic", "swd_refined", "swd_real", "two_sample")
        }
        health = ", ".join(sorted({rule for line in group for rule in line["health"]})) or "-"
        training = (
            f"| {metrics['label_drift']:.2f} "
            f"| {metrics['swd_synthetic']:.3f}, {metrics['swd_refined']:.3f} ({metrics['swd_real']:.3f}) "
            f"| {metrics['two_sample']:.0%} | {np.mean([line['cpu_minutes'] for line in group]):.1f} "
            f"| {np.mean([line['steps'] for line in group]):.0f} | {health} |"
        )
        rows += [f"| {job} | {recipe} | {len(group)} {cells} {training}" for cells in _rows_of(group, work)]
    return "\n".join(rows)


def _rows_of(lines: Sequence[dict[str, Any]], work: Path) -> Iterator[str]:
    """Yield the cells of each row of a job and recipe: trained on, error, gap closure, by seed."""
    if "errors" not in lines[0]:
        yield "| | | | "
        return
    for name in lines[0]["errors"]:
        gap = by_seed = ""
        if name in lines[0]["closure"]:
            low, high = _interval(work, lines, name)
            shares = [line["closure"][name] for line in lines]
            gap, by_seed = f"{np.mean(shares):.2f} ({low:.2f} to {high:.2f})", ", ".join(f"{s:.2f}" for s in shares)
        error = np.mean([line["errors"][name] for line in lines])
        yield f"| {name} | {error:.2f} {lines[0]['unit']} | {gap} | {by_seed}"


def _interval(work: Path, lines: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Return the 95% interval of a row's share of the gap, from the errors that `Downstream` kept."""
    synthetic, row, oracle = (_kept(work, lines, each) for each in ("synthetic", name, "oracle"))
    return closure_interval(synthetic, row, oracle, lines[0]["persons"])


def _kept(work: Path, lines: Sequence[dict[str, Any]], name: str) -> Errors:
    """Return the errors that `Downstream` kept, seeds x images."""
    return np.stack([np.load(work / line["kept"][name]) for line in lines])


def parser_of(description: str | None, seeds: list[int], train_steps: int) -> argparse.ArgumentParser:
    """Return a parser of the options of this command and limits.py; `seeds` and `train_steps` are defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with camera/, pupils/, eyes/, eyes9x15/")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs, errors and results.jsonl")
    parser.add_argument("--seed", type=int, nargs="+", default=seeds)
    parser.add_argument("--estimator", choices=get_args(Architecture), default="resnet")
    parser.add_argument("--train-steps", type=int, default=train_steps, help="updates of each estimator")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of the estimators")
    parser.add_argument("--threads", type=int, help="of this process; set OMP_NUM_THREADS for the trainings, too")
    parser.add_argument("train", nargs="*", help="after --: flags of simgan train for all refiners")
    return parser


def prepare(options: argparse.Namespace) -> None:
    """Set up this process and its folder."""
    prepare_process(resolve_device("auto"), deterministic=False)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything without a line, then print the table."""
    parser = parser_of(__doc__, [0, 1, 2, 3, 4], 2000)
    parser.add_argument("--job", nargs="+", choices=get_args(JobName), default=["camera", "pupils"])
    parser.add_argument("--recipe", action="append", help="default, paper, or KEY=VALUE,... of simgan train")
    parser.add_argument("--row", nargs="+", choices=ROWS, default=ROWS, help="only these")
    parser.add_argument("--hindsight", action="store_true", help="also estimators and rows for measured checkpoints")
    parser.add_argument(
        "--train-only", action="store_true", help="train no estimators; run the command without it later"
    )
    parser.add_argument("--table", action="store_true", help="only print the table of existing lines")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="add the lines of WORK, with no paths, to this file"
    )
    parser.add_argument(
        "--sheet", type=Path, help="only draw renders refined by the recipes, for the first job and seed"
    )
    options = parser.parse_args(arguments)
    prepare(options)
    results = options.work / "results.jsonl"
    recipes = options.recipe or ["default"]
    if options.sheet:
        name, seed = options.job[0], options.seed[0]
        runs = {recipe: run_of(options.work, name, recipe, seed) for recipe in recipes}
        there = {recipe: run for recipe, run in runs.items() if run.is_dir()}
        write_atomic(options.sheet, drawn(job_of(name, options.data, options.work), there, f"{name}, seed {seed}"))
        return
    if options.hindsight or not options.table:
        check_conditions(read_lines(results), options)
    for seed, name, recipe in [] if options.table else product(options.seed, options.job, recipes):
        job = job_of(name, options.data, options.work)
        if options.train_only:
            trained(job, recipe, seed, run_of(options.work, name, recipe, seed), options.train)
        elif (name, recipe, seed) not in {(line["job"], line["recipe"], line["seed"]) for line in read_lines(results)}:
            line = measure(job, recipe, seed, options)
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            summary = {key: line.get(key) for key in ("job", "recipe", "seed", "errors", "closure")}
            print(json.dumps(summary), flush=True)
    print(table(read_lines(results), options.work))
    if options.record:
        record(read_lines(results), options)
    for row in hindsight(read_lines(results), options) if options.hindsight else ():
        print(row, flush=True)


if __name__ == "__main__":
    main()

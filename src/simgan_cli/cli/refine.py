"""`simgan refine`: plan all inputs and outputs, print the plan, refine."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simgan_cli.cli.command import ConfigFile, Json, Quiet, Verbose, with_settings
from simgan_cli.cli.console import ProgressLine, echo_err, exit_codes, print_json, strip_control
from simgan_cli.cli.resolve import print_settings, read_settings
from simgan_cli.cli.signals import stop_on_signals
from simgan_cli.data.patterns import Patterns
from simgan_cli.data.selection import foreign_note, odd_note
from simgan_cli.documents import Drift, JobStatus, RefineDocument, RefinePlanDocument
from simgan_cli.engine.run_folder.health import MAX_DRIFT_PIXELS
from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.errors import EXIT_INTERRUPTED, EXIT_SOME_FAILED, EXIT_STOPPED, Interrupted, SettingsError, plural
from simgan_cli.settings.refine import RefineConfig, file_of_part

if TYPE_CHECKING:
    from simgan_cli.engine.export.refiner_model import RefinerModel
    from simgan_cli.engine.refining.image_refiner import ImageRefiner
    from simgan_cli.engine.refining.outcome import Report
    from simgan_cli.engine.refining.plan import Plan, RefineTask

LOG_EVERY = 1000  # images between lines of progress where there is no terminal
MAX_WARNINGS = 20
MAX_SCALE_RATIO = 1.5  # between the diagonals of images and of those that the refiner was trained on


@with_settings(RefineConfig)
def refine(
    flags: dict[str, Any],
    *,
    config: ConfigFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="List inputs and outputs; write nothing.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Make rendered images realistic; copy their labels.

        simgan refine renders/ --model run --out refined/

    Settings: file < environment (SIMGAN_REFINE_TILE=256) < flags.
    Under torchrun the ranks share the work. Every result that exists is complete.
    """
    again = "--skip-existing (with --overwrite: the same command)"
    with exit_codes(writing="the results", again=again, smaller="lower --batch-size or --tile", json=json):
        ranks = Ranks.of_process()
        settings = read_settings(RefineConfig, flags, config)
        quiet = quiet or not ranks.is_first
        with stop_on_signals() as stop:
            inputs = _inputs(settings)
            model = _open_model(settings)
            is_recorded = not settings.include and not settings.exclude
            settings = _as_trained(settings, model)
            # Only the first rank lists, so its plan covers all files.
            plan = _plan(settings, inputs, SINGLE if dry_run else ranks, is_recorded=is_recorded)
            if not quiet:
                print_settings(settings, everything=verbose)
            refiner, size, processes = _open_refiner(settings, model, plan, ranks)
            if not quiet:
                echo_err(_about(refiner.model, plan, settings))
            if ranks.is_first:
                for warning in _warnings(plan, settings, refiner.model, size):
                    echo_err(f"warning: {warning}", "yellow")
            if dry_run:
                if ranks.is_first:
                    _list(plan, settings, refiner.model, json=json)
                return
            report = _run(settings, plan, refiner, stop, ranks, processes, quiet=quiet, json=json and ranks.is_first)
        if not quiet:
            _summarize(report, settings)
        if ranks.is_first:
            _warn_of_results(report, settings, model)
        if report.stopped:
            raise typer.Exit(EXIT_INTERRUPTED if report.stopped == "interrupt" else EXIT_STOPPED)
        if report.failed:
            raise typer.Exit(EXIT_SOME_FAILED)


def _inputs(settings: RefineConfig) -> list[tuple[Path, Path]]:
    """Return each input and the folder of its results. Raises SettingsError before anything slow starts."""
    from simgan_cli.engine.refining.plan import check_inputs, folders_in

    if settings.skip_existing and settings.overwrite:
        raise SettingsError("--skip-existing and --overwrite contradict each other; give one of them")
    if settings.look_by not in ("image", "folder"):
        is_glob = set("*?[") & set(settings.look_by) and settings.look_by.count("(") == settings.look_by.count(")")
        if not is_glob:
            raise SettingsError(f"--look-by {settings.look_by}: wanted image, folder, or a glob such as '(*)_????.png'")
    listed = folders_in(settings.from_file) if settings.from_file is not None else []
    return check_inputs([*settings.inputs, *listed], settings.out)


def _open_model(settings: RefineConfig) -> "RefinerModel":
    from simgan_cli.engine.export.refiner_model import open_model  # torch takes seconds to import

    model = open_model(settings.model, settings.step)
    if settings.backend not in ("auto", model.backend):
        raise SettingsError(
            f"--backend {settings.backend}: {settings.model} runs with {model.backend}; leave it out, or make an ONNX "
            "file with simgan export"
        )
    if settings.channels is not None and int(settings.channels) != model.channels:
        raise SettingsError(f"--channels {settings.channels}: the model has {model.channels}; leave it out")
    return model


def _as_trained(settings: RefineConfig, model: "RefinerModel") -> RefineConfig:
    """Return the settings, with those of the training where the user gave none. Raises SettingsError."""
    from simgan_cli.engine.refining.image_file import Reading
    from simgan_cli.engine.refining.image_refiner import resolve_match

    trained: dict[str, object] = {
        name: getattr(model, name)
        for name in ("pixels", "background", "tone_curve")
        if getattr(settings, name) is None and getattr(model, name) != getattr(Reading(), name)
    }
    if not settings.include and not settings.exclude:
        trained |= {"include": model.include, "exclude": model.exclude}
    is_packed = settings.pixels == "packed16"
    match = "off" if is_packed and settings.match == "auto" else resolve_match(settings.match, model, settings.strength)
    changes_tones = settings.augment or match != "off"
    if changes_tones and is_packed:
        raise SettingsError("--pixels packed16: packed numbers have no tones; leave out --match and --augment")
    if settings.copies > 1 and not changes_tones and not (model.network.settings["noise"] and settings.strength):
        raise SettingsError(
            f"--copies {settings.copies}: all would be the same; add --match or --augment, or train with --noise"
        )
    return settings.model_copy(update=trained | {"match": match})


def _plan(settings: RefineConfig, inputs: list[tuple[Path, Path]], ranks: Ranks, *, is_recorded: bool) -> "Plan":
    """List all files. Raises SettingsError or DataError before anything is written."""
    from simgan_cli.engine.refining.plan import make_plan, refuse_existing

    wanted = None if settings.format == "same" else settings.format
    patterns = Patterns(settings.include, settings.exclude)
    plan = make_plan(
        inputs, settings.out, wanted, settings.part, patterns, is_recorded=is_recorded, copies=settings.copies
    )
    plan = plan.split(ranks.count)[ranks.rank]
    if not (settings.skip_existing or settings.overwrite):
        refuse_existing(plan, settings.out, others=settings.copy_others)
    _check_files(settings, plan)
    return plan


def _check_files(settings: RefineConfig, plan: "Plan") -> None:
    """Raise SettingsError where --manifest or --compare cannot be written, or would replace a file unasked."""
    manifest = settings.manifest and file_of_part(settings.manifest, plan.part)
    for flag, file in (("manifest", manifest), ("compare", settings.comparison)):
        if file is None:
            continue
        if file.is_dir():
            raise SettingsError(f"--{flag} {file}: a folder; give the name of a file")
        if plan.has(file):
            raise SettingsError(f"--{flag} {file}: this job reads or writes that file; choose another name")
        if file.exists() and not (settings.skip_existing or settings.overwrite):
            raise SettingsError(
                f"--{flag} {file}: exists; --skip-existing resumes after an interruption, --overwrite replaces it and "
                "all results; or choose another name"
            )


def _open_refiner(
    settings: RefineConfig, model: "RefinerModel", plan: "Plan", ranks: Ranks
) -> tuple["ImageRefiner", tuple[int, int] | None, int]:
    """Return the refiner, the size (H, W) of the first image, which fits it, and the number of processes to start."""
    import torch

    from simgan_cli.engine.refining.image_refiner import ImageRefiner
    from simgan_cli.engine.refining.job import check_first_image
    from simgan_cli.engine.refining.processes import processes_for
    from simgan_cli.engine.refining.record import record_of
    from simgan_cli.engine.runtime.device import prepare_process, resolve_device

    device = resolve_device(model.device if settings.device == "auto" else settings.device, ranks)
    prepare_process(device, deterministic=False)
    size, processes = check_first_image(plan, model, settings), 1
    # torchrun has started a process for each part, and ONNX Runtime's threads do not outlive a fork.
    if device.type == "cpu" and ranks.count == 1 and model.backend == "torch":
        cores = torch.get_num_threads()
        processes = processes_for(plan, cores, size)
        torch.set_num_threads(cores // processes)
    refiner = ImageRefiner(
        model,
        device,
        precision=settings.precision,
        batch_size=settings.batch_size,
        tile=settings.tile,
        strength=settings.strength,
        match=settings.match,
        augment=settings.augment,
        seed=settings.seed,
    )
    record_of(settings, refiner)  # here, so that a dry run fails, too, where results would mix
    return refiner, size, processes


def _run(
    settings: RefineConfig,
    plan: "Plan",
    refiner: "ImageRefiner",
    stop: StopRequest,
    ranks: Ranks,
    processes: int,
    *,
    quiet: bool,
    json: bool,
) -> "Report":
    from simgan_cli.engine.refining.job import RefineJob, draw_comparison
    from simgan_cli.engine.refining.manifest import open_manifest
    from simgan_cli.engine.refining.outcome import Report
    from simgan_cli.engine.refining.processes import ParallelJob
    from simgan_cli.engine.refining.record import complete_record

    progress = ProgressLine(LOG_EVERY, quiet=quiet)
    with ranks.connected(), open_manifest(settings, plan) as manifest:
        listener = _Listener(progress)
        common = settings, plan, refiner, listener, stop, manifest
        # Forked before the bar has its thread.
        job = RefineJob(*common) if processes == 1 else ParallelJob(processes, *common)
        try:
            with progress:
                mine = job.run()
            report = Report.total(ranks.gather_objects(mine))
            if ranks.is_first and settings.shard is None and not report.stopped and not report.failed:
                complete_record(settings, refiner)
            if ranks.is_first and settings.comparison is not None:
                shard = replace(plan, part=settings.part)  # also what other ranks have refined
                draw_comparison(settings.comparison, shard, listener.warning)
        except Interrupted:
            if json:
                print_json(_document(job.report, refiner.model, "stopped"))
            raise
    if json:
        print_json(_document(report, refiner.model, "stopped" if report.stopped else "finished"))
    return report


class _Listener:
    """Shows progress, and the first MAX_WARNINGS warnings."""

    def __init__(self, progress: ProgressLine) -> None:
        self._progress = progress
        self._warnings = 0

    def advanced(self, done: int, total: int) -> None:
        self._progress.update("refining", "images", done, total)

    def warning(self, text: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            echo_err(f"warning: {text}", "yellow")
        if self._warnings == MAX_WARNINGS:
            echo_err("warning: further ones are only counted; --json and --manifest list every failed image", "yellow")


def _about(model: "RefinerModel", plan: "Plan", settings: RefineConfig) -> str:
    """Return lines that name the model, the inputs and the output."""
    size = f", trained at {model.trained_size[0]}x{model.trained_size[1]}" if model.trained_size else ""
    step = f"step {model.step:,}" if model.step is not None else "of unknown step"
    shape = ", ".join(f"{name} {value}" for name, value in model.network.settings.items())
    inputs = ", ".join(str(source.place) for source in plan.sources)
    others = sum(1 for _ in chain(plan.other_tasks(), plan.packed_other_tasks())) if settings.copy_others else 0
    looks = f" ({plan.copies:,} looks of each)" if plan.copies > 1 else ""
    part = f" (part {plan.part[0] + 1} of {plan.part[1]})" if plan.part[1] > 1 else ""
    return (
        f"model: {model.weights}, {step}{size}, preprocess {model.preprocess}\n"
        f"       {shape}\n"
        f"       sha256 {model.sha256}\n"
        f"{plural(plan.images, 'image')}{looks} and {plural(others, 'other file')}{part} of {inputs} -> {settings.out}"
    )


def _warnings(plan: "Plan", settings: RefineConfig, model: "RefinerModel", size: tuple[int, int] | None) -> list[str]:
    """Return warnings about this plan; `size` (H, W) is that of the first image."""
    from simgan_cli.engine.refining.job import look_by

    warnings = [warning for source in plan.sources for warning in source.selection.warnings(settings.pixels or "plain")]
    if foreign := plan.foreign_images():
        warnings.append(foreign_note(foreign, "carried along unrefined" if settings.copy_others else "left out"))
    has_one_look = not model.network.settings["noise"] and settings.match == "off" and not settings.augment
    if settings.look_by != "image" and has_one_look:
        warnings.append(f"--look-by {settings.look_by}: all images have one look without noise and --match")
    if settings.format != "same" and any(True for _ in chain(plan.other_tasks(), plan.packed_other_tasks())):
        warnings.append(f"--format {settings.format} may change suffixes; label files that name images do not follow")
    if settings.look_by not in ("image", "folder") and not any(map(look_by(settings.look_by), plan.image_tasks())):
        warnings.append(f"--look-by {settings.look_by!r} matches no image: each has a look of its own")
    trained = model.trained_size
    if size and trained and not 1 / MAX_SCALE_RATIO < math.hypot(*size) / math.hypot(*trained) < MAX_SCALE_RATIO:
        warnings.append(
            f"the first image is {size[0]}x{size[1]}, and the refiner was trained at {trained[0]}x{trained[1]}: if "
            "its content differs in size, too, resize the images, or train at their size"
        )
    return warnings


def _list(plan: "Plan", settings: RefineConfig, model: "RefinerModel", *, json: bool) -> None:
    """Write each input and its output to stdout."""

    def listed(tasks: Iterable["RefineTask"]) -> list[tuple[str, str]]:
        """Return inputs and outputs without files that would be skipped; archives are not read for their members."""
        left = (task for task in tasks if not (settings.skip_existing and not task.archive and task.output.exists()))
        return [(str(task.source), str(task.output)) for task in left]

    images = listed(task for task in plan.result_tasks() if task.odd is None)
    odd = (task for task in plan.image_tasks() if task.odd is not None)
    carried = chain(plan.other_tasks(), plan.packed_other_tasks(), odd)
    others = listed(carried) if settings.copy_others else []
    if json:
        document: RefinePlanDocument = {
            "schema": "simgan.refine.dry-run/1",
            "images": len(images),
            "labels": len(others),
            "model_sha256": model.sha256,
            "refine": images,
            "carry": others,
        }
        print_json(document)
        return
    for verb, pairs in (("refine", images), ("copy", others)):
        for source, output in pairs:
            line = strip_control(f"{verb} {source} -> {output}").replace("\n", "\\n")  # a name may hold a newline
            sys.stdout.write(line + "\n")


def _document(report: "Report", model: "RefinerModel", status: JobStatus) -> RefineDocument:
    drift: Drift | None = None
    if report.shifts:
        drift = {"mean": report.mean_drift, "p95": report.p95_drift, "images": len(report.shifts)}
    return {
        "schema": "simgan.refine/1",
        "status": status,
        "images": report.images,
        "refined": report.counts["refined"],
        "unchanged": report.counts["unchanged"],
        "looked_like_labels": len(report.odd),
        "skipped": report.counts["skipped"],
        "failed": report.failed,
        "labels": report.labels,
        "lost": dict(report.lost),
        "sidecars": dict(report.sidecars),
        "outdated": sorted(report.outdated),
        "drift_pixels": drift,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 1),
        "limit": report.limit,
        "time": {name: round(share, 3) for name, share in report.shares.items()},
        "model_sha256": model.sha256,
    }


def _summarize(report: "Report", settings: RefineConfig) -> None:
    from simgan_cli.engine.refining.image_file import QUALITY

    counts = report.counts
    echo_err(
        f"refined {counts['refined']:,} of {plural(report.images, 'image')} in {report.seconds:.1f} s "
        f"({report.images_per_second:.1f} images/s), unchanged {counts['unchanged']:,}, skipped {counts['skipped']:,}, "
        f"failed {len(report.failed):,}; carried {plural(report.labels, 'other file')} along"
    )
    if report.limit:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in report.shares.items())
        waiting = " (for disks, or for cores that other programs use)" if report.limit == "waiting" else ""
        echo_err(
            f"limit: {report.limit}{waiting}, at {report.images_per_second:.1f} images/s; CPU time went to: {shares}; "
            f"cores were {min(1, report.busy):.0%} busy"
        )
    if report.lossy:
        echo_err(f"{plural(report.lossy, 'lossy result')} (quality {QUALITY}), like the input or by --format")
    for what, count in report.converted.items():
        echo_err(f"{plural(count, f'{what} image')} became plain grey or colour")
    if report.lost:
        echo_err(f"lost from files: {_counted(report.lost)}")
    if settings.comparison is not None:
        echo_err(f"before and after: {settings.comparison}")
    if report.shifts:
        echo_err(
            f"drift of content: mean {report.mean_drift:.3f} px, 95th percentile {report.p95_drift:.3f} px "
            f"over {plural(len(report.shifts), 'image')}"
        )
    if report.failed:
        echo_err(
            f"{plural(len(report.failed), 'file')} failed; fix what the warnings name, and {settings.resume_hint}",
            "yellow",
        )
    if report.stopped:
        echo_err(f"stopped ({report.stopped}); to resume, {settings.resume_hint}")


def _warn_of_results(report: "Report", settings: RefineConfig, model: "RefinerModel") -> None:
    """Print warnings about the results, also when quiet."""
    warnings = []
    refined = report.counts["refined"]
    if report.through_network and (not refined or (settings.strength and not report.has_changed)):
        concluded = f"; its training concluded: {model.conclusion}" if model.conclusion else ""
        warnings.append(
            f"{report.through_network:,} of {plural(report.images, 'image')} came out "
            f"{'as without the refiner' if refined else 'unchanged'}: this refiner does nothing at this scale "
            f"and --strength {settings.strength:g}{concluded}"
        )
    if report.odd:
        warnings.append(odd_note(report.odd, "carried along unrefined" if settings.copy_others else "left out"))
    if report.sidecars:
        warnings.append(
            f"copied files describe renders before refining: {_counted(report.sidecars)}; make them again from the "
            "refined images if you use them"
        )
    if report.outdated:
        warnings.append(
            f"files that name images were copied as they are ({len(report.outdated):,}, such as "
            f"{min(report.outdated)}), and --copies gave images other names; change them, or use labels.csv"
        )
    if report.shifts and max(report.mean_drift, report.p95_drift) > MAX_DRIFT_PIXELS:
        warnings.append(
            f"content moved by more than {MAX_DRIFT_PIXELS:g} px (95th percentile {report.p95_drift:.1f}); labels "
            "that name places may be wrong: look at --compare, and train with a higher --lambda"
        )
    for warning in warnings:
        echo_err(f"warning: {warning}", "yellow")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())

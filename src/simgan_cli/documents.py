"""Every JSON document of every command: its fields, their types and meanings. Imports no torch.

mypy checks the documents that commands build against these types. The reference is made from them.
A field that does not apply is null, never absent.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from simgan_cli.data.decoding import PixelCoding, Preprocess
from simgan_cli.data.renders import Curve
from simgan_cli.settings.base import Arithmetic, Globs, PlainBackground, Target
from simgan_cli.settings.eval_gaze import Protocol

JobStatus = Literal["finished", "stopped"]
ImageStatus = Literal["refined", "unchanged", "skipped", "carried", "left out", "failed"]
Quantile = Literal["min", "median", "p90", "max"]
Kind = Literal["real", "refined"]
Choice = Literal[Kind, "left", "right"]
ExportFormat = Literal["onnx", "pt2"]
Unit = Literal["deg", "px"]
Interval = Annotated[list[float], "95% interval, [low, high]"]
Precision = Annotated[Arithmetic, "arithmetic of the network"]
Device = Annotated[str, "device of the training"]
ModelHash = Annotated[str, "SHA-256 of the model's weights file"]
Step = Annotated[int, "finished steps, pretraining included"]
Run = Annotated[str, "the run folder"]
Seconds = Annotated[float, "time of this process"]


# fmt: off
class ErrorDocument(TypedDict):
    """Written instead of a command's own document when an error ends it.

    `refine` with failed images (exit code 3) and `doctor` with a failed check write their own documents.
    """

    schema: Literal["simgan.error/1"]
    exit_code: Annotated[int, "[what to do](exit-codes.md): 2 for wrong settings, 4 for bad data, 1 for other failures"]
    message: Annotated[str, "the problems, a line each"]
    problems: Annotated[list[str], "every wrong setting, or the one error"]


class HealthVerdict(TypedDict):
    """A [rule of health](health.md) that fired."""

    rule: Annotated[str, "its name"]
    step: Annotated[int, "at which it fired"]
    saw: Annotated[str, "what it found"]
    advice: Annotated[str, "what to change"]
    active: Annotated[bool, "whether it still holds"]


class TrainConclusion(TypedDict):
    """Whether refining brought the domains closer."""

    closer: Annotated[bool, "whether the domains came closer with labels in place"]
    sentence: Annotated[str, "the same in words"]
    advice: Annotated[str, "what to do next"]


class TrainDocument(TypedDict):
    """Written by `simgan train --json`."""

    schema: Literal["simgan.train/1"]
    run: Run
    status: Annotated[JobStatus, "how this process ended"]
    step: Step
    seconds: Seconds
    metrics: Annotated[dict[str, Any], "the last line of `metrics.jsonl`: its [fields](metrics.md)"]
    health: Annotated[list[HealthVerdict], "rules that fired, in order"]
    exported: Annotated[dict[str, Any] | None, "the line of metrics of the exported refiner (`--select`), with its two-sample test once finished; null without measurements"]
    conclusion: Annotated[TrainConclusion | None, "null without measurements"]


class FoundImages(TypedDict):
    """Images of a domain."""

    files: Annotated[int, "their number"]
    first: Annotated[str, "the first image, in words"]
    unusable: Annotated[list[str], "path and reason of each file that cannot be read"]
    notes: Annotated[list[str], "images left out, patterns without a match"]


class FoundNetwork(TypedDict):
    """A network that would be trained."""

    parameters: Annotated[int, "their number"]
    receptive_field: Annotated[int, "its side in pixels"]
    map: Annotated[list[int], "rows and columns of the output"]
    layers: Annotated[list[tuple[str, list[int], int]], "name, output shape and parameters of each layer"]


class TrainPlanDocument(TypedDict):
    """Written by `simgan train --dry-run --json`."""

    schema: Literal["simgan.train.dry-run/1"]
    data: Annotated[dict[str, FoundImages], "`synthetic` and `real`"]
    networks: Annotated[dict[str, FoundNetwork], "`refiner` and `discriminator`"]
    labels: Annotated[list[str], "the labels of the renders, or why they are not used"]
    learning_rates: Annotated[str | None, "the rates from a recipe's `NUMBERxpatches`, in a sentence"]
    device: Device
    precision: Precision


class NewestCheckpoint(TypedDict):
    """The newest checkpoint of a run."""

    path: Annotated[str, "its folder"]
    step: Annotated[int, "at which it was written"]
    age_seconds: Annotated[float, "time since then"]


class StatusDocument(TypedDict):
    """Written by `simgan status --json`."""

    schema: Literal["simgan.status/1"]
    run: Run
    training: Annotated[bool | None, "whether a process trains it now; null if the file system has no locks"]
    step: Step
    total_steps: Annotated[int, "steps of the complete run"]
    eta_seconds: Annotated[float | None, "remaining time at the last rate; null before the first rate, 0 at the end"]
    checkpoint: Annotated[NewestCheckpoint | None, "the newest one"]
    health: Annotated[list[HealthVerdict], "rules that fired, in order"]


class Failure(TypedDict):
    """A file that failed."""

    path: Annotated[str, "the file"]
    reason: Annotated[str, "why it failed"]


class Shift(TypedDict):
    """How far content moved, in pixels."""

    mean: Annotated[float, "over images"]
    p95: Annotated[float, "95th percentile over images"]


class Drift(Shift):
    """How far content of a job moved."""

    images: Annotated[int, "that were measured"]


class RefineDocument(TypedDict):
    """Written by `simgan refine --json`."""

    schema: Literal["simgan.refine/1"]
    status: Annotated[JobStatus, "how the job ended"]
    images: Annotated[int, "images of this job or part; with `--copies` each look counts, an unreadable image once"]
    refined: Annotated[int, "images that changed"]
    unchanged: Annotated[int, "images that came out as they went in"]
    looked_like_labels: Annotated[int, "images carried along because they [look like labels](../guides/own-data.md#without-patterns)"]
    skipped: Annotated[int, "images whose results existed"]
    failed: Annotated[list[Failure], "files that could not be refined or carried along"]
    labels: Annotated[int, "other files carried along, members of archives too"]
    lost: Annotated[dict[str, int], "[what results lack](../guides/refine.md#what-an-image-keeps) of their sources: number of images"]
    sidecars: Annotated[dict[str, int], "files carried along that [hold pixels of renders](../guides/refine.md#files-that-hold-pixels), or their checksums: number by kind"]
    outdated: Annotated[list[str], "with `--copies`: files carried along that [name images](../guides/refine.md#several-looks) by their old names"]
    drift_pixels: Annotated[Drift | None, "with `--check-labels`: how far content moved"]
    seconds: Annotated[float, "time of the job"]
    images_per_second: Annotated[float, "its rate"]
    limit: Annotated[str | None, "the largest part of `time`, or `waiting` if the cores were idle for more than half of the job; null if nothing was refined"]
    time: Annotated[dict[str, float], "shares of the CPU time of all threads: `network`, `decoding`, `encoding`, `noise`, `matching`, `files` and `other`"]
    model_sha256: ModelHash


class RefinePlanDocument(TypedDict):
    """Written by `simgan refine --dry-run --json`."""

    schema: Literal["simgan.refine.dry-run/1"]
    images: Annotated[int, "images that would be refined; members of archives count even if `--skip-existing` keeps them"]
    labels: Annotated[int, "other files that would be carried along"]
    model_sha256: ModelHash
    refine: Annotated[list[tuple[str, str]], "each image and its result"]
    carry: Annotated[list[tuple[str, str]], "each other file and its copy"]


class ManifestLine(TypedDict):
    """A line of `simgan refine --manifest FILE.jsonl`.

    One line for each image, with `--copies` for each look, in the order of completion. `carried` is an image that looks
    like a label, `left out` the same with `--no-copy-others`. Other files have no line.
    """

    source: Annotated[str, "the image"]
    output: Annotated[str | None, "its result; null if the image could not be opened"]
    status: Annotated[ImageStatus, "what became of it"]
    source_sha256: Annotated[str | None, "of the image; null where `failed`"]
    output_sha256: Annotated[str | None, "of the result; the same where `unchanged` or `carried`, null where `failed`"]
    model_sha256: ModelHash
    reason: Annotated[str | None, "why it failed, or why it was carried"]


class Port(TypedDict):
    """An input or the output of an exported file."""

    type: Annotated[str, "of its numbers"]
    shape: Annotated[str, "its axes"]
    meaning: Annotated[str, "of its numbers, in words"]


class ExportCheck(TypedDict):
    """The comparison of an exported file with the refiner."""

    source: Annotated[str, "of the compared images"]
    images: Annotated[int, "their number"]
    largest_difference: Annotated[float, "in grey levels of 255"]


class ExportDocument(TypedDict):
    """Written by `simgan export --json`."""

    schema: Literal["simgan.export/1"]
    file: Annotated[str, "that was written"]
    format: Annotated[ExportFormat, "of the file"]
    sha256: Annotated[str, "of the file"]
    opset: Annotated[int | None, "of ONNX; null for `pt2`"]
    step: Annotated[int | None, "of the training; null where unknown"]
    model_sha256: ModelHash
    interface: Annotated[dict[str, Port], "each input and the output"]
    check: Annotated[ExportCheck, "the comparison with the refiner"]


class PushDocument(TypedDict):
    """Written by `simgan push --json`."""

    schema: Literal["simgan.push/1"]
    repository: Annotated[str, "the model repository"]
    commit: Annotated[str, "that the upload made"]
    url: Annotated[str, "of the commit"]
    address: Annotated[str, "argument for `--model`, with the commit"]
    files: Annotated[dict[str, str], "SHA-256 of each file"]


class Draws(TypedDict):
    """How often images were drawn."""

    mean: Annotated[float, "over images"]
    max: Annotated[int, "over images"]


class BufferDocument(TypedDict):
    """Written by `simgan inspect-buffer --json`."""

    schema: Literal["simgan.inspect-buffer/1"]
    run: Run
    step: Annotated[int, "of the checkpoint"]
    capacity: Annotated[int, "images that the buffer holds when full"]
    filled: Annotated[int, "images in it"]
    refiner_updates: Annotated[int, "updates of the refiner until then"]
    ages: Annotated[dict[Quantile, float] | None, "steps since an image was made; null for an empty buffer"]
    expected_ages: Annotated[dict[Quantile, float] | None, "the same under uniform random replacement"]
    draws: Annotated[Draws | None, "how often an image was shown to the discriminator"]
    history_share: Annotated[float, "share of the discriminator's refined images that come from history"]
    memory_mb: Annotated[float, "memory of the full buffer"]
    score: Annotated[dict[str, float] | None, "with `--score`: the discriminator's mean probability of *refined*, by range of ages"]
    verdicts: Annotated[list[str], "each problem in words, or that there is none"]


class TestImages(TypedDict):
    """The labelled real images of the test."""

    images: Annotated[int, "their number"]
    persons: Annotated[int | None, "in them; null where unknown"]
    source: Annotated[str, "their place"]


class EvalGazeInputs(TypedDict):
    """The inputs of an evaluation."""

    target: Annotated[Target, "what is estimated"]
    unit: Annotated[Unit, "of all errors"]
    points: Annotated[list[str], "names of the points, in order; empty for `gaze` and `pupil`"]
    protocol: Annotated[Protocol, "as `--protocol`"]
    test: Annotated[TestImages, "the labelled real images"]
    train: Annotated[dict[str, str], "contents of each training set, in words"]
    warnings: Annotated[list[str], "what a person should check"]
    settings: Annotated[dict[str, Any], "the resolved settings"]


class EvaluationVerdict(TypedDict):
    """Which set to train on, by the first estimator."""

    train_on: Annotated[str | None, "the set's name; null if it is not significantly better than guessing"]
    estimator: Annotated[str, "of the compared rows"]
    refining_helps: Annotated[bool | None, "whether a refined set is the best; null without one"]
    sentence: Annotated[str, "both in words"]


class ContentOverlap(TypedDict):
    """The overlap of the label distributions of photographs and renders."""

    name: Annotated[str, "the first estimator's best set without labels of the target; its estimators predict"]
    overlap: Annotated[float, "of labels predicted for the photographs and for held-out images of that set: 0 to 1, mean over seeds"]
    ci95: Annotated[Interval, "its 95% interval over images"]
    differs: Annotated[bool, "whether the interval ends below 0.8; if so, weighted rows are added"]
    sentence: Annotated[str, "the same in words"]


class Difference(TypedDict):
    """How two rows differ."""

    difference: Annotated[float, "mean error of this row, or the pair's second, minus that of the other"]
    ci95: Interval
    verdict: Annotated[Literal["helps", "no significant difference", "hurts"], "what it means"]


class Comparison(Difference):
    """Two rows of one estimator."""

    pair: Annotated[list[str], "names of the two rows"]
    estimator: Annotated[str, "of both"]


class ToBestFree(Difference):
    """A row against the best free row."""

    name: Annotated[str, "of the best free row"]


class GapClosed(TypedDict):
    """The share of the gap to the oracle that a row closes."""

    share: Annotated[float, "closed share of the gap from the first row to the oracle"]
    ci95: Interval


class Worth(TypedDict):
    """The worth of a row in labelled photographs."""

    photographs: Annotated[float, "number of labelled photographs that give this error, clipped to the ends of the learning curve"]
    ci95: Interval
    sentence: Annotated[str, "the same in words"]


class PointErrors(TypedDict):
    """Errors of a point."""

    mean: Annotated[float, "over images that have it"]
    within: Annotated[dict[str, float], "the share of errors up to each limit"]


class ErrorSummary(TypedDict):
    """Errors of a row."""

    name: Annotated[str, "the training set"]
    estimator: Annotated[str, "the estimator; `mean` is the constant guess"]
    images: Annotated[int, "training images; 0 for a loaded estimator"]
    effective_images: Annotated[float | None, "of a weighted row: the effective sample size (Kish), mean over seeds"]
    unmatched: Annotated[float | None, "of a weighted row: the share of photographs with predicted labels where the set has none"]
    mean: Annotated[float, "mean error over test images and seeds; an image's error is the mean over its known points"]
    ci95: Annotated[Interval, "95% interval of `mean`"]
    median: Annotated[float, "of these errors"]
    sd: Annotated[float, "their standard deviation"]
    p95: Annotated[float, "their 95th percentile"]
    within: Annotated[dict[str, float], "share of errors up to each limit; with `--target points`, errors of single points"]
    seeds: Annotated[int, "number of trainings; 1 if nothing is random, as with `knn`"]
    seed_means: Annotated[list[float], "the mean error of each training"]
    seed_sd: Annotated[float | None, "their standard deviation; null for one"]
    persons: Annotated[dict[str, float] | None, "mean error by person; null if persons are unknown"]
    points: Annotated[dict[str, PointErrors | None] | None, "with `--target points`: errors by point; null for a point that no test image has"]


class Row(ErrorSummary):
    """A training set and an estimator."""

    to_best_free: Annotated[ToBestFree | None, "against the best row that needs neither a refiner nor labels of the target; null for that row and for guesses"]
    gap_closed: Annotated[GapClosed | None, "with `--real-train`; null for the first row, the oracle and guesses"]
    worth: Annotated[Worth | None, "with `--worth`; null for rows of photographs alone, and for loaded estimators other than `--estimator`"]


class EstimateShift(TypedDict):
    """How far an estimator's predictions moved."""

    mean: Annotated[float, "over images"]
    sd: Annotated[float, "standard deviation over images"]


class Preservation(TypedDict):
    """How far refining moved content and predictions."""

    images: Annotated[int, "number of compared images, from the first `--train`"]
    content_shift_px: Annotated[Shift, "how far content moved, in pixels"]
    estimate_shift: Annotated[EstimateShift | None, "how far predictions moved, in `unit`, by an estimator of the first `--train`; null if only `knn` was asked for"]


class EvalGazeDocument(EvalGazeInputs):
    """Written by `simgan eval-gaze --json`; also `results.json`."""

    schema: Literal["simgan.eval-gaze/1"]
    verdict: Annotated[EvaluationVerdict | None, "which set to train on; null without a set to choose"]
    content: Annotated[ContentOverlap | None, "with `--photos` or `--reweight-to`: the overlap of label distributions"]
    rows: Annotated[list[Row], "one for each set and estimator"]
    comparison: Annotated[Comparison | None, "the first estimator's main pair: refined against synthetic, else its first two sets"]
    comparisons: Annotated[list[Comparison], "by estimator: the first row with each other, the first weighted row with each other reweighted one, the best baseline with the refined row"]
    preservation: Annotated[Preservation | None, "with `--model`: how far refining moved content and estimates"]


class EvalGazePlanDocument(EvalGazeInputs):
    """Written by `simgan eval-gaze --dry-run --json`."""

    schema: Literal["simgan.eval-gaze.dry-run/1"]
    device: Device
    precision: Precision


class ShownImage(TypedDict):
    """An image of a page."""

    kind: Annotated[Kind, "what it is"]
    file: Annotated[str, "the photograph, or the render"]


class TuringPageDocument(TypedDict):
    """Written by `simgan turing-test --json`."""

    schema: Literal["simgan.turing-test.page/1"]
    page: Annotated[str, "the page's id, which answers repeat"]
    out: Annotated[str, "the page"]
    pairs: Annotated[bool, "whether it shows pairs"]
    images: Annotated[list[ShownImage], "in the order of the page's image numbers"]


class Trial(BaseModel):
    """One answer."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    images: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=2), "one number, or two from left to right"]
    answer: Annotated[Choice, "`real` or `refined`; of a pair `left` or `right`, the one taken for refined"]
    correct: Annotated[bool, "whether it is right"]
    milliseconds: Annotated[int, Field(ge=0), "until the answer"]


class Answers(BaseModel):
    """All answers of one person to one page, as the page saves them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    schema_name: Literal["simgan.turing-test/1"] = Field(alias="schema")
    page: Annotated[str, Field(pattern="^[0-9a-f]{32}$"), "the page's id"]
    pairs: Annotated[bool, "whether it showed pairs"]
    subject: Annotated[str | None, "the person's name"]
    trials: Annotated[list[Trial], Field(min_length=1), "in the order shown"]


class TuringScore(TypedDict):
    """The score of answers."""

    trials: Annotated[int, "answers"]
    correct: Annotated[int, "right answers"]
    accuracy: Annotated[float, "share of right answers"]
    ci95: Annotated[Interval, "its 95% interval (Wilson)"]
    p: Annotated[float, "probability that guessing gives as many right answers or more (one-sided binomial)"]
    table: Annotated[dict[Choice, dict[Choice, int]], "counts by truth, then by answer"]


class PersonScore(TuringScore):
    """The score of one person."""

    file: Annotated[str, "of the answers"]
    subject: Annotated[str | None, "the person's name"]


class PageScore(TypedDict):
    """The scores of a page."""

    page: Annotated[str, "its id"]
    pairs: Annotated[bool, "whether it showed pairs"]
    persons: Annotated[list[PersonScore], "score of each"]
    all: Annotated[TuringScore, "score of all"]


class TuringScoreDocument(TypedDict):
    """Written by `simgan turing-test --score --json`."""

    schema: Literal["simgan.turing-test.score/1"]
    pages: Annotated[list[PageScore], "each page that was answered"]


class CacheFolder(TypedDict):
    """The pixel cache."""

    folder: Annotated[str, "its path"]
    bytes: Annotated[int, "its size"]


class Check(TypedDict):
    """One part of the self-test."""

    name: Annotated[str, "of the part"]
    ok: Annotated[bool, "whether it passed"]
    found: Annotated[str, "the result in a line"]
    seconds: Annotated[float, "its time"]


class DoctorDocument(TypedDict):
    """Written by `simgan doctor --json`."""

    schema: Literal["simgan.doctor/1"]
    versions: Annotated[dict[str, str | None], "of simgan, Python and packages; null for an extra that is not installed"]
    platform: Annotated[str, "operating system and processor"]
    device: Annotated[str, "that `--device` selects here"]
    device_name: Annotated[str, "the GPU's name, or the kind of processor"]
    precision: Annotated[Precision, "that `--precision auto` selects on it"]
    precision_reason: Annotated[str, "why, in words"]
    threads: Annotated[int, "of the network's arithmetic"]
    cores: Annotated[int | None, "that this process may use; null where unknown"]
    cache: Annotated[CacheFolder, "the pixel cache"]
    checks: Annotated[list[Check], "the self-test; it ends at the first that fails"]
    healthy: Annotated[bool, "whether all checks passed"]


class DemoDocument(TypedDict):
    """Written by `simgan demo --json`; with `--dry-run` there is none."""

    schema: Literal["simgan.demo/1"]
    folder: Annotated[str, "of all outputs"]
    simulated: Annotated[Literal[True], "no photograph is among its images"]
    commands: Annotated[list[str], "the commands that it runs"]
    verdict: Annotated[EvaluationVerdict | None, "which set to train on"]
    rows: Annotated[list[Row], "of the table of gaze errors"]
    comparison: Annotated[Comparison | None, "refined against synthetic"]
    files: Annotated[list[str], "files to look at"]
    seconds: Seconds


class DemoDataDocument(TypedDict):
    """Written by `simgan demo-data --json`."""

    schema: Literal["simgan.demo-data/1"]
    folder: Annotated[str, "of the images"]
    images: Annotated[dict[Literal["synthetic", "camera/train", "camera/test"], int], "their numbers"]
    seconds: Annotated[float | None, "time of drawing; null if skipped"]
    status: Annotated[Literal["finished", "skipped"], "`skipped` if the images existed"]


class NetworkConfig(TypedDict):
    """`config.json` of a trained network.

    That of an exported refiner, `run/refiner/config.json`, also has the fields of [RefinerConfig](#refinerconfig).
    """

    schema: Literal["simgan.network/1"]
    simgan: Annotated[str, "version that wrote it"]
    network: Annotated[str, "`refiner`, `discriminator` or `estimator`"]
    settings: Annotated[dict[str, Any], "its layers"]


class ExportedConfig(BaseModel):
    """The facts about images in a config.json, by the names of `RefinerModel`."""

    trained_size: Annotated[tuple[int, int] | None, "rows and columns of the training images"] = Field(None, alias="size")
    preprocess: Annotated[Preprocess, "histogram equalization"] = "none"
    include: Annotated[Globs, "patterns of the renders' pictures"] = ()
    exclude: Annotated[Globs, "patterns of files that are not pictures"] = ()
    pixels: Annotated[PixelCoding, "how files code pixels"] = "plain"
    background: Annotated[PlainBackground, "`#rrggbb` behind transparent pixels, or `keep`; the photographs' mean colour for `--background real`"] = "#000000"
    tone_curve: Annotated[Curve, "curve from linear pixels to pictures"] = "srgb"
    conclusion: Annotated[str | None, "of the training, in one line"] = None
    equalized: Annotated[bool, "whether the histograms of the photographs are flat"] = False


class RefinerConfig(ExportedConfig):
    """The fields of an exported refiner's `config.json` beside those of [simgan.network/1](#simgannetwork1)."""

    training_images: Annotated[dict[str, int], "their numbers in `synthetic` and `real`"]
    training_settings: Annotated[dict[str, Any], "the resolved settings, without `synthetic`, `real`, `out` and `cache`; of files and folders the name"]


# fmt: on
# Documents of --json, and files of JSON, in the order of the reference.
Document = (
    ErrorDocument
    | TrainDocument
    | TrainPlanDocument
    | StatusDocument
    | RefineDocument
    | RefinePlanDocument
    | ExportDocument
    | PushDocument
    | BufferDocument
    | EvalGazeDocument
    | EvalGazePlanDocument
    | TuringPageDocument
    | TuringScoreDocument
    | DoctorDocument
    | DemoDocument
    | DemoDataDocument
)
FILES = (ManifestLine, Answers, NetworkConfig, RefinerConfig)

# Metadata of an exported ONNX file; `simgan.json` in a .pt2 has the first three, and `interface` as simgan.export/1.
EXPORT_METADATA = {
    "simgan.config": "`config.json` of the refiner, without `training_images` and `training_settings`",
    "simgan.step": "of the training; absent or null where unknown",
    "simgan.weights_sha256": "of the weights that the file was made from",
    "simgan.tones": "of photographs, for `--match`: `tones.safetensors` in base64, in ONNX only",
    "model_card": "`README.md` of the refiner",
}

# Columns of predictions.csv: those of any target, then the true and the predicted label, and last `error_UNIT`.
PREDICTION_COLUMNS = {
    "row": "name and estimator of the row, as `refined/cnn`",
    "seed": "of the training; the first if only one is trained",
    "file": "the test image",
    "person": "in the image; empty if unknown",
}
LABEL_COLUMNS: dict[Target, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "gaze": (
        ("gx", "gy", "gz"),
        ("px", "py", "pz"),
        "unit vectors (x right, y down, z away from the camera), and the angle between them",
    ),
    "pupil": (("x", "y"), ("px", "py"), "centres, and their distance"),
    "points": (
        ("NAME_x", "NAME_y"),
        ("predicted_NAME_x", "predicted_NAME_y"),
        "points (true ones empty if missing), and the mean distance",
    ),
}

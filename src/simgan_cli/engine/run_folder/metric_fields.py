"""The meaning of each field of metrics.jsonl, in one table. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """A field: the lines that have it, and its meaning."""

    lines: str
    meaning: str


_ALL, _REFINER, _DISCRIMINATOR = "every line", "the refiner is trained", "the discriminator is trained"
_LABELLED = "adversarial, and renders have labels"
_ADVERSARIAL, _EVALUATED, _LAST = "adversarial", "every --eval-every steps", "the last one"

METRICS = {
    "step": Field(_ALL, "finished steps, pretraining included"),
    "phase": Field(_ALL, "pretrain-refiner, pretrain-discriminator or adversarial"),
    "loss_refiner": Field(_REFINER, "L_R (Eq. 4): loss_adversarial + lambda loss_regularization"),
    "loss_adversarial": Field(_ADVERSARIAL, "-log(1 - D(R(x))), mean over images and patches"),
    "loss_regularization": Field(_REFINER, "|psi(R(x)) - psi(x)|, mean over images and features, without lambda"),
    "loss_discriminator": Field(
        _DISCRIMINATOR, "L_D (Eq. 2), mean over images and patches; 2 log 2 = 1.39 is guessing"
    ),
    "loss_task_synthetic": Field(_LABELLED, "squared error on x of the run's estimator"),
    "loss_task_refined": Field(_LABELLED, "the same on R(x); --task-weight times it joins L_R"),
    "loss_task_varied": Field(
        _LABELLED, "the same on R(x), degraded by hand, with the histogram of a random photograph"
    ),
    "change": Field(_REFINER, "|R(x) - x| with pixels in [0, 1], mean over pixels"),
    "accuracy_real": Field(_DISCRIMINATOR, "share of the patches of real images that D calls real"),
    "accuracy_refined": Field(_DISCRIMINATOR, "share of the patches of currently refined images that D calls refined"),
    "accuracy_history": Field(_ADVERSARIAL, "the same for images from history; absent while there are none"),
    "correlation": Field(
        _ADVERSARIAL, "of R(x) with x, mean over images; 1 is a change of brightness and contrast alone"
    ),
    "diversity": Field(
        _ADVERSARIAL, "difference between refined images over that between their originals, tone aside, under one noise"
    ),
    "common_change": Field(
        _ADVERSARIAL, "share of the change that is the same on every image, tone aside; 1 is same change everywhere"
    ),
    "saturated": Field(_ADVERSARIAL, "share of black and white pixels above that of synthetic and of real images"),
    "gradient_ratio": Field(_ADVERSARIAL, "norm of self-regularization's gradient over that of the adversarial loss"),
    "lambda": Field(_ADVERSARIAL, "weight of self-regularization from here on; only --lambda auto changes it"),
    "swd_synthetic": Field(_EVALUATED, "sliced Wasserstein distance of patches, synthetic to real: before"),
    "swd_refined": Field(_EVALUATED, "the same, refined to real: after"),
    "swd_real": Field(_EVALUATED, "the same between two samples of real images: the floor"),
    "diversity_held_out": Field(_EVALUATED, "diversity of the refiner to export, on held-out images"),
    "label_drift": Field(_EVALUATED, "pixels by which refining moves image content, mean over images"),
    "label_error_synthetic": Field(
        _EVALUATED, "error of the run's estimator on held-out renders, in degrees or pixels"
    ),
    "label_error_refined": Field(_EVALUATED, "the same after refining: larger where refining hides labelled content"),
    "weights_effective": Field(
        "--weights auto has changed them",
        "renders that count in effect under the new weights (Kish), as a share of all",
    ),
    "window": Field(
        _EVALUATED, "share of an image that a refined pixel depends on; at 1 the refiner can repaint content"
    ),
    "two_sample": Field(_LAST, "accuracy of a fresh classifier that separates refined from real; 0.5 is chance"),
    "two_sample_low": Field(_LAST, "lower end of its 95% interval"),
    "two_sample_high": Field(_LAST, "upper end of it"),
    "images_per_second": Field(_ALL, "mini-batches times batch size, over the time since the last line"),
    "peak_memory_mb": Field(
        _ALL, "peak memory of the process so far, on a GPU that of the device; absent on Windows without one"
    ),
    "health": Field("a rule holds", "names of the rules that have fired and still hold"),
}

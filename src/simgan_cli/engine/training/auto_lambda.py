"""--lambda auto: a lambda that follows from measurements of the training, never from a label.

A good lambda keeps labels in place and leaves the refiner free to change looks. Its number depends on the scale of psi
and on the discriminator's gradient, which grows as it learns. The ratio of the two gradients and the shift of labels
can be compared between runs. Between the bounds lambda stays.
"""

from simgan_cli.engine.run_folder.health import MAX_DRIFT_PIXELS
from simgan_cli.settings.train import LAMBDA_START

MIN_LAMBDA, MAX_LAMBDA = LAMBDA_START / 64, LAMBDA_START * 64
FACTOR = 2.0  # at each measurement; a smaller one is too slow to leave a bad start within a training
# On three pairs of domains the fixed default had a ratio of 0.02 to 0.23, mostly 0.05 to 0.12, and labels within
# 0.2 px. Psi that let labels move by 0.3 px and more had 0.01 to 0.03; ten times the lambda, which slows refining, had
# 0.4 to 0.5 (benchmarks/results/ablations.jsonl).
MIN_GRADIENT_RATIO, MAX_GRADIENT_RATIO = 0.05, 0.2


def next_lambda(lambda_reg: float, gradient_ratio: float, drift: float) -> float:
    """Return the next lambda, from the measured `gradient_ratio` and the `drift` of labels in pixels.

    Doubled where labels moved by more than half of MAX_DRIFT_PIXELS or the ratio is small. Halved where the ratio is
    large and labels moved by less than a quarter of it.
    """
    if drift > MAX_DRIFT_PIXELS / 2 or gradient_ratio < MIN_GRADIENT_RATIO:
        return min(MAX_LAMBDA, lambda_reg * FACTOR)
    if drift < MAX_DRIFT_PIXELS / 4 and gradient_ratio > MAX_GRADIENT_RATIO:
        return max(MIN_LAMBDA, lambda_reg / FACTOR)
    return lambda_reg

"""A lambda that looks after itself: set from what training sees on held-out images, never from a label.

A good lambda is the least that keeps labels in place. How far labels moved can be measured, and so can whether refining
brings images closer to real ones at all; between the two there is nothing to choose by, so lambda stays as it is.
"""

from collections.abc import Mapping

from simgan_cli.engine.health import MOST_DRIFT, NOTICEABLE

START = 1.0  # the fixed default
LEAST, MOST = START / 16, START * 16
FACTOR = 2.0  # at each measurement; a smaller one does not get out of a bad start within a training


def adapted(lambda_reg: float, measures: Mapping[str, float]) -> float:
    """Return the lambda to go on with after measuring on held-out images (`Realism.measure`).

    Twice as much where labels moved by half of what is too far, half as much where they stay in place to a quarter of
    it and refined images are no closer to real ones than synthetic ones are.
    """
    drift = measures.get("label_drift", 0.0)
    if drift > MOST_DRIFT / 2:
        return min(MOST, lambda_reg * FACTOR)
    if drift < MOST_DRIFT / 4 and measures["swd_refined"] > NOTICEABLE * measures["swd_synthetic"]:
        return max(LEAST, lambda_reg / FACTOR)
    return lambda_reg

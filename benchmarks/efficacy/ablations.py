"""The paper's ablations on our data: history on and off, local and global, psi, K_g.

    python -m benchmarks.efficacy.ablations --data DATA --work WORK --job camera --seed 0 1 2

The options are those of efficacy.py, which does the work. Each row except `paper` differs from the default in one
setting.
The paper (Shrivastava et al., CVPR 2017) has one such number: 7.8 degrees with history and 12.2 without.
"""

import sys
from collections.abc import Sequence

from benchmarks.efficacy import efficacy

ABLATIONS = (
    "default",
    "noise=false",
    "history-size=0",
    "adversarial=global",
    "psi=identity",
    "psi=derivatives",
    "psi=blur",
    "refiner-updates=1",
    "refiner-updates=5",
    "paper",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run efficacy.py with a recipe for each ablation."""
    recipes = [argument for recipe in ABLATIONS for argument in ("--recipe", recipe)]
    efficacy.main([*recipes, *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    main()

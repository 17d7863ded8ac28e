"""Benchmarks as modules."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # as for a script, whose folder Python adds itself

"""Depth images of hands: cut, scaled to 16 bits, refined with the paper's networks, and back in millimetres.

    python examples/depth_hands.py SYNTHETIC REAL OUT [any option of simgan train, such as --steps 2000]

SYNTHETIC and REAL hold depth images in millimetres as 16-bit PNGs, 0 where nothing was measured. In OUT: `synthetic`
and `real` as they are trained on, `run`, `refined`, and `refined_mm`: the refined hands in millimetres.

The paper sets the background to 0 and subtracts 2000 mm from the hand (Sec. 3.2). Here the points within RANGE of the
nearest one are the hand, and their depth fills the 16 bits. In millimetres a hand of 300 mm would take half a percent
of a 16-bit image's range.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RANGE = 300  # mm from the nearest point to the end of the hand
BACKGROUND = 0
SOME_FAILED = 3  # exit code of `simgan refine`: some images failed, the rest are done
NEAREST = 6554  # a tenth of the range lies between background and hand, so that refining mixes them up nowhere
Depth = NDArray[np.uint16]


def scaled(depth: Depth, nearest: float | None = None) -> tuple[Depth, float]:
    """Return depth in mm as NEAREST to 65535 within the hand and BACKGROUND elsewhere, and its nearest mm.

    By default that is the nearest measured point. Raises ValueError for an image without one.
    """
    if nearest is None:
        measured = depth[depth > 0]
        if not measured.size:
            raise ValueError("no measured point")
        nearest = float(measured.min())
    hand = (depth > 0) & (depth >= nearest) & (depth <= nearest + RANGE)
    levels = NEAREST + (depth - nearest) / RANGE * (65535 - NEAREST)
    return np.where(hand, np.rint(levels), BACKGROUND).astype(np.uint16), nearest


def millimetres(levels: Depth, nearest: float) -> Depth:
    """Return the depth in mm that `scaled` was given, 0 where there is no hand."""
    depth = nearest + (levels.astype(float) - NEAREST) / (65535 - NEAREST) * RANGE
    return np.where(levels >= NEAREST // 2, np.rint(depth), 0).clip(0, 65535).astype(np.uint16)


def convert(source: Path, target: Path) -> dict[str, float]:
    """Write every depth PNG below `source` scaled below `target`; return its nearest mm by relative path."""
    nearest = {}
    for path in sorted(source.rglob("*.png")):
        name = str(path.relative_to(source))
        try:
            levels, nearest[name] = scaled(np.asarray(Image.open(path), dtype=np.uint16))
        except ValueError as error:
            print(f"{path}: {error}; left out", file=sys.stderr)
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(target / name)
    return nearest


def simgan(*arguments: str | Path) -> int:
    """Run simgan and return its exit code; exit with it unless simgan is done or only some images failed."""
    code = subprocess.run([sys.executable, "-m", "simgan_cli", *arguments], check=False).returncode
    if code not in (0, SOME_FAILED):
        sys.exit(code)
    return code


def main() -> None:
    """Convert, train, refine, convert back."""
    synthetic, real, out = map(Path, sys.argv[1:4])
    nearest = convert(synthetic, out / "synthetic")
    convert(real, out / "real")
    # identity, since the offset of an image, which `normalized` leaves free, is distance here.
    settings = ["--preset", "hands", "--psi", "identity", "--resume", "auto", *sys.argv[4:]]
    simgan("train", "--synthetic", out / "synthetic", "--real", out / "real", "--out", out / "run", *settings)
    code = simgan(
        "refine", out / "synthetic", "-m", out / "run", "-o", out / "refined", "--skip-existing", "--check-labels"
    )
    for name, mm in nearest.items():
        if (out / "refined" / name).exists():
            depth = millimetres(np.asarray(Image.open(out / "refined" / name), dtype=np.uint16), mm)
            (out / "refined_mm" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(depth).save(out / "refined_mm" / name)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The examples run, on tiny settings."""

import json
import os
import subprocess
from pathlib import Path

from tests.gaze.helpers import discs, write_mpiigaze, write_unityeyes
from tests.helpers import SIMGAN, write_images

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_script(name: str, *arguments: str | Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a shell script of the examples with this environment's programs, and settings by name."""
    environment = os.environ | {f"SIMGAN_{key.upper()}": value for key, value in settings.items()}
    environment["PATH"] = f"{Path(SIMGAN).parent}:{os.environ['PATH']}"
    command = ["bash", str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_papers_table(tmp_path: Path) -> None:
    renders = write_unityeyes(tmp_path / "UnityEyes", *discs(12, 1))
    write_mpiigaze(tmp_path / "MPIIGaze", {"p00": 4, "p01": 3})
    quick = {
        "steps": "2", "pretrain_discriminator": "1", "batch_size": "4", "refiner_width": "4", "refiner_blocks": "1",
        "sample_every": "0", "cache": "off", "train_steps": "2", "train_batch": "8",
    }  # fmt: skip
    out = tmp_path / "out"
    result = run_script("paper_table.sh", renders, tmp_path / "MPIIGaze", out, settings=quick)
    assert result.returncode == 0, result.stderr
    document = json.loads((out / "table" / "results.json").read_text())
    assert document["test"] == {"images": 14, "persons": 2, "source": str(tmp_path / "MPIIGaze")}
    assert [(row["name"], row["estimator"], row["images"]) for row in document["rows"]][1:] == [
        ("synthetic", "cnn", 12), ("refined", "cnn", 12), ("synthetic", "knn", 12), ("refined", "knn", 12),
    ]  # fmt: skip
    assert (out / "table" / "curve.svg").exists()


def test_torchrun(tmp_path: Path) -> None:
    """The script tells how the training ended, which torchrun does not."""
    domains = [write_images(tmp_path / name, 6, seed) for seed, name in enumerate(("synthetic", "real"))]
    quick = {
        "steps": "2", "pretrain_discriminator": "1", "batch_size": "4", "refiner_width": "4", "refiner_blocks": "1",
        "sample_every": "0", "cache": "off",
    }  # fmt: skip
    result = run_script("torchrun.sh", "2", *domains, tmp_path / "run", "--quiet", settings=quick)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["status"], document["step"]) == ("finished", 3)
    assert (tmp_path / "run" / "refiner" / "model.safetensors").exists()


def test_slurm_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", str(EXAMPLES / "slurm_train.sh")], check=True)

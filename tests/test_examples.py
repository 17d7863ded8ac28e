"""The examples run, on tiny settings."""

import csv
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests.gaze.helpers import discs, write_csv, write_mpiigaze, write_unityeyes
from tests.helpers import QUICK_ENVIRONMENT, files_below, skip_without_ranks, write_images, write_refiner
from tests.simgan_server import warm_simgan

pytestmark = pytest.mark.slow  # complete commands

EXAMPLES = Path(__file__).parents[1] / "examples"


def command_of(name: str, *arguments: object) -> list[str]:
    program = warm_simgan().parents[1] / "python" if name.endswith(".py") else "bash"
    return [str(program), str(EXAMPLES / name), *map(str, arguments)]


def environment_with(programs: Path | str | None = None, **more: str) -> dict[str, str]:
    """Return quick settings, and a folder of programs before all others: by default that of `simgan` and `torchrun`."""
    return os.environ | QUICK_ENVIRONMENT | {"PATH": f"{programs or warm_simgan().parent}:{os.environ['PATH']}"} | more


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    """Wait until a process has written a file, or has ended."""
    while process.poll() is None and not path.exists():
        time.sleep(0.02)


def run_example(name: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run an example on quick settings, others by their variables, to its end and without an error."""
    environment = environment_with(**more)
    command = command_of(name, *arguments)
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def write_programs(folder: Path, **bodies: str) -> Path:
    """Write shell scripts beside links to `simgan` and `torchrun`; return the folder."""
    folder.mkdir()
    for program in warm_simgan().parent.iterdir():
        (folder / program.name).symlink_to(program)
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


def test_every_example_has_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    untested = [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name not in tests]
    assert untested in ([], ["train.toml"])  # docs/guides/own-data.md shows it


def test_the_papers_table_is_made(tmp_path: Path) -> None:
    renders = write_unityeyes(tmp_path / "UnityEyes", *discs(12, 1))
    write_mpiigaze(tmp_path / "MPIIGaze", {"p00": 4, "p01": 3})
    out = tmp_path / "out"
    run_example("paper_table.sh", renders, tmp_path / "MPIIGaze", out)
    document = json.loads((out / "table" / "results.json").read_text())
    assert document["test"] == {"images": 14, "persons": 2, "source": str(tmp_path / "MPIIGaze")}
    assert [(row["name"], row["estimator"], row["images"]) for row in document["rows"]][1:] == [
        ("synthetic", "cnn", 12), ("refined", "cnn", 12), ("synthetic", "knn", 12), ("refined", "knn", 12),
    ]  # fmt: skip
    assert (out / "table" / "curve.svg").exists()


def test_own_folders_are_trained_on_and_refined(tmp_path: Path) -> None:
    renders, photos = write_csv(tmp_path / "renders", 6, 1), write_images(tmp_path / "photos", 4, 2, (35, 55))
    for _ in range(2):  # the second call resumes
        run_example("own_folders.sh", renders, photos, tmp_path / "out")
    refined = files_below(tmp_path / "out" / "refined")
    assert set(files_below(renders)) <= set(refined)
    assert (tmp_path / "out" / "history.png").is_file()
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_a_learned_psi_trains_a_refiner(tmp_path: Path) -> None:
    renders, photos = write_csv(tmp_path / "renders", 12, 1), write_images(tmp_path / "photos", 4, 2, (35, 55))
    out = tmp_path / "out"
    run_example("learned_psi.sh", renders, photos, out, "0.5")
    settings = json.loads((out / "run" / "config.json").read_text())["settings"]
    assert (settings["psi"], settings["lambda"]) == (f"{out}/estimator/estimators/fit-cnn-seed0", 0.5)
    assert (out / "run" / "refiner" / "model.safetensors").is_file()
    halves = [set((out / name / "labels.csv").read_text().splitlines()[1:]) for name in ("fit", "check")]
    assert not halves[0] & halves[1]


def test_a_refiner_runs_in_a_data_pipeline(tmp_path: Path) -> None:
    renders = write_csv(tmp_path / "renders", 9, 1)
    refiner = write_refiner(tmp_path / "refiner")
    printed = run_example("torch_dataset.py", renders, refiner, 2).stdout.splitlines()
    assert [line.split(":")[0] for line in printed] == ["epoch 1", "epoch 2"]


def test_depth_images_of_hands_are_refined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    for name in ("synthetic", "real"):
        (tmp_path / name / "p0").mkdir(parents=True)
        for number, distance in enumerate((650, 900)):
            wall = np.full(x.shape, 1400, np.uint16)
            hand = (x - 50) ** 2 + (y - 45) ** 2 < 30**2
            wall[hand] = (distance + (x + y)[hand] // 4 + rng.integers(0, 3, hand.sum())).astype(np.uint16)
            wall[:5] = 0
            Image.fromarray(wall).save(tmp_path / name / "p0" / f"{number}.png")
    out = tmp_path / "out"
    flags = ("--batch-size", 2, "--history-size", 2, "--steps", 1, "--size", "96x96")
    run_example("depth_hands.py", tmp_path / "synthetic", tmp_path / "real", out, *flags)
    for number in range(2):
        before, after = (
            np.asarray(Image.open(folder / "p0" / f"{number}.png"), dtype=int)
            for folder in (tmp_path / "synthetic", out / "refined_mm")
        )
        hand = (before > 0) & (before < 1400)
        assert np.abs(after - before)[hand].max() < 30  # mm: the refiner starts as the identity
        assert (after[~hand] == 0).mean() > 0.9
    settings = json.loads((out / "run" / "config.json").read_text())["settings"]
    assert (settings["preset"], settings["refiner_kernel"], settings["psi"]) == ("hands", 7, "identity")


def write_nyu(folder: Path, frames: int) -> None:
    """Write discs for hands in the layout of NYU's release, 60x80 instead of 480x640."""
    rng = np.random.default_rng(frames)
    y, x = np.mgrid[:60, :80]
    joints = np.empty((3, frames, 36, 3))
    for view, frame in np.ndindex(3, frames):
        centre, distance = rng.uniform((25, 20), (55, 40)), rng.uniform(700, 900)
        joints[view, frame] = [*centre, distance]
        joints[view, frame, 3] += (5, 0, 0)
        hand = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 12**2
        synthetic = np.where(hand, distance + (x - centre[0]), 0)
        real = np.where(hand & (rng.random(x.shape) > 0.1), synthetic + rng.normal(0, 2, x.shape), 1500)
        for kind, depth in (("synthdepth", synthetic), ("depth", real)):
            packed = depth.astype(np.uint16)
            colour = np.stack([np.zeros_like(packed), packed >> 8, packed & 255], axis=-1).astype(np.uint8)
            Image.fromarray(colour).save(folder / f"{kind}_{view + 1}_{frame + 1:07}.png")
    scipy.io.savemat(folder / "joint_data.mat", {"joint_uvd": joints, "joint_xyz": joints})


def test_the_papers_hands_are_cut_trained_on_and_tested(tmp_path: Path) -> None:
    for part, frames in (("train", 3), ("test", 2)):
        (tmp_path / "nyu" / part).mkdir(parents=True)
        write_nyu(tmp_path / "nyu" / part, frames)
    out = tmp_path / "out"
    tiny = {"SIMGAN_TRAIN_SIZE": "32x32", "SIMGAN_TRAIN_REFINER_BLOCKS": "1", "SIMGAN_TRAIN_REFINER_WIDTH": "2"}
    run_example("paper_hands.sh", tmp_path / "nyu", out, "1 3", **tiny)  # it runs nyu_hands.py
    with Image.open(out / "train" / "synthetic" / "3_0000002.png") as image:
        levels = np.asarray(image, dtype=int)
    assert levels.shape == (224, 224)
    with (out / "train" / "synthetic" / "labels.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == [f"{view}_{frame:07}.png" for view in (1, 3) for frame in (1, 2, 3)]
    x, y, moved = (float(lines[0][name]) for name in ("F1_KNU3_A_x", "F1_KNU3_A_y", "F1_KNU2_B_x"))
    assert (x, y) == pytest.approx((112, 112), abs=5)  # the disc's centre is that of the window, to half a pixel
    side = 224 * 5 / (moved - x)  # the second joint lies 5 pixels of the release to the right
    assert side == pytest.approx(2 * 12 + 2 * 10, abs=1.1)
    assert ((levels > 0).mean()) == pytest.approx(np.pi * 12**2 / side**2, rel=0.05)
    assert levels[levels > 0].min() > 6553  # a gap to the background
    document = json.loads((out / "table" / "results.json").read_text())
    assert (document["test"]["images"], len(document["points"])) == (2, 14)
    assert [row["name"] for row in document["rows"] if row["estimator"] == "resnet"] == [
        "synthetic",
        "refined",
        "oracle",
    ]
    settings = json.loads((out / "run" / "config.json").read_text())["settings"]
    assert (settings["preset"], settings["refiner_kernel"], settings["target"]) == ("hands", 7, "points")
    assert (out / "run" / "estimator").is_dir()


def test_the_method_in_plain_pytorch_draws_a_sheet(tmp_path: Path) -> None:
    renders, photos = (write_images(tmp_path / name, 4, seed) for seed, name in enumerate(("renders", "photos")))
    printed = run_example("plain_simgan.py", renders, photos, tmp_path / "sheet.png", 2).stdout.splitlines()
    assert [line.split()[0] for line in printed] == ["0", "1"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (8 * 55, 2 * 35)


def test_discs_draw_a_sheet(tmp_path: Path) -> None:
    run_example("discs.py", tmp_path, "--eval-every", 0, "--sample-every", 6, "--cache", "off")
    with Image.open(tmp_path / "run" / "samples" / "step-00000006.png") as sheet:
        assert sheet.width > 4 * 150
        assert np.asarray(sheet).std() > 30


def test_a_slurm_array_refines_in_parts(tmp_path: Path) -> None:
    renders = write_csv(tmp_path / "renders", 5, 1)
    refiner, out = write_refiner(tmp_path / "refiner"), tmp_path / "refined"
    for task in ("1", "2", "2"):  # the last one was put back into the queue
        array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"}
        run_example("slurm_refine.sh", renders, refiner, out, **array)
    assert set(files_below(renders)) <= set(files_below(out))


def test_a_slurm_array_trains_and_is_requeued(tmp_path: Path) -> None:
    """The script gets SIGUSR1 as from SLURM; a local `scontrol` records its arguments."""
    renders, photos = write_images(tmp_path / "renders", 6, 1), write_images(tmp_path / "photos", 4, 2)
    bin_folder = write_programs(tmp_path / "bin", scontrol='echo "$@" >> asked')
    task = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "17", "SLURM_JOB_ID": "19"}
    command = command_of("slurm_lambda.sh", renders, photos, tmp_path / "runs")
    run = tmp_path / "runs" / "lambda-3"

    endless = environment_with(bin_folder, **task, SIMGAN_TRAIN_STEPS="1000000")
    with subprocess.Popen(command, env=endless, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as script:
        wait_for(script, run / "metrics.jsonl")
        script.send_signal(signal.SIGUSR1)
        _, errors = script.communicate()
    assert script.returncode == 0, errors
    assert (tmp_path / "asked").read_text() == "requeue 17_2\n"
    stopped = json.loads((tmp_path / "19-3.json").read_text())
    assert stopped["status"] == "stopped"

    short = environment_with(bin_folder, **task, SIMGAN_TRAIN_STEPS=str(stopped["step"] + 1))
    result = subprocess.run(command, env=short, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "asked").read_text() == "requeue 17_2\n"
    document = json.loads((tmp_path / "19-3.json").read_text())
    assert (document["status"], document["run"]) == ("finished", str(run))
    assert json.loads((run / "config.json").read_text())["settings"]["lambda"] == 3


def test_a_tracker_gets_every_line_and_sheet_of_a_running_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = write_images(tmp_path / "synthetic", 6, 0), write_images(tmp_path / "real", 6, 1)
    run, follow = tmp_path / "run", runpy.run_path(str(EXAMPLES / "follow_run.py"))
    monkeypatch.setenv("PATH", f"{warm_simgan().parent}:{os.environ['PATH']}")
    quick = environment_with(SIMGAN_TRAIN_STEPS="40", SIMGAN_TRAIN_SAMPLE_EVERY="20")
    command: list[str | Path] = [
        "simgan",
        "train",
        "--synthetic",
        domains[0],
        "--real",
        domains[1],
        "--out",
        run,
        "--quiet",
    ]
    with subprocess.Popen(command, env=quick, text=True) as training:
        wait_for(training, run / "metrics.jsonl")
        events = list(follow["events"](run, 0.01))
        assert training.wait() == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, values in events if "samples" not in values] == [line["step"] for line in lines]
    assert all(values.items() <= lines[step - 1].items() for step, values in events if "samples" not in values)
    sheets = [values["samples"] for _, values in events if "samples" in values]
    assert sorted(sheets) == sorted((run / "samples").iterdir())
    assert len(sheets) == 3
    assert follow["settings"](run)["steps"] == 40


def test_torchrun_trains_on_two_ranks(tmp_path: Path) -> None:
    """The script reports how the training ended, which torchrun does not."""
    skip_without_ranks()
    domains = write_images(tmp_path / "synthetic", 6, 0), write_images(tmp_path / "real", 6, 1)
    result = run_example("torchrun.sh", 2, *domains, tmp_path / "run", "--quiet")
    document = json.loads(result.stdout)
    assert (document["status"], document["step"]) == ("finished", 6)
    assert (tmp_path / "run" / "refiner" / "model.safetensors").exists()


def test_a_training_on_several_machines_is_requeued(tmp_path: Path) -> None:
    """A cluster of this machine: `srun` starts what it is given, and `scancel` reaches it."""
    domains = write_images(tmp_path / "synthetic", 6, 0), write_images(tmp_path / "real", 6, 1)
    bin_folder = write_programs(
        tmp_path / "bin",
        scontrol='[ "$1" != show ] || exec echo localhost; echo "$@" >> asked',
        srun='echo $$ > step; exec "$@"',
        scancel="kill -TERM $(cat step)",
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    job = {"SLURM_JOB_ID": "19", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "1", "MASTER_PORT": str(port)}
    endless = environment_with(bin_folder, **job, SIMGAN_TRAIN_STEPS="1000000")
    command = command_of("slurm_train.sh", *domains, tmp_path / "run")
    with subprocess.Popen(command, env=endless, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as script:
        wait_for(script, tmp_path / "run" / "metrics.jsonl")
        script.send_signal(signal.SIGUSR1)
        output, _ = script.communicate()
    assert script.returncode == 75
    assert json.loads(output)["status"] == "stopped"
    assert (tmp_path / "asked").read_text() == "requeue 19\n"


def write_layout(folder: Path, others: dict[str, bytes], *pictures: str, alpha: bool = False) -> Path:
    """Write colour `pictures` of 35x55, with a hole where they have `alpha`, and other files."""
    rng = np.random.default_rng(len(pictures))
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(60, 200, (35, 55, 4 if alpha else 3), np.uint8)
        if alpha:
            pixels[..., 3] = 255
            pixels[:9, :9, 3] = 0
        Image.fromarray(pixels).save(folder / name)
    for name, content in others.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def png(pixels: object) -> bytes:
    """Return a mask or a map as a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG")
    return file.getvalue()


def changed_and_carried(before: Path, after: Path) -> tuple[set[str], set[str]]:
    """Return the names of files that changed and of those that did not; every file arrived."""
    old, new = files_below(before), files_below(after)
    assert set(new) - {".simgan-refine.json"} == set(old)
    changed = {name for name, content in old.items() if new[name] != content}
    return changed, set(old) - changed


MASK = np.zeros((35, 55), np.uint8)
MASK[5:20, 10:30] = 7
COLOURED_MASK = np.stack([MASK * 30, MASK * 10, MASK], axis=-1)


def test_an_image_folder_keeps_its_metadata(tmp_path: Path) -> None:
    pictures = ("train/0001.png", "train/0002.png", "test/0001.png")
    others = {
        "train/metadata.csv": b"file_name,label\n0001.png,left\n0002.png,right\n",
        "test/metadata.csv": b"file_name,label\n0001.png,left\n",
        "README.md": b"---\nlicense: mit\n---\n",
    }
    data = write_layout(tmp_path / "data", others, *pictures)
    refiner = write_refiner(tmp_path / "refiner", channels=3)
    printed = run_example("imagefolder.sh", data, refiner, tmp_path / "out").stdout
    assert changed_and_carried(data, tmp_path / "out") == (set(pictures), set(others))
    assert f"load_dataset('imagefolder', data_dir='{tmp_path / 'out'}')" in printed


def test_detection_data_of_coco_keeps_its_labels(tmp_path: Path) -> None:
    pictures = ("images/train2017/000000000001.png", "images/train2017/000000000002.png")
    images = [{"id": number, "file_name": Path(name).name} for number, name in enumerate(pictures)]
    boxes = [{"id": 0, "image_id": 0, "category_id": 7, "bbox": [10, 5, 20, 15]}]
    others = {
        "annotations/instances_train2017.json": json.dumps({"images": images, "annotations": boxes}).encode(),
        "annotations/panoptic_train2017/000000000001.png": png(COLOURED_MASK),
    }
    data = write_layout(tmp_path / "coco", others, *pictures)
    run_example("detection.sh", data, write_refiner(tmp_path / "refiner", channels=3), tmp_path / "out")
    assert changed_and_carried(data, tmp_path / "out") == (set(pictures), set(others))


def test_detection_data_of_yolo_keeps_its_labels(tmp_path: Path) -> None:
    pictures = ("images/train/0.png", "images/val/1.png")
    labels = {"labels/train/0.txt": b"7 0.36 0.36 0.36 0.43\n", "labels/val/1.txt": b""}
    data_yaml = b"path: /data/yolo  # of the renders\ntrain: images/train\nval: images/val\nnames: {7: pupil}\n"
    data = write_layout(tmp_path / "yolo", labels | {"data.yaml": data_yaml}, *pictures)
    out = tmp_path / "out"
    for _ in range(2):
        run_example("detection.sh", data, write_refiner(tmp_path / "refiner", channels=3), out)
    written = (out / "data.yaml").read_text().splitlines()
    assert written == [f"path: {out}", "train: images/train", "val: images/val", "names: {7: pupil}"]
    assert changed_and_carried(data, out) == ({*pictures, "data.yaml"}, set(labels))


def test_frames_of_blender_are_refined_beside_masks_and_depth(tmp_path: Path) -> None:
    pictures = [f"Image{frame:04}.png" for frame in range(1, 7)]
    others = {f"Mask{frame:04}.png": png(MASK) for frame in range(1, 7)}
    others |= {f"Depth{frame:04}.exr": b"v/1\x01 depth" for frame in range(1, 7)}
    renders = write_layout(tmp_path / "renders", others, *pictures, alpha=True)
    photos = write_layout(tmp_path / "photos", {}, *(f"{number}.png" for number in range(4)))
    for _ in range(2):
        run_example("blender.sh", renders, photos, tmp_path / "out", "--refiner-output", "tanh")
    refined = tmp_path / "out" / "refined"
    assert changed_and_carried(renders, refined) == (set(pictures), set(others))
    with Image.open(refined / pictures[0]) as image:
        assert np.asarray(image)[..., 3].tolist() == np.asarray(Image.open(renders / pictures[0]))[..., 3].tolist()


def test_a_folder_of_omniverse_replicator_keeps_its_labels(tmp_path: Path) -> None:
    pictures = [f"rgb_{frame:04}.png" for frame in range(6)]
    boxes = io.BytesIO()
    np.save(boxes, np.array([(0, 10, 5, 30, 20)], [("semanticId", "<u4"), *((name, "<i4") for name in "abcd")]))
    depth = io.BytesIO()
    np.save(depth, np.full((35, 55), 2.5, np.float32))
    others: dict[str, bytes] = {}
    for frame in range(6):
        others |= {
            f"semantic_segmentation_{frame:04}.png": png(COLOURED_MASK),
            f"semantic_segmentation_labels_{frame:04}.json": b'{"(210, 70, 7, 255)": {"class": "pupil"}}',
            f"bounding_box_2d_tight_{frame:04}.npy": boxes.getvalue(),
            f"distance_to_camera_{frame:04}.npy": depth.getvalue(),
        }
    renders = write_layout(tmp_path / "_output", others, *pictures)
    photos = write_layout(tmp_path / "photos", {}, *(f"{number}.png" for number in range(4)))
    run_example("replicator.sh", renders, photos, tmp_path / "out", "--refiner-output", "tanh")
    assert changed_and_carried(renders, tmp_path / "out" / "refined") == (set(pictures), set(others))

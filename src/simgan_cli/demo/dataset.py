"""Write the data of a demonstration: labelled renders, and eyes seen by a simulated webcam."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.demo import webcam
from simgan_cli.demo.eye_world import CLEAN_LOOK, FACE, UNIFORM_GAZE, Eyes, render
from simgan_cli.files import atomic_directory, write_json

RECORD = "demo-data.json"  # the settings that a folder was written with
WRITTEN = {"synthetic", "camera", "README.txt", RECORD}  # entries of such a folder
BATCH_IMAGES = 64  # a larger batch leaves the processor's caches
MAX_JSON = 300  # renders that also get UnityEyes' JSON
README = """All images below this folder are simulated: `simgan demo-data` drew them, none is a photograph.

synthetic/        {count:,} clean renders: wide, uniform gaze; labels.csv; for the first {json} also UnityEyes' JSON
camera/train/     {count:,} eyes seen by a simulated webcam, without labels: the real images of a training
camera/test/      {tests:,} more of them with labels.csv, only for tests
camera/oracle/    the images of camera/train (hard links) with labels.csv, only for the row "oracle" of eval-gaze:
                  the error of an estimator trained on labelled real images

The camera's images look different: darker skins, irises and scleras, some make-up and glasses, uneven light, blur,
noise, JPEG, a stretched histogram. Both draw faces and eyes from the same shapes; the camera's gaze is narrower.

labels.csv: pitch and yaw in radians (pitch > 0 looks up, yaw > 0 to the image's left; gaze = (-cos(pitch) sin(yaw),
-sin(pitch), -cos(pitch) cos(yaw)), x right, y down, z away from the camera), pupil_x and pupil_y in pixels from the
upper left corner, pixel centres at +0.5. All are left eyes: the nose is at the image's left.

Size {height}x{width}, seed {seed}: the same command draws the same images.
"""


def test_count(count: int) -> int:
    """Return the number of images of camera/test, where the other sets have `count`."""
    return max(1, count // 3)


def write_demo_data(
    folder: Path, count: int, seed: int, size: tuple[int, int], advanced: Callable[[int, int], None]
) -> None:
    """Write `folder` as README describes, in one step; an earlier folder is replaced.

    `size` is (H, W). `advanced` gets the images written and the images in all. Raises OSError, and changes nothing.
    """
    tests = test_count(count)
    total, written = 2 * count + tests, 0
    with atomic_directory(folder) as building:
        for images in (
            _write_synthetic(building / "synthetic", count, seed, size),
            _write_camera(building / "camera" / "train", building / "camera" / "oracle", count, [seed, 1], size),
            _write_camera(building / "camera" / "test", building / "camera" / "test", tests, [seed, 2], size),
        ):
            for number in images:
                written += number
                advanced(written, total)
        _link_all(building / "camera" / "train", building / "camera" / "oracle")
        height, width = size
        text = README.format(count=count, json=min(count, MAX_JSON), tests=tests, height=height, width=width, seed=seed)
        (building / "README.txt").write_bytes(text.encode())
        write_json(building / RECORD, record(count, seed, size))


def record(count: int, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the content of RECORD: the settings that determine the images."""
    return {"schema": "simgan.demo-data.record/1", "count": count, "seed": seed, "size": f"{size[0]}x{size[1]}"}


def synthetic_eyes(count: int, seed: int | list[int]) -> Eyes:
    """Return eyes of the synthetic domain."""
    return Eyes.draw(np.random.default_rng(seed), count, {**UNIFORM_GAZE, **FACE, **CLEAN_LOOK})


def camera_eyes(count: int, rng: np.random.Generator) -> Eyes:
    """Return eyes of the camera's domain."""
    given = webcam.gaze_at_a_screen(rng, count) | webcam.make_up(rng, count)
    return Eyes.draw(rng, count, {**FACE, **webcam.WEBCAM_LOOK}, **given)


def _write_synthetic(folder: Path, count: int, seed: int, size: tuple[int, int]) -> Iterator[int]:
    eyes = synthetic_eyes(count, [seed, 0])
    yield from write_images(folder, (_levels(render(part, size)) for part in _parts(eyes)))
    write_labels(folder / "labels.csv", eyes, size)
    _write_json_labels(folder, eyes[:MAX_JSON], size)


def _write_camera(folder: Path, labels: Path, count: int, seed: list[int], size: tuple[int, int]) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    eyes = camera_eyes(count, rng)
    yield from write_images(folder, (webcam.photograph(render(part, size), rng) for part in _parts(eyes)))
    labels.mkdir(exist_ok=True)
    write_labels(labels / "labels.csv", eyes, size)


def _parts(eyes: Eyes) -> Iterator[Eyes]:
    return (eyes[start : start + BATCH_IMAGES] for start in range(0, len(eyes), BATCH_IMAGES))


def _levels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(255 * images).astype(np.uint8)


def write_images(folder: Path, batches: Iterator[NDArray[np.uint8]]) -> Iterator[int]:
    """Write batches N x H x W as 00000.png, 00001.png, ... and yield the size of each batch."""
    folder.mkdir(parents=True)
    written = 0
    with ThreadPoolExecutor() as pool:
        for batch in batches:
            list(pool.map(_write_png, (folder / _name(written + i, ".png") for i in range(len(batch))), batch))
            written += len(batch)
            yield len(batch)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    file = io.BytesIO()  # the encoder writes in small pieces; a file gets one write
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    path.write_bytes(file.getvalue())


def _name(number: int, suffix: str) -> str:
    return f"{number:05}{suffix}"


def write_labels(path: Path, eyes: Eyes, size: tuple[int, int]) -> None:
    """Write labels.csv of images 00000.png, ...: angles in radians, pupils in pixels for images of `size` (H, W)."""
    angles = np.concatenate([eyes.pitch[:, 0], eyes.yaw[:, 0]], axis=1)
    lines = ["file,pitch,yaw,pupil_x,pupil_y"]
    lines += [
        f"{_name(number, '.png')},{pitch:.6f},{yaw:.6f},{x:.3f},{y:.3f}"
        for number, ((pitch, yaw), (x, y)) in enumerate(zip(angles, eyes.pupil_centres(size), strict=True))
    ]
    path.write_bytes(("\n".join(lines) + "\n").encode())


def _write_json_labels(folder: Path, eyes: Eyes, size: tuple[int, int]) -> None:
    """Write N.json beside the images, with UnityEyes' keys and conventions: y points up."""
    landmarks = eyes.landmarks(size)
    gaze = np.concatenate(eyes.gaze(), axis=2)[:, 0]
    for number, (x, y, z) in enumerate(gaze):
        document: dict[str, Any] = {
            name: [_vector(px, size[0] - py, 0) for px, py in places[number]] for name, places in landmarks.items()
        }
        document["eye_details"] = {"look_vec": _vector(x, -y, z, 0)}
        document["head_pose"] = _vector(0, 0, 0)
        (folder / _name(number, ".json")).write_bytes((json.dumps(document, indent=1) + "\n").encode())


def _vector(*numbers: float) -> str:
    return "(" + ", ".join(f"{number:.4f}" for number in numbers) + ")"


def _link_all(source: Path, target: Path) -> None:
    """Give the files of one folder a second name in another; copies where the file system has no hard links."""
    for path in source.iterdir():
        try:
            os.link(path, target / path.name)
        except OSError:
            shutil.copyfile(path, target / path.name)

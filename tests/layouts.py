"""Folders as twelve renderers and data sets write them, with pictures of noise and labels that look like labels."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH, FRAMES = 24, 32, 5


class Writer:
    """Writes files below `root`, and keeps the paths of those that are pictures."""

    def __init__(self, root: Path) -> None:
        self.root, self.rng, self.pictures = root, np.random.default_rng(0), set[str]()

    def file(self, name: str, content: bytes | str | dict[str, Any] = b"\0\1") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content) if isinstance(content, dict) else content
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def image(self, name: str, array: Any, mode: str | None = None) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(path)

    def picture(self, name: str) -> None:
        self.pictures.add(name)
        self.image(name, self.rng.integers(60, 220, (HEIGHT, WIDTH, 3), np.uint8))

    def mask(self, name: str, mode: str | None = None) -> None:
        self.image(name, self.classes(), mode)

    def classes(self) -> Any:
        classes = np.zeros((HEIGHT, WIDTH), np.uint8)
        left = self.rng.integers(2, 10)
        classes[4:14, left : left + 12] = 7
        classes[10:22, 16:30] = 12
        return classes

    def colours(self, name: str) -> None:
        self.image(name, self.rng.integers(0, 255, (256, 3), np.uint8)[self.classes()])

    def depth(self, name: str) -> None:
        slope = np.linspace(500, 4000, WIDTH)[None] + self.rng.integers(0, 500, (HEIGHT, 1))
        self.image(name, slope.astype(np.uint16))

    def smooth(self, name: str) -> None:
        """Write a map of normals: three smooth channels."""
        y, x = np.mgrid[:HEIGHT, :WIDTH] / WIDTH
        angle = self.rng.uniform(0, 3)
        normal = np.stack([np.sin(3 * x + angle), np.cos(4 * y + angle), np.sin(x + 2 * y)], -1)
        self.image(name, (127 + 120 * normal).astype(np.uint8))


def solo(write: Writer) -> None:
    """Unity Perception."""
    write.file("metadata.json", {"unityVersion": "2022"})
    for i in range(FRAMES):
        stem = f"sequence.{i}/step0.camera"
        write.picture(f"{stem}.png")
        write.mask(f"{stem}.semantic segmentation.png", "P")
        write.colours(f"{stem}.instance segmentation.png")
        write.depth(f"{stem}.depth.png")
        write.file(f"sequence.{i}/step0.frame_data.json", {"frame": i})


def replicator(write: Writer) -> None:
    """Omniverse Replicator's BasicWriter."""
    for i in range(FRAMES):
        write.picture(f"rgb_{i:04}.png")
        write.colours(f"semantic_segmentation_{i:04}.png")
        write.image(
            f"instance_id_segmentation_{i:04}.png", write.rng.integers(0, 255, (256, 4), np.uint8)[write.classes()]
        )
        write.smooth(f"normals_{i:04}.png")
        write.file(f"bounding_box_2d_tight_{i:04}.npy")
        write.file(f"distance_to_camera_{i:04}.npy")
        write.file(f"semantic_segmentation_labels_{i:04}.json", {"0": "background"})


def blenderproc(write: Writer) -> None:
    """BlenderProc's writer of the BOP format."""
    for i in range(FRAMES):
        write.picture(f"train_pbr/000000/rgb/{i:06}.jpg")
        write.depth(f"train_pbr/000000/depth/{i:06}.png")
        for part in range(2):
            write.image(
                f"train_pbr/000000/mask/{i:06}_{part:06}.png", (write.classes() == 7 + 5 * part) * np.uint8(255)
            )
            write.mask(f"train_pbr/000000/mask_visib/{i:06}_{part:06}.png")
    write.file("train_pbr/000000/scene_gt.json", {"0": []})
    write.file("camera.json", {"cx": 16})


def blender(write: Writer) -> None:
    """Blender's file output node."""
    for i in range(1, FRAMES + 1):
        write.picture(f"Image{i:04}.png")
        write.smooth(f"Normal{i:04}.png")
        write.mask(f"IndexOB{i:04}.png")
        write.depth(f"Depth{i:04}.png")
    write.file("scene.blend")


def unityeyes(write: Writer) -> None:
    """UnityEyes: pictures and JSON, nothing else."""
    for i in range(1, FRAMES + 1):
        write.picture(f"{i}.jpg")
        write.file(f"{i}.json", {"eye_details": {"look_vec": "(0.1, 0.2, -0.9, 0)"}})


def kubric(write: Writer) -> None:
    """Kubric, a folder a scene."""
    for scene in range(2):
        for i in range(FRAMES):
            write.picture(f"{scene}/rgba_{i:05}.png")
            write.mask(f"{scene}/segmentation_{i:05}.png", "P")
            write.smooth(f"{scene}/normal_{i:05}.png")
            write.smooth(f"{scene}/object_coordinates_{i:05}.png")
            write.image(f"{scene}/forward_flow_{i:05}.png", write.rng.integers(0, 65535, (HEIGHT, WIDTH), np.uint16))
            write.image(f"{scene}/depth_{i:05}.tiff", write.rng.uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32))
        write.file(f"{scene}/metadata.json", {"scene": scene})


def coco(write: Writer) -> None:
    """COCO with panoptic annotations."""
    for i in range(FRAMES):
        number = 37 * i + 139
        write.picture(f"train2017/{number:012}.jpg")
        write.colours(f"annotations/panoptic_train2017/{number:012}.png")
    write.file("annotations/instances_train2017.json", {"images": []})


def yolo(write: Writer) -> None:
    """YOLO: a text of boxes beside each picture."""
    for i in range(FRAMES):
        write.picture(f"images/train/{i:06}.jpg")
        write.file(f"labels/train/{i:06}.txt", "0 0.5 0.5 0.1 0.1\n")
    write.file("data.yaml", "names: [eye]\n")


def voc(write: Writer) -> None:
    """Pascal VOC."""
    for i in range(FRAMES):
        write.picture(f"VOC2012/JPEGImages/2007_{i:06}.jpg")
        write.mask(f"VOC2012/SegmentationClass/2007_{i:06}.png", "P")
        write.mask(f"VOC2012/SegmentationObject/2007_{i:06}.png", "P")
        write.file(f"VOC2012/Annotations/2007_{i:06}.xml", "<annotation/>")
    write.file("VOC2012/ImageSets/Main/train.txt", "2007_000000\n")


def labelme(write: Writer) -> None:
    """Labelme, with the folders that labelme_json_to_dataset makes."""
    for i in range(FRAMES):
        write.picture(f"{i:04}.png")
        data = base64.b64encode((write.root / f"{i:04}.png").read_bytes()).decode()
        write.file(f"{i:04}.json", {"imagePath": f"{i:04}.png", "imageData": data, "shapes": []})
        write.picture(f"{i:04}_json/img.png")
        write.mask(f"{i:04}_json/label.png", "P")
        write.file(f"{i:04}_json/label_names.txt", "_background_\neye\n")


def nyu(write: Writer) -> None:
    """NYU's hands: depth in the green and blue bytes of a PNG, and colour."""
    for i in range(FRAMES):
        write.picture(f"train/rgb_1_{i:07}.png")
        depth = 700 + np.linspace(0, 300, WIDTH)[None] + write.rng.integers(0, 200, (HEIGHT, 1))
        wide = depth.astype(np.uint16)
        write.image(f"train/depth_1_{i:07}.png", np.stack([0 * wide, wide >> 8, wide & 255], -1).astype(np.uint8))
    write.file("train/joint_data.mat")


def kitti(write: Writer) -> None:
    """KITTI's stereo and flow."""
    for i in range(FRAMES):
        for side in (2, 3):
            write.picture(f"training/image_{side}/{i:06}_10.png")
        write.depth(f"training/disp_occ_0/{i:06}_10.png")
        write.mask(f"training/semantic/{i:06}_10.png")
        write.file(f"training/calib/{i:06}.txt", "P0: 1 0 0\n")


LAYOUTS: list[Callable[[Writer], None]] = [
    solo, replicator, blenderproc, blender, unityeyes, kubric, coco, yolo, voc, labelme, nyu, kitti,
]  # fmt: skip

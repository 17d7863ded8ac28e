"""Folders as twelve renderers and data sets write them, with pictures of noise and labels that look like labels."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH, FRAMES = 24, 32, 5

# The files of each layout, and what writes them (a method of Writer, or the content). {i} counts frames from 0,
# {n} from 1; {scene} and {part} are 0 and 1.
LAYOUTS: dict[str, dict[str, Any]] = {
    "solo": {  # Unity Perception
        "metadata.json": {"unityVersion": "2022"},
        "sequence.{i}/step0.camera.png": "picture",
        "sequence.{i}/step0.camera.semantic segmentation.png": "palette",
        "sequence.{i}/step0.camera.instance segmentation.png": "colours",
        "sequence.{i}/step0.camera.depth.png": "depth",
        "sequence.{i}/step0.frame_data.json": {"frame": 0},
    },
    "replicator": {  # Omniverse Replicator's BasicWriter
        "rgb_{i:04}.png": "picture",
        "semantic_segmentation_{i:04}.png": "colours",
        "instance_id_segmentation_{i:04}.png": "transparent_colours",
        "normals_{i:04}.png": "smooth",
        "bounding_box_2d_tight_{i:04}.npy": b"\0\1",
        "distance_to_camera_{i:04}.npy": b"\0\1",
        "semantic_segmentation_labels_{i:04}.json": {"0": "background"},
    },
    "blenderproc": {  # its writer of the BOP format
        "train_pbr/000000/rgb/{i:06}.jpg": "picture",
        "train_pbr/000000/depth/{i:06}.png": "depth",
        "train_pbr/000000/mask/{i:06}_{part:06}.png": "binary",
        "train_pbr/000000/mask_visib/{i:06}_{part:06}.png": "mask",
        "train_pbr/000000/scene_gt.json": {"0": []},
        "camera.json": {"cx": 16},
    },
    "blender": {  # its file output node
        "Image{n:04}.png": "picture",
        "Normal{n:04}.png": "smooth",
        "IndexOB{n:04}.png": "mask",
        "Depth{n:04}.png": "depth",
        "scene.blend": b"\0\1",
    },
    "unityeyes": {
        "{n}.jpg": "picture",
        "{n}.json": {"eye_details": {"look_vec": "(0.1, 0.2, -0.9, 0)"}},
    },
    "kubric": {
        "{scene}/rgba_{i:05}.png": "picture",
        "{scene}/segmentation_{i:05}.png": "palette",
        "{scene}/normal_{i:05}.png": "smooth",
        "{scene}/object_coordinates_{i:05}.png": "smooth",
        "{scene}/forward_flow_{i:05}.png": "flow",
        "{scene}/depth_{i:05}.tiff": "float_depth",
        "{scene}/metadata.json": {"scene": 0},
    },
    "coco": {
        "train2017/{i:011}9.jpg": "picture",
        "annotations/panoptic_train2017/{i:011}9.png": "colours",
        "annotations/instances_train2017.json": {"images": []},
    },
    "yolo": {
        "images/train/{i:06}.jpg": "picture",
        "labels/train/{i:06}.txt": b"0 0.5 0.5 0.1 0.1\n",
        "data.yaml": b"names: [eye]\n",
    },
    "voc": {
        "VOC2012/JPEGImages/2007_{i:06}.jpg": "picture",
        "VOC2012/SegmentationClass/2007_{i:06}.png": "palette",
        "VOC2012/SegmentationObject/2007_{i:06}.png": "palette",
        "VOC2012/Annotations/2007_{i:06}.xml": b"<annotation/>",
        "VOC2012/ImageSets/Main/train.txt": b"2007_000000\n",
    },
    "labelme": {  # with the folders that labelme_json_to_dataset makes
        "{i:04}.png": "picture",
        "{i:04}.json": {"imageData": base64.b64encode(b"\x89PNG").decode(), "shapes": []},
        "{i:04}_json/img.png": "picture",
        "{i:04}_json/label.png": "palette",
        "{i:04}_json/label_names.txt": b"_background_\neye\n",
    },
    "nyu": {  # hands, their depth in the green and blue bytes
        "train/rgb_1_{n:07}.png": "picture",
        "train/depth_1_{n:07}.png": "packed",
        "train/joint_data.mat": b"\0\1",
    },
    "kitti": {  # stereo and flow
        "training/image_2/{i:06}_10.png": "picture",
        "training/image_3/{i:06}_10.png": "picture",
        "training/disp_occ_0/{i:06}_10.png": "depth",
        "training/semantic/{i:06}_10.png": "mask",
        "training/calib/{i:06}.txt": b"P0: 1 0 0\n",
    },
}


class Writer:
    """Writes files below `root`, and keeps the paths of those that are pictures."""

    def __init__(self, root: Path) -> None:
        self.root, self.rng, self.pictures = root, np.random.default_rng(0), set[str]()

    def layout(self, name: str) -> None:
        """Write the files of one of LAYOUTS."""
        for pattern, content in LAYOUTS[name].items():
            numbers = ((i, part) for i in range(FRAMES) for part in range(2))
            for path in dict.fromkeys(pattern.format(i=i, n=i + 1, part=part, scene=part) for i, part in numbers):
                getattr(self, content)(path) if isinstance(content, str) else self.file(path, content)

    def file(self, name: str, content: bytes | dict[str, Any]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)

    def image(self, name: str, array: Any, mode: str | None = None) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(path)

    def picture(self, name: str) -> None:
        self.pictures.add(name)
        self.image(name, self.rng.integers(60, 220, (HEIGHT, WIDTH, 3), np.uint8))

    def classes(self) -> Any:
        classes = np.zeros((HEIGHT, WIDTH), np.uint8)
        left = self.rng.integers(2, 10)
        classes[4:14, left : left + 12] = 7
        classes[10:22, 16:30] = 12
        return classes

    def mask(self, name: str) -> None:
        self.image(name, self.classes())

    def palette(self, name: str) -> None:
        self.image(name, self.classes(), "P")

    def binary(self, name: str) -> None:
        self.image(name, (self.classes() == 7) * np.uint8(255))

    def colours(self, name: str, channels: int = 3) -> None:
        self.image(name, self.rng.integers(0, 255, (256, channels), np.uint8)[self.classes()])

    def transparent_colours(self, name: str) -> None:
        self.colours(name, 4)

    def depth(self, name: str) -> None:
        slope = np.linspace(500, 4000, WIDTH)[None] + self.rng.integers(0, 500, (HEIGHT, 1))
        self.image(name, slope.astype(np.uint16))

    def float_depth(self, name: str) -> None:
        self.image(name, self.rng.uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32))

    def packed(self, name: str) -> None:
        wide = (700 + np.linspace(0, 300, WIDTH)[None] + self.rng.integers(0, 200, (HEIGHT, 1))).astype(np.uint16)
        self.image(name, np.stack([0 * wide, wide >> 8, wide & 255], -1).astype(np.uint8))

    def flow(self, name: str) -> None:
        self.image(name, self.rng.integers(0, 65535, (HEIGHT, WIDTH), np.uint16))

    def smooth(self, name: str) -> None:
        """Write a map of normals: three smooth channels."""
        y, x = np.mgrid[:HEIGHT, :WIDTH] / WIDTH
        angle = self.rng.uniform(0, 3)
        normal = np.stack([np.sin(3 * x + angle), np.cos(4 * y + angle), np.sin(x + 2 * y)], -1)
        self.image(name, (127 + 120 * normal).astype(np.uint8))

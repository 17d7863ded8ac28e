"""Fuzz the readers of `simgan` with thousands of hostile files.

    python -m benchmarks.stress.fuzz --cases 12000 --seed 0
    python -m benchmarks.stress.fuzz --seed 0 --only 4711       # one case again, with its traceback

Each case depends on (seed, number) alone and has its own folder. It must end in success or in a SimganError, within
`WALL` seconds and `MEMORY` additional bytes, and may open nothing for writing outside its folder; anything else is a
finding. Cases run in this process one after the other, a hundred times faster than one process for each. A crash of the
interpreter prints its traceback; its case is one of the 500 after the last `CASE`.
"""

import argparse
import atexit
import contextlib
import faulthandler
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import types
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch
from PIL import Image, ImageCms
from safetensors.torch import save as save_tensors

from simgan_cli.cli.console import strip_control
from simgan_cli.cli.resolve import gather, resolve, validated
from simgan_cli.data.archives import open_archives
from simgan_cli.data.cache import PixelSet, Source, open_pixels
from simgan_cli.data.decoding import Preparation, read_pixels
from simgan_cli.data.patterns import ANY
from simgan_cli.data.tree import read_tree
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.metrics.buffer_inspection import describe, open_buffer, scores_by_age
from simgan_cli.engine.refining.image_file import FORMATS, read_picture, write_picture
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.refining.job import RefineJob
from simgan_cli.engine.refining.outputs import write_archive
from simgan_cli.engine.refining.plan import check_inputs, make_plan, refuse_existing
from simgan_cli.engine.run_folder.checkpoints import find_checkpoint, resumed_config
from simgan_cli.engine.run_folder.health import Health, conclude
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.report_page import N_HISTORY_IMAGES, write_page
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.runtime.threads import read_ahead  # noqa: F401 - imported before anything is measured
from simgan_cli.engine.training.build import build_state
from simgan_cli.engine.training.loop import excerpt_of
from simgan_cli.engine.training.state import TrainState
from simgan_cli.errors import SimganError, is_out_of_memory
from simgan_cli.gaze.labels import LabelFormat
from simgan_cli.gaze.readers import read
from simgan_cli.settings.refine import RefineConfig
from simgan_cli.settings.train import TrainConfig

WALL = 10.0  # CPU seconds of a case; one that waits is ended after HANG seconds of the clock
HANG = 120
MEMORY = 2_500_000_000  # bytes a case may add: 25 for each of the 100 million pixels that an image may have
NAMES = [
    "\x1b[31mred.png", "new\nline.png", "-rf.png", "--help.png", "\N{PILE OF POO}.png", "a" * 251 + ".png", " .png",
    "ta\tb.png", "\u202egnp.exe.png", "\x07bell.png", "quote\"'<b>&.png", "$(id).png", "`id`.png", "%s%n.png", "..png",
    "C:\\x.png", "\x9b31m.png", "e\u0301.png", "\u2028.png", "[glob]*.png", "comma,;.png", ".png", "...png", "~.png",
]  # fmt: skip
IN_MEMORY = Path("/dev/shm")  # if it exists: on a disk, most of the time goes into syncs
JUNK: list[Any] = [
    None, True, -1, 0, 1e308, -0.0, 2**63, 10**30, "", "x", "NaN", [], {}, [[]], {"a": 1}, float("nan"), float("inf"),
    "\x00", "\ud800", "../../etc/passwd", "(1, 2, 3)", "(nan, inf, 1e999)", [1, 2, 3], "a" * 100_000, 4_000_000_000,
]  # fmt: skip
Rng = random.Random


@dataclass
class Case:
    """A folder to make hostile input in."""

    rng: Rng
    folder: Path

    def file(self, name: str, content: bytes) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


# Seeds and mutations


@cache
def images() -> dict[str, bytes]:
    """Return a small file of every format, mode and oddity that Pillow writes, by a name with the right suffix."""
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (24, 31), np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (24, 31, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (24, 31), np.uint16))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "l.png": (grey, {}), "rgb.png": (colour, {"icc_profile": profile}), "rgba.png": (colour.convert("RGBA"), {}),
        "la.png": (grey.convert("LA"), {}), "p.png": (colour.convert("P"), {"transparency": 3}),
        "1.png": (grey.convert("1"), {}), "16.png": (deep, {}), "exif.png": (grey, {"exif": exif}),
        "animated.png": (grey, {"save_all": True, "append_images": [grey.rotate(90)]}),
        "l.jpg": (grey, {"exif": exif}), "rgb.jpg": (colour, {"progressive": True, "icc_profile": profile}),
        "cmyk.jpg": (colour.convert("CMYK"), {}), "mpo.jpg": (colour, {"format": "MPO", "save_all": True,
                                                                    "append_images": [colour]}),
        "l.tif": (grey, {}), "lzw.tif": (colour, {"compression": "tiff_lzw"}), "16.tif": (deep, {}),
        "jpeg.tif": (colour, {"compression": "jpeg"}), "g4.tif": (grey.convert("1"), {"compression": "group4"}),
        "pages.tif": (grey, {"save_all": True, "append_images": [grey, colour]}), "f.tif": (grey.convert("F"), {}),
        "i.tif": (deep.convert("I"), {}), "cmyk.tif": (colour.convert("CMYK"), {"compression": "packbits"}),
        "lab.tif": (colour.convert("RGB"), {"compression": "tiff_adobe_deflate"}), "p.tif": (colour.convert("P"), {}),
        "l.bmp": (grey, {}), "rgb.bmp": (colour, {}), "1.bmp": (grey.convert("1"), {}),
        "p.bmp": (colour.convert("P"), {}),
        "lossless.webp": (colour.convert("RGBA"), {"lossless": True}), "lossy.webp": (colour, {"exif": exif}),
        "animated.webp": (colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        "l.pgm": (grey, {"format": "PPM"}), "16.pgm": (deep, {"format": "PPM"}), "rgb.ppm": (colour, {"format": "PPM"}),
        "gif.png": (colour, {"format": "GIF"}), "ico.png": (colour, {"format": "ICO"}),
        "tga.png": (colour, {"format": "TGA"}), "eps.png": (colour, {"format": "EPS"}),
        "pdf.jpg": (colour, {"format": "PDF"}), "j2k.png": (colour, {"format": "JPEG2000"}),
    }  # fmt: skip
    contents = {}
    for name, (image, options) in ways.items():
        file = io.BytesIO()
        kinds = {"jpg": "JPEG", "tif": "TIFF"}
        suffix = name.split(".")[1]
        image.save(file, **{"format": kinds.get(suffix, suffix.upper())} | options)
        contents[name] = file.getvalue()
    contents["ascii.pgm"] = b"P2 # comment\n3 2\n15\n" + b" ".join(b"%d" % value for value in range(6))
    contents["ascii.ppm"] = b"P3\n1 2\n250\n0 100 250 7 8 9\n"
    contents["plain1.pgm"] = b"P1\n3 1\n1 0 1\n"
    contents["float.ppm"] = b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 1, float("nan"), -5)
    return contents


def mutated(content: bytes, rng: Rng, others: list[bytes] | None = None) -> bytes:
    """Return content with some bytes flipped, set to extremes, cut, repeated, spliced with another file, or padded."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        place = min(rng.randrange(len(data)), rng.choice((16, 64, 512, len(data) - 1)))  # headers matter most
        way = rng.randrange(9)
        if way == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif way == 2:
            del data[place:]
        elif way == 3:
            size = rng.choice((2, 4, 8))
            value = rng.choice((0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)) % 256**size
            data[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))
        elif way == 4:
            del data[place : place + rng.randrange(1, 64)]
        elif way == 5:
            data[place:place] = data[place : place + rng.randrange(1, 256)] * rng.choice((1, 2, 100))
        elif way == 6 and others:
            other = rng.choice(others)
            cut = rng.randrange(len(other))
            data = data[:place] + other[cut:]
        elif way == 7:
            data[place:place] = rng.randbytes(rng.randrange(1, 32))
        else:
            data += rng.randbytes(rng.randrange(1, 512))
    return bytes(data)


def maybe_mutated(content: bytes, rng: Rng) -> bytes:
    """Return content unchanged or, in half of the cases, mutated."""
    return content if rng.random() < 0.5 else mutated(content, rng)


def mutated_json(value: Any, rng: Rng) -> Any:
    """Return a JSON value with one place in it replaced, deleted or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        changed = dict(value)
        way = rng.random()
        if way < 0.15:
            del changed[key]
        elif way < 0.25:
            changed[str(rng.choice(("x", "../x", "__class__", "a" * 300)))] = rng.choice(JUNK)
        else:
            changed[key] = mutated_json(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return [*value[:place], mutated_json(value[place], rng), *value[place + rng.randrange(2) :]]
    return rng.choice(JUNK)


def json_bytes(value: Any, rng: Rng) -> bytes:
    """Return JSON, sometimes broken, nested twice or in another encoding."""
    text = json.dumps(value)
    way = rng.random()
    if way < 0.1:
        return mutated(text.encode(), rng)
    if way < 0.13:
        return b"[" * 100_000
    if way < 0.16:
        return text.encode("utf-16")
    if way < 0.18:
        return b'{"step": ' + b"9" * 5000 + b"}"
    return text.encode()


def png(width: int, height: int, depth: int = 8, kind: int = 0, rows: bytes = b"", *chunks: bytes) -> bytes:
    """Return a PNG whose header claims a size, with any rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def claimed(rng: Rng) -> bytes:
    """Return an image of absurd dimensions, or a decompression bomb."""
    size = rng.choice((0, 1, 9_999, 10_000, 65_535, 2**31 - 1, 2**32 - 1)), rng.choice((0, 1, 9_999, 2**31 - 1))
    return rng.choice((
        lambda: png(*size, rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6, 9))),
        lambda: png(9_000, 9_000, 8, 0, bytes(9_001 * 300)),
        lambda: png(2, 2, 8, 0, bytes(20_000_000)),
        lambda: png(2, 2, 8, 0, bytes(6), png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(60_000_000)))),
        lambda: png(2, 2, 8, 0, bytes(6), png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(60_000_000)))),
        lambda: b"BM" + struct.pack("<IHHIIIIHHIIiiII", 54, 0, 0, 54, 40, *size, 1, 24, 0, 0, 0, 0, 0, 0),
        lambda: b"P5\n%d %d\n255\n" % size,
        lambda: b"P2\n%d 1\n255\n" % size[0] + b"1 " * 1000,
        lambda: b"P5 " + b"9" * 5000 + b" 1 255\n",
        lambda: b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + b"".join(
            struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, size[0]), (257, size[1]), (273, 8))),
        lambda: b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xff\xff\xff\xff\xff\xff",
    ))()  # fmt: skip


# Kinds of cases: each makes its input and passes it to its reader


def image_mutation(case: Case) -> None:
    """A mutated image of any format, under any accepted suffix."""
    seeds = images()
    name = case.rng.choice(sorted(seeds))
    suffix = (
        Path(name).suffix if case.rng.random() < 0.7 else case.rng.choice((".png", ".jpg", ".tiff", ".webp", ".ppm"))
    )
    read_image(case, case.file(f"image{suffix}", mutated(seeds[name], case.rng, [*seeds.values()])))


def image_claim(case: Case) -> None:
    """An image that claims a huge size, or expands to one."""
    read_image(case, case.file("image.png", claimed(case.rng)))


def read_image(case: Case, path: Path) -> None:
    """Read an image for training and for refining, and write it in a format."""
    preparation = Preparation(
        case.rng.choice((None, (8, 9))), case.rng.choice(("resize", "crop", "pad")), case.rng.choice((None, "1", "3")),
        case.rng.choice(("none", "equalize")),
    )  # fmt: skip
    with contextlib.suppress(SimganError):
        read_pixels(path, preparation)
    picture = read_picture(path)
    pixels = np.ascontiguousarray(255 - picture.pixels) if picture.pixels.dtype == np.uint8 else picture.pixels ^ 1
    content = write_picture(picture, pixels, case.rng.choice((None, *FORMATS))).content
    (case.folder / "out").mkdir()
    (case.folder / "out" / "image.png").write_bytes(content)
    if picture.format and not picture.lossy and content[:2] != b"\xff\xd8":
        assert read_pixels(case.folder / "out" / "image.png", Preparation()).shape[1:] == pixels.shape[1:]


def hostile_folder(case: Case, folder: Path) -> None:
    """Fill a folder with names, links, pipes, sockets, archives and broken images."""
    rng = case.rng
    folder.mkdir(parents=True, exist_ok=True)
    good = images()["l.png"]
    for name in rng.sample(NAMES, 5):
        (folder / name.replace("/", "_")).write_bytes(rng.choice((good, good, b"", b"no image")))
    (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes(good)
    (folder / "sub" / rng.choice(("\x1b]0;title\x07", "-x", "e\nf", "b" * 255))).mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(good)
    way = rng.randrange(8)
    if way == 0:
        os.mkfifo(folder / "pipe.png")
    elif way == 1:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener, contextlib.chdir(folder):
            listener.bind("socket.png")
    elif way == 2:
        (folder / "circle").symlink_to(folder)
        (folder / "sub" / "up").symlink_to("..")
    elif way == 3:
        (folder / "self.png").symlink_to("self.png")
        (folder / "nowhere.png").symlink_to("/nonexistent")
    elif way == 4:
        (folder / "passwd.png").symlink_to("/etc/passwd")
        (folder / "zero.png").symlink_to("/dev/zero")
        (folder / "tty.tar").symlink_to("/dev/null")
    elif way == 5:
        (folder / "shard.zip").write_bytes(hostile_zip(rng))
    elif way == 6:
        (folder / "shard.tar").write_bytes(hostile_tar(rng))
    else:
        (folder / "folder.png").mkdir()
        (folder / "folder.tar").mkdir()
        (folder / "labels.csv").symlink_to(rng.choice(("labels.csv", "a.png", "/etc")))


def folder_for_training(case: Case) -> None:
    """A hostile folder, through the pixel cache."""
    hostile_folder(case, case.folder / "in")
    size = (8, 9)
    for _ in range(2):  # decoded, then from the cache
        found = open_pixels(
            Source(case.folder / "in"), Preparation(size, channels="1"), str(case.folder / "cache"), 1, lambda *_: None
        )
        for path, reason in found.skipped:
            assert all(c.isprintable() or c == "\n" for c in strip_control(f"{path}: {reason}"))


def folder_for_refining(case: Case) -> None:
    """A hostile folder, refined; the sources must not change."""
    folder, out = case.folder / "in", case.folder / "out"
    hostile_folder(case, folder)
    before = snapshot(folder)
    config = validated(
        RefineConfig, {"inputs": [str(folder)], "model": "unused", "out": str(out), "workers": 1,
                       "manifest": str(case.folder / "m.jsonl"), "link": case.rng.random() < 0.3},
    )  # fmt: skip
    plan = make_plan(check_inputs([*config.inputs], out), out, None, (0, 1), ANY)
    refuse_existing(plan, out, others=True)
    listener = types.SimpleNamespace(advanced=lambda done, total: None, warning=lambda text: strip_control(text))
    RefineJob(config, plan, refiner(), listener, StopRequest()).run()
    assert snapshot(folder) == before, "a source changed"
    for line in (case.folder / "m.jsonl").read_text().splitlines():
        json.loads(line)


@cache
def refiner() -> ImageRefiner:
    """Return a tiny refiner."""
    with tempfile.TemporaryDirectory() as folder:
        save_network(Path(folder), Refiner(1, 2, 1), {"preprocess": "none", "size": [16, 20]}, {})
        return ImageRefiner(open_model(Path(folder)), torch.device("cpu"), batch_size=4)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return a state that differs if anything below a folder changed."""
    paths = [Path(root) / name for root, folders, names in os.walk(folder) for name in (*folders, *names)]
    return {str(path): (s.st_mode, s.st_size, s.st_mtime_ns) for path in paths for s in [path.lstat()]}


def hostile_zip(rng: Rng) -> bytes:
    """Return a zip with names that lead outside, links, wrong sizes or a bomb."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        warnings.simplefilter("ignore")  # for repeated names
        for _ in range(rng.randrange(1, 4)):
            name = rng.choice(("../x.png", "/x.png", "a/../../x.png", "..\\x.png", "C:x.png", "a.png", *NAMES, ""))
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = rng.choice((0, 0, 0o120777 << 16, 0o010644 << 16, 0o100644 << 16))
            content = rng.choice((images()["l.png"], images()["l.png"], b"", bytes(3_000_000)))
            target.writestr(info, content)
    return maybe_mutated(file.getvalue(), rng)


def hostile_tar(rng: Rng) -> bytes:
    """Return a tar with names that lead outside, links, devices, sparse files or wrong sizes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=rng.choice((0, 1, 2))) as target:
        for _ in range(rng.randrange(1, 4)):
            info = tarfile.TarInfo(
                rng.choice(("../x.png", "/x.png", "a/../x.png", "a.png", "b" * 300 + ".png", *NAMES))
            )
            info.type = rng.choice(
                (tarfile.REGTYPE,) * 5 + (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, b"S", b"x")
            )
            info.linkname = "/etc/passwd"
            content = images()["l.png"]
            info.size = len(content) if info.type == tarfile.REGTYPE else 0
            with contextlib.suppress(ValueError, UnicodeError):  # a name that this layout cannot hold
                target.addfile(info, io.BytesIO(content))
    return maybe_mutated(file.getvalue(), rng)


def archive(case: Case) -> None:
    """An archive, listed, read and rewritten."""
    rng = case.rng
    kind = rng.choice(("zip", "tar", "tar.gz", "bomb"))
    if kind == "bomb":
        kind = "tar.gz"
        content = zlib.compress(bytes(90_000_000), 9, wbits=31)
    else:
        content = hostile_zip(rng) if kind == "zip" else hostile_tar(rng)
        if kind == "tar.gz":
            content = maybe_mutated(zlib.compress(content, wbits=31), rng)
    path = case.file(f"in/shard.{kind}", content)
    _, archives = open_archives(read_tree(path))
    for found in archives:
        for member in found.members():
            with contextlib.suppress(SimganError):
                read_pixels(member, Preparation())
        with (case.folder / f"again.{kind}").open("wb") as file:
            write_archive(found, file, lambda number: [("a.png", b"x")], others=True)
        found.close()
    if not archives:
        make_plan(check_inputs([path], case.folder / "out"), case.folder / "out", None, (0, 1), ANY)


def label_format(rng: Rng) -> LabelFormat:
    """Return a random format of labels."""
    return LabelFormat(
        rng.choice(("gaze", "gaze", "pupil")), rng.choice((None, (9, 11))), rng.choice(("none", "equalize")),
        rng.choice(("mpiigaze", "gazehub", "xgaze")), rng.random() < 0.3,
    )  # fmt: skip


def csv_labels(case: Case) -> None:
    """A labels.csv with wrong columns, numbers, files and encodings."""
    rng = case.rng
    for index in range(3):
        case.file(f"{index}.png", images()["l.png"])
    header = rng.choice(
        ("file,pitch,yaw", "file,gx,gy,gz", "file,pupil_x,pupil_y", "file,pitch,yaw,person", "file,file", "")
    )
    cells = [
        "0.png", "1.png", "2.png", "0.1", "-0.2", "nan", "inf", "1e999", "", "../x.png", "/etc/passwd", "=1+1", "\0",
        '"', "p00", "\x1b[0m", "9" * 5000,
    ]  # fmt: skip
    lines = [",".join(rng.choice(cells) for _ in range(rng.randrange(1, 6))) for _ in range(rng.randrange(4))]
    good = [
        f"{index}.png," + ",".join(f"{rng.uniform(-1, 1):.3f}" for _ in range(header.count(","))) for index in range(3)
    ]
    text = "\n".join([header, *(rng.choice((good, lines)))])
    content = text.encode(rng.choice(("utf-8", "utf-8-sig", "utf-16", "utf-8")), "surrogatepass")
    case.file("labels.csv", maybe_mutated(content, rng))
    read(case.folder, label_format(rng))


def unityeyes(case: Case) -> None:
    """UnityEyes' JSON with wrong values."""
    render = {
        "interior_margin_2d": ["(10.0, 10.0, 5.0)", "(20.0, 12.0, 5.0)"], "iris_2d": ["(14.0, 11.0, 5.0)"],
        "eye_details": {"look_vec": "(0.1, 0.2, -0.97, 0.0)"}, "head_pose": "(0, 0, 0)",
    }  # fmt: skip
    for index in range(2):
        case.file(f"{index}.png", images()["l.png"])
        case.file(f"{index}.json", json_bytes(mutated_json(render, case.rng) if index else render, case.rng))
    read(case.folder, label_format(case.rng))


def arrays(rng: Rng) -> dict[str, Any]:
    """Return arrays as in data sets of gaze, some of them wrong."""
    noise = np.random.default_rng(rng.randrange(2**32))
    odd = iter([rng.random() < 0.15 for _ in range(9)])  # most values are valid, so that later checks run
    count = 0 if next(odd) else rng.choice((1, 3))
    shape = (
        rng.choice(((1, 9, 11), (0, 5), (), (9, 11, 2))) if next(odd) else rng.choice(((9, 11), (9, 11, 1), (9, 11, 3)))
    )
    kind: Any = rng.choice((np.float32, np.int64, np.complex64, np.bool_, "U5", "M8[s]")) if next(odd) else np.uint8
    image = noise.integers(0, 2, (count, *shape)).astype(kind)
    rows = count + next(odd)
    label = noise.normal(size=(rows, rng.choice((1, 0)) if next(odd) else rng.choice((2, 3, 16)))) * 0.3
    if next(odd):
        label = label * rng.choice((1e300, 0, float("nan")))
    if next(odd):
        label = label.astype(rng.choice((np.complex64, "U5", np.int8)))
    data: dict[str, Any] = {rng.choice(("x", "image", "data")): image, "gaze": label, "pupil": label}
    if rng.random() < 0.4:
        data[rng.choice(("person", "file"))] = noise.integers(0, 9, count + next(odd))
    return data


class Payload:
    """An object that writes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def npz(case: Case) -> None:
    """An npz of wrong arrays, with a pickle inside, or mutated."""
    rng = case.rng
    content, trap = arrays(rng), case.folder / "unpickled"
    if rng.random() < 0.3:
        content[rng.choice(sorted(content))] = np.array([Payload(trap)], dtype=object)
    file = io.BytesIO()
    np.savez_compressed(file, **{key.replace("file", "files"): value for key, value in content.items()})  # its own name
    data = file.getvalue()
    if rng.random() < 0.1:  # a header that claims a terabyte
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as target:
            text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }"
            header = b"\x93NUMPY\x01\0" + struct.pack("<H", len(text) + 1) + text + b"\n"
            target.writestr("x.npy", header)
            target.writestr("gaze.npy", header)
        data = file.getvalue()
    path = case.file("eyes.npz", maybe_mutated(data, rng))
    try:
        read(path, label_format(rng), rng.choice(("auto", "npz")))
    finally:
        assert not trap.exists(), "a pickle was read"


def hdf5(case: Case) -> None:
    """HDF5 of wrong arrays and groups, with links out of it, or mutated."""
    rng = case.rng
    file = io.BytesIO()
    with h5py.File(file, "w") as target:
        place = rng.choice(("", "p00/", "a/b/c/", "Data/"))
        for key, value in arrays(rng).items():
            with contextlib.suppress(TypeError):  # a type that HDF5 lacks
                target[place + key] = value
        if rng.random() < 0.2:
            target["circle"] = h5py.SoftLink("/")
            target["out"] = h5py.ExternalLink("/etc/passwd", "/x")
            target["nowhere"] = h5py.SoftLink("/nowhere")
    path = case.file("eyes.h5", maybe_mutated(file.getvalue(), rng))
    read(path, label_format(rng), rng.choice(("auto", "hdf5")))


def mat(case: Case) -> None:
    """A day of MPIIGaze with wrong fields, or mutated."""
    rng = case.rng
    noise = np.random.default_rng(rng.randrange(2**32))
    count = rng.choice((0, 1, 2))
    side = {"image": noise.integers(0, 256, (count, 36, 60), np.uint8), "gaze": noise.normal(size=(count, 3))}
    data: dict[str, Any] = {
        "data": {"left": dict(side), "right": dict(side)},
        "filenames": np.array([f"{i}.jpg" for i in range(count)], object),
    }
    way = rng.randrange(6)
    if way == 0:
        del data["data"]["left"]
    elif way == 1:
        data["data"]["right"]["image"] = rng.choice(
            (np.zeros((2, 2)), np.array("x"), noise.normal(size=(count, 36, 60)))
        )
    elif way == 2:
        data["filenames"] = np.zeros(rng.choice((0, 7)))
    elif way == 3:
        data["data"]["left"]["gaze"] = rng.choice((np.full((count, 3), np.nan), np.zeros((count, 2)), np.array("y")))
    file = io.BytesIO()
    scipy.io.savemat(file, data, do_compression=rng.random() < 0.5)
    case.file("p00/day01.mat", maybe_mutated(file.getvalue(), rng))
    read(case.folder, label_format(rng))


def settings(case: Case) -> None:
    """A TOML file of wrong keys and values, and an environment likewise."""
    rng = case.rng
    for name in "ab":
        (case.folder / name).mkdir()
    lines = ["[train]", *(f"{key} = '{case.folder / name}'" for key, name in (("synthetic", "a"), ("real", "b")))]
    values = [
        "1", "-1", "1e400", "nan", '"x"', "[]", "{}", "true", '"\\u0000"', "9" * 400, "1979-05-27", '"35x55"',
        '"identity=1e999"', '"auto"', '"1h1m"', '"../x"', "[[1]]",
    ]  # fmt: skip
    keys = [
        "steps", "lambda", "psi", "size", "out", "device", "cache", "max-time", "fit", "flip", "ema", "workers",
        "steps", "x",
    ]  # fmt: skip
    lines += [f"{rng.choice(keys)} = {rng.choice(values)}" for _ in range(rng.randrange(1, 4))]
    path = case.file("settings.toml", maybe_mutated("\n".join(lines).encode(), rng))
    environment = {
        "SIMGAN_" + rng.choice(("TRAIN_STEPS", "TRAIN_LAMBDA", "TRAIN_PSI", "SEED", "x", "\N{SNOWMAN}")): rng.choice(
            ("", "9" * 5000, "\ud800", "nan", "1")
        )
    }
    resolve(*gather("train", {}, path, environment if rng.random() < 0.5 else {}))


def model(case: Case) -> None:
    """An exported refiner with a wrong config.json or weights."""
    rng, folder = case.rng, case.folder / "model"
    shutil.copytree(run_template() / "refiner", folder)
    target = folder / rng.choice(("config.json", "model.safetensors"))
    corrupt(target, rng)
    opened = open_model(folder)
    ImageRefiner(opened, torch.device("cpu"))(np.zeros((16, 20, opened.channels), np.uint8))


def corrupt(file: Path, rng: Rng) -> None:
    """Corrupt a file of JSON or of tensors."""
    if file.suffix == ".safetensors":
        file.write_bytes(hostile_tensors(file.read_bytes(), rng))
    else:
        file.write_bytes(json_bytes(mutated_json(json.loads(file.read_text()), rng), rng))


def hostile_tensors(content: bytes, rng: Rng) -> bytes:
    """Return a safetensors file with wrong types, shapes, offsets or size in its header."""
    size = int.from_bytes(content[:8], "little")
    way = rng.randrange(5)
    if way == 0:
        return mutated(content, rng)
    if way == 1:
        return rng.choice((0, 1, 2**32, 2**63, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    header = json.loads(content[8 : 8 + size])
    if way == 4:
        tensors = {name: torch.full((2,), float("nan")) for name in header if name != "__metadata__"}
        return save_tensors(tensors, {"step": rng.choice(("-1", "9" * 5000, "\u0661", "x"))})
    text = json_bytes(mutated_json(header, rng), rng)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


@cache
def run_template() -> Path:
    """Return a run folder of a tiny training, with a checkpoint; it is copied, never changed."""
    folder = Path(tempfile.mkdtemp(prefix="simgan-fuzz-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = TrainConfig(
        synthetic=Path("a"), real=Path("b"), out=folder, refiner_width=2, refiner_blocks=1, batch_size=4,
        history_size=8, pretrain_discriminator=0, steps=2,
    )  # fmt: skip
    state = state_of(config)
    run = RunFolder(folder)
    run.create(config)
    for step in range(2):
        state.gan.advance(step, state.samplers["synthetic"], state.samplers["real"])
    state.step = 2
    state.snapshot(state.gather_rank_states()).save(run.checkpoint(2))
    save_network(run.refiner, state.gan.exported_refiner, {"preprocess": "none", "size": [16, 20]}, {"step": "2"})
    line = {"step": 2, "phase": "adversarial", "loss_refiner": 1.0, "loss_discriminator": 1.0, "accuracy_real": 0.5,
            "accuracy_refined": 0.5, "correlation": 0.9, "change": 0.01, "swd_refined": 0.1, "swd_synthetic": 0.2,
            "swd_real": 0.05, "label_drift": 0.1, "peak_memory_mb": 1.0}  # fmt: skip
    run.append_metrics(line)
    return folder


def state_of(config: TrainConfig) -> TrainState:
    """Return a training of noise that has not begun."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 1, 16, 20), np.uint8)
    domains = {name: PixelSet(Path(name), noise, [], name) for name in ("synthetic", "real")}
    return build_state(config, domains, torch.device("cpu"))


def run_folder(case: Case) -> None:
    """A run with a corrupted checkpoint or settings."""
    rng, root = case.rng, case.folder / "run"
    shutil.copytree(run_template(), root)
    run = RunFolder(root)
    checkpoint = run.checkpoint(2)
    corrupt(rng.choice([run.config, *checkpoint.iterdir(), *[checkpoint / "state.json"] * 6]), rng)
    errors: list[SimganError] = []
    ways: tuple[Callable[[], object], ...] = (
        lambda: open_model(root), lambda: open_model(root, 2), lambda: look_into(root), lambda: resume(run),
    )  # fmt: skip
    for way in ways:
        try:
            way()
        except SimganError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def look_into(root: Path) -> None:
    """Run inspect-buffer."""
    view = open_buffer(root, None)
    describe(view, scores_by_age(view) if view.filled else None)


def resume(run: RunFolder) -> None:
    """Run train --resume up to its first step, and draw its report."""
    checkpoint = find_checkpoint(run, "auto")
    if checkpoint is None:
        return
    config = resumed_config(checkpoint, {"out": run.root})
    state = state_of(config)
    state.load(checkpoint)
    run.rewind_to(state.step, checkpoint)
    lines = run.read_metrics()
    conclude(lines, config.select)
    history = excerpt_of(state.gan.history, N_HISTORY_IMAGES)
    images = {"synthetic": 8, "real": 8}
    write_page(run, config, images, Health(config, lines).verdicts(), history, state.step)


KINDS: dict[Callable[[Case], None], int] = {  # with how many of each round
    image_mutation: 12, image_claim: 2, folder_for_training: 2, folder_for_refining: 2, archive: 4, csv_labels: 3,
    unityeyes: 3, npz: 3, hdf5: 3, mat: 3, settings: 3, model: 4, run_folder: 4,
}  # fmt: skip
ROUND = [kind for kind, times in KINDS.items() for _ in range(times)]


# Running cases


class TooSlow(BaseException):
    """A case took longer than it may."""


@dataclass
class Result:
    """The results of a round of cases."""

    cases: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # ended in a SimganError
    findings: dict[str, list[int]] = field(default_factory=dict)  # description to its cases
    slowest: tuple[float, int, str] = (0.0, 0, "")
    largest: tuple[int, int, str] = (0, 0, "")


# Audit events that change a file, and the index of its path in their arguments.
CHANGING = {
    "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.truncate": 0, "os.chmod": 0, "os.rename": 1, "os.link": 1,
    "os.symlink": 1,
}  # fmt: skip
_home: Path | None = None  # the folder of the current case
_outside: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _home is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _note(os.fsdecode(arguments[0]))
    elif event in CHANGING:
        _note(os.fsdecode(arguments[CHANGING[event]]))
    elif event in {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class"}:
        _outside.append(f"{event} {str(arguments[0])[:80]}")


def _note(path: str) -> None:
    real = os.path.realpath(path)  # what is opened, through all links
    if _home is not None and real != str(_home) and not real.startswith(f"{_home}/") and path != os.devnull:
        _outside.append(f"wrote to {path}")


def run(numbers: Iterable[int], seed: int, tell: Callable[[str], object] = lambda text: None) -> Result:
    """Run cases and return their results."""
    global _home
    refiner(), run_template(), images()
    result = Result()
    before = signal.signal(signal.SIGPROF, _too_slow)
    if not getattr(run, "hooked", False):
        sys.addaudithook(_watch)  # for good: an audit hook cannot be removed
        run.hooked = True  # type: ignore[attr-defined]
    with (
        tempfile.TemporaryDirectory(prefix="simgan-fuzz-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as base,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for number in numbers:
            kind = ROUND[number % len(ROUND)]
            folder = Path(base).resolve() / str(number)
            folder.mkdir()
            tempfile.tempdir = str(folder)
            _outside.clear()
            started, memory = time.process_time(), _start_memory()
            _home = folder
            signal.setitimer(signal.ITIMER_PROF, WALL)
            finding = None
            try:
                kind(Case(Rng(f"{seed}/{number}"), folder))
            except SimganError:
                result.refused[kind.__name__] += 1
            except TooSlow:
                finding = f"longer than {WALL:g} s"
            except Exception as error:
                if is_out_of_memory(error):
                    result.refused[kind.__name__] += 1  # the command line says it clearly, too
                else:
                    finding = described(error)
                    tell(traceback.format_exc())
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                _home = None
            seconds, used = time.process_time() - started, _peak_memory() - memory
            size = f"{used / 1e6:.0f} MB" if used > MEMORY else None
            for problem in filter(None, (finding, size, *_outside)):
                result.findings.setdefault(f"{kind.__name__}: {problem}", []).append(number)
            result.cases[kind.__name__] += 1
            result.slowest = max(result.slowest, (seconds, number, kind.__name__))
            result.largest = max(result.largest, (used, number, kind.__name__))
            shutil.rmtree(folder, ignore_errors=True)
    tempfile.tempdir = None
    signal.signal(signal.SIGPROF, before)
    return result


def described(error: Exception) -> str:
    """Return the type of an error and its place: our own line, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if "simgan_cli" in frame.filename] or frames)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:90]!r}"


def _too_slow(*_: object) -> None:
    raise TooSlow


def _start_memory() -> int:
    """Return the current resident bytes, and reset the peak where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS:")


def _peak_memory() -> int:
    return _status("VmHWM:")


def _status(name: str) -> int:
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(line.split()[1]) * 1024


def table(result: Result) -> str:
    """Return a Markdown table of cases by kind, and the worst below it."""
    lines = ["| kind | cases | refused with a clear error |", "|---|---|---|"]
    lines += [
        f"| {kind.replace('_', ' ')} | {count:,} | {result.refused[kind]:,} |" for kind, count in result.cases.items()
    ]
    lines.append(f"| all | {result.cases.total():,} | {result.refused.total():,} |")
    seconds, number, kind = result.slowest
    lines.append(f"\nSlowest: {seconds:.2f} s (case {number}, {kind}); bound {WALL:g} s.")
    used, number, kind = result.largest
    lines.append(
        f"Largest: {used / 1e6:.0f} MB above the process's own (case {number}, {kind}); bound {MEMORY / 1e6:.0f} MB."
    )
    lines.append(f"Findings: {len(result.findings)}")
    lines += [
        f"- {problem} ({len(numbers)} cases: {numbers[:5]})" for problem, numbers in sorted(result.findings.items())
    ]
    return "\n".join(lines)


def main() -> int:
    """Run cases and print the table; exit with 1 on any finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case alone and show its traceback")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faulthandler.enable()
    is_one = arguments.only is not None
    numbers = range(arguments.only, arguments.only + 1) if is_one else range(arguments.cases)
    started = time.monotonic()
    result = run(_announced(numbers), arguments.seed, *([print] if is_one else []))
    print(table(result))
    print(f"Seed {arguments.seed}, {time.monotonic() - started:.0f} s.")
    return bool(result.findings)


def _announced(numbers: range) -> Iterator[int]:
    """Yield the numbers; end the process with a traceback where a case hangs and takes no signal."""
    for number in numbers:
        faulthandler.dump_traceback_later(HANG, exit=True)
        if number % 500 == 0:
            sys.stderr.write(f"CASE {number}\n")
        yield number
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(main())

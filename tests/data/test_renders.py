"""Renders in formats for numbers: colours go through a curve and back, everything else stays."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from simgan_cli.data.decoding import decode
from simgan_cli.data.renders import Curve, NoColours, Render, from_display, read_render, to_display, write_render
from simgan_cli.engine.refining.image_file import Reading, read_picture, write_picture
from simgan_cli.errors import UnreadableImage

openexr: Any = pytest.importorskip("OpenEXR", reason="needs simgan-cli[renders]")
tifffile: Any = pytest.importorskip("tifffile", reason="needs simgan-cli[renders]")
h5py: Any = pytest.importorskip("h5py", reason="needs simgan-cli[renders]")

RNG = np.random.default_rng(0)
H, W = 20, 14
Array = NDArray[Any]
HALVES = [np.float16(value) for value in (0.25, -1.5, 30000.0)]


def light(*shape: int, dtype: str = "f4") -> Array:
    """Return values around 0 to 1, with highlights and negatives among them."""
    return np.asarray(RNG.normal(0.4, 0.5, shape)).astype(dtype)


def exr(channels: dict[str, Any] | None = None, **header: Any) -> bytes:
    planes = {name: light(H, W, dtype="f2") for name in "RGBA"} | {
        "ViewLayer.Depth.Z": light(H, W) * 1e9,
        "Normal.X": light(H, W, dtype="f2"),
        "CryptoObject00.r": RNG.integers(0, 2**31, (H, W), np.int32).view(np.float32).clip(-1e30, 1e30),
        "IndexOB": RNG.integers(0, 2**32, (H, W), np.uint32),
    }
    file = io.BytesIO()
    openexr.File(header, planes if channels is None else channels).write(file)
    return file.getvalue()


def tiff(array: Array, **options: Any) -> bytes:
    file = io.BytesIO()
    defaults = {"photometric": "rgb" if array.ndim == 3 else "minisblack", "metadata": None}
    tifffile.imwrite(file, array, **defaults | options)
    return file.getvalue()


def npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def hdf5(**datasets: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content.attrs["renderer"] = "cycles"
        for name, data in datasets.items():
            content.create_dataset(name, data=data, **({"compression": "gzip"} if np.ndim(data) else {}))
            content[name].attrs["unit"] = name
    return file.getvalue()


def read(name: str, content: bytes) -> Render:
    render = read_render(Path(name), content)
    assert render is not None
    return render


def refused(name: str, content: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_render(Path(name), content)
    return str(caught.value)


def brightened(render: Render) -> Array:
    """Return other values at every second pixel."""
    values = render.values.copy()
    values[::2] = values[::2] // 2 + 3 if values.dtype.kind == "u" else values[::2] * 0.5 + 0.125
    return values


def exr_parts(content: bytes) -> list[tuple[str, dict[str, Any], dict[str, Array]]]:
    parts = openexr.File(io.BytesIO(content), separate_channels=True).parts
    return [
        (part.name(), {key: repr(value) for key, value in part.header.items()}, {
            name: channel.pixels for name, channel in part.channels.items()
        })
        for part in parts
    ]  # fmt: skip


TILES = {"type": openexr.tiledimage, "tiles": openexr.TileDescription()}
LOSSLESS = {
    "zip.exr": lambda: exr(compression=openexr.ZIP_COMPRESSION, camera="left é", frame=7),
    "piz.exr": lambda: exr(compression=openexr.PIZ_COMPRESSION, lineOrder=openexr.DECREASING_Y),
    "tiles.exr": lambda: exr(**TILES),
    "window.exr": lambda: exr(dataWindow=(np.array([3, 4], "i4"), np.array([3 + W - 1, 4 + H - 1], "i4"))),
    "grey.exr": lambda: exr({"Y": light(H, W), "Z": light(H, W)}),
    "layer.exr": lambda: exr({f"ViewLayer.Combined.{band}": light(H, W) for band in "RGBA"} | {"L.Z": light(H, W)}),
    "plain.tif": lambda: tiff(light(H, W, 3)),
    "half.tif": lambda: tiff(light(H, W, dtype="f2")),
    "double.tif": lambda: tiff(light(H, W, 3, dtype="f8"), byteorder=">"),
    "alpha.tif": lambda: tiff(light(H, W, 4), extrasamples=["assocalpha"]),
    "planes.tif": lambda: tiff(light(3, H, W), planarconfig="separate"),
    "tiles.tif": lambda: tiff(light(H, W, 3), tile=(16, 16)),
    "big.tif": lambda: tiff(light(H, W, 3), bigtiff=True, rowsperstrip=3),
    "float.npy": lambda: npy(light(H, W, 3)),
    "half.npy": lambda: npy(light(H, W, dtype="f2")),
    "swapped.npy": lambda: npy(RNG.integers(0, 65536, (H, W, 3)).astype(">u2")),
    "fortran.npy": lambda: npy(np.asfortranarray(light(H, W, 4))),
    "single.npy": lambda: npy(RNG.integers(0, 256, (H, W, 1), np.uint8)),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_changing_colours_and_changing_them_back_gives_the_same_file(name: str) -> None:
    content = LOSSLESS[name]()
    render = read(name, content)
    assert render.values.shape[:2] == (H, W)
    assert write_render(render, render.values.copy()) == content
    changed = brightened(render)
    written = write_render(render, changed)
    again = read(name, written)
    assert len(written) == len(content) or name.endswith(".exr")
    step = 2**-10 if name.startswith(("zip", "piz", "tiles.exr", "window", "half")) else 1e-7
    np.testing.assert_allclose(again.values, changed, rtol=step, atol=1e-7)
    np.testing.assert_array_equal(again.values[1::2], render.values[1::2])
    if render.alpha is not None and again.alpha is not None:
        np.testing.assert_array_equal(again.alpha, render.alpha)
    if name != "double.tif":  # float32 does not hold them
        assert write_render(again, render.values) == content


LOSSY = {
    f"{name}.exr": lambda name=name: exr(compression=getattr(openexr, f"{name}_COMPRESSION"))
    for name in ("PXR24", "B44", "DWAA")
}


@pytest.mark.parametrize("name", [*(name for name in LOSSLESS if name.endswith(".exr")), *LOSSY])
def test_an_exr_keeps_its_header_compression_and_all_other_channels(name: str) -> None:
    content = (LOSSLESS | LOSSY)[name]()
    render = read(name, content)
    assert render.is_lossy == (name in LOSSY)
    written = write_render(render, brightened(render))
    [(_, header, before)], [(_, header_after, after)] = exr_parts(content), exr_parts(written)
    assert header_after == header
    for channel, pixels in before.items():
        assert after[channel].dtype == pixels.dtype
        assert (after[channel].tobytes() != pixels.tobytes()) == (channel in render.channels), channel


def exr_of_parts(*parts: Any) -> bytes:
    file = io.BytesIO()
    openexr.File(list(parts)).write(file)
    return file.getvalue()


def test_alpha_beyond_0_to_1_is_fully_transparent_or_opaque() -> None:
    """Filters with negative lobes leave such values at edges."""
    alpha = np.array([[-0.01], [0.5], [1.01]], np.float16).repeat(8, axis=1).repeat(4, axis=0)
    content = exr({"A": alpha} | {band: np.full(alpha.shape, 0.25, "f2") for band in "RGB"})
    decoded = decode(Path("a.exr"), content)
    assert decoded.alpha is not None
    assert decoded.alpha[::4, 0].tolist() == [0, 32768, 65535]


def test_an_exr_keeps_its_other_parts() -> None:
    depth = openexr.Part({"unit": "m"}, {"Z": light(H, W)}, "depth")
    colour = openexr.Part({}, {band: light(H, W) for band in "RGB"}, "colour")
    content = exr_of_parts(colour, depth)
    render = read("a.exr", content)
    before, after = exr_parts(content), exr_parts(write_render(render, brightened(render)))
    assert [part[0] for part in after] == ["colour", "depth"]
    assert after[1][1] == before[1][1]
    np.testing.assert_array_equal(after[1][2]["Z"], before[1][2]["Z"])
    with pytest.raises(NoColours, match="holds the channels Z, B, G, R; wanted"):
        read("a.exr", exr_of_parts(depth, colour))
    assert refused("a.exr", content[:-3]).endswith("cut off EXR; render or copy it again")


def test_damaged_pixels_of_an_exr_are_refused_in_each_part() -> None:
    ramp = np.linspace(0, 1, H * W, dtype=np.float32).reshape(H, W)  # packs well: noise would be stored as it is
    colour, depth = openexr.Part({}, dict.fromkeys("RGB", ramp), "colour"), openexr.Part({}, {"Z": ramp}, "depth")
    content = exr_of_parts(colour, depth)
    for place in (content.rindex(b"x^"), content.index(b"x^")):  # where zlib's streams begin
        damaged = content[: place + 9] + b"\xff" * 50 + content[place + 59 :]
        assert "damaged or cut off EXR" in refused("a.exr", damaged)


def test_an_exr_that_cannot_be_rewritten_unchanged_is_refused() -> None:
    levels = openexr.TileDescription()
    levels.mode = openexr.MIPMAP_LEVELS
    samples = np.empty((H, W), object)
    samples.fill(np.ones(2, np.float32))
    half = openexr.Channel(light(H, W, dtype="f2"), 2, 2)
    made = [
        exr(type=openexr.tiledimage, tiles=levels),
        exr(multiView=["left", "right"]),
        exr(dict.fromkeys("RGB", samples), type=openexr.deepscanline, compression=openexr.ZIPS_COMPRESSION),
        exr({"Y": light(H, W, dtype="f2"), "RY": half, "BY": half}),
    ]
    for content in made:
        assert "has deep pixels, mipmaps, subsampled channels or views" in refused("a.exr", content)


@pytest.mark.parametrize("options", [
    {"compression": "zlib"},
    {"compression": "zlib", "predictor": 3, "rowsperstrip": 6},
    {"compression": "lzw", "predictor": 3, "byteorder": ">"},
    {"compression": "lzw", "tile": (16, 16)},
    {"compression": "zstd", "bigtiff": True},
    {"compression": "packbits", "rowsperstrip": 1},
])  # fmt: skip
@pytest.mark.parametrize("shape", [(H, W), (H, W, 3), (3, H, W)])
def test_a_packed_tiff_keeps_its_packing_and_tags(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    flat = np.full(shape, 0.25, np.float32)  # packs to little, so that noise does not fit in its place
    tags = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (42112, "s", 0, "<GDALMetadata/>", True)]
    planes = {"planarconfig": "separate"} if shape[0] == 3 else {}
    content = tiff(flat, description='{"frame": 7}', resolution=(300, 300), extratags=tags, **options, **planes)
    render = read("a.tif", content)
    values = light(*render.values.shape)
    written = write_render(render, values)
    np.testing.assert_array_equal(read("a.tif", written).values, values)
    places = {"StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts"}
    found = []
    for file in (content, written):
        with tifffile.TiffFile(io.BytesIO(file)) as opened:
            found.append({tag.name: tag.value for tag in opened.pages[0].tags if tag.name not in places})
    assert found[0] == found[1]
    assert found[0]["ModelPixelScaleTag"] == (0.5, 0.5, 0.0)


def test_other_programs_read_a_written_float_tiff() -> None:
    file = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "of a renderer"
    Image.fromarray(light(H, W)).save(file, "TIFF", tiffinfo=tags, compression="tiff_adobe_deflate")
    render = read("a.tif", file.getvalue())
    values = brightened(render)
    with Image.open(io.BytesIO(write_render(render, values))) as image:
        assert image.tag_v2[270] == "of a renderer"  # type: ignore[attr-defined]
        np.testing.assert_array_equal(np.asarray(image), values)


@pytest.mark.parametrize("bands", [3, 4])
def test_blenderprocs_hdf5_keeps_all_other_data_sets(bands: int) -> None:
    content = hdf5(
        colors=RNG.integers(0, 256, (H, W, bands), np.uint8),
        depth=light(H, W),
        category_id_segmaps=RNG.integers(0, 9, (H, W), np.uint8),
        blender_proc_version=np.bytes_(b"2.7.0"),
    )
    render = read("0.hdf5", content)
    assert not render.is_linear
    values = brightened(render)
    with (
        h5py.File(io.BytesIO(content)) as before,
        h5py.File(io.BytesIO(write_render(render, values))) as after,
    ):
        np.testing.assert_array_equal(after["colors"][..., :3], values)
        np.testing.assert_array_equal(after["colors"][..., 3:], before["colors"][..., 3:])
        if render.alpha is not None:
            np.testing.assert_allclose(render.alpha, before["colors"][..., 3] / 255, atol=1e-7)
        assert dict(after.attrs) == dict(before.attrs)
        assert list(after) == list(before)
        for name in before:
            assert dict(after[name].attrs) == dict(before[name].attrs)
            assert (after[name].dtype, after[name].compression, after[name].chunks) == (
                before[name].dtype,
                before[name].compression,
                before[name].chunks,
            )
            assert name == "colors" or after[name][()].tobytes() == before[name][()].tobytes()


def test_the_srgb_curve_gives_the_standards_values() -> None:
    # By hand: 12.92 * 0.001 = 0.01292; 1.055 * 0.18 ** (1 / 2.4) - 0.055 = 0.461356; 0.5 gives 0.735357.
    linear = np.array([[-2.0, 0.0, 0.001, 0.18, 0.5, 1.0, 7.0]], np.float32)
    assert to_display(linear, "srgb").tolist() == [[0, 0, 847, 30235, 48192, 65535, 65535]]
    assert to_display(linear, "linear").tolist() == [[0, 0, 66, 11796, 32768, 65535, 65535]]


def test_a_change_of_display_values_comes_back_as_light() -> None:
    # Display 0.5 is light 0.214041, and 0.75 is 0.522522: the change adds 0.308481.
    original = np.full((1, 3), 32768, np.uint16)
    refined = np.full((1, 3), 49151, np.uint16)
    values = np.array([[0.214041, 5.0, -1.0]], np.float32)
    np.testing.assert_allclose(from_display(refined, original, values, "srgb"), values + 0.308481, atol=2e-5)
    np.testing.assert_allclose(from_display(refined, original, values, "linear"), values + 0.25, atol=2e-5)


LIGHT = st_numpy.arrays(
    np.float32,
    st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.floats(-(2.0**60), 2.0**60, width=32) | st.floats(-1, 2, width=32),
)


@given(LIGHT, st.sampled_from(["srgb", "linear"]), st.integers(0, 2**32 - 1))
def test_unchanged_values_stay_and_others_end_near_what_was_shown(values: Array, curve: Curve, seed: int) -> None:
    original = to_display(values, curve)
    np.testing.assert_array_equal(from_display(original, original, values, curve), values)
    assert np.all(np.diff(to_display(np.sort(values.ravel()), curve).astype(int)) >= 0)
    refined = np.random.default_rng(seed).integers(0, 65536, values.shape, np.uint16)
    changed = from_display(refined, original, values, curve)
    assert changed.dtype == np.float32
    assert np.all(changed >= np.minimum(values, 0))
    assert np.all(changed[(values > 0) & (refined > 0)] > 0)
    shown = refined / 65535
    wanted = shown if curve == "linear" else np.where(shown < 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    within = (values >= 0) & (values <= 1)
    np.testing.assert_allclose(
        changed[within], wanted[within], atol=1.2 / 65535
    )  # half a step where the curve is steep
    assert np.all(np.sign(changed - values) * np.sign(refined.astype(int) - original) >= 0)


@given(st_numpy.arrays(np.float16, (8, 9, 3), elements=st.sampled_from(HALVES)), st.data())
def test_every_changed_value_is_written_and_no_other(stored: Array, data: st.DataObject) -> None:
    content = npy(np.where(np.arange(3) == 0, np.float16(0.5), stored))
    render = read("a.npy", content)
    where = data.draw(st_numpy.arrays(np.bool_, (8, 9, 3)))
    written = np.load(io.BytesIO(write_render(render, np.where(where, np.float32(1e9), render.values))))
    assert written.dtype == np.float16
    np.testing.assert_array_equal(written, np.where(where, np.float16(65504), render.values))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.exr", lambda: exr({"Z": light(H, W), "N.X": light(H, W)}), "holds the channels N.X, Z; wanted R, G and B"),
        ("a.exr", lambda: exr({b: np.ones((H, W), np.uint32) for b in "RGB"}), "holds integers in R, G, B"),
        ("a.exr", lambda: exr({b: light(H, W) * 0 + 9 for b in "RGB"}), "up to 9; nearly all exceed 1"),
        ("a.npy", lambda: npy(light(4, H, W, 3)), "holds an array of 4 x 20 x 14 x 3, float32; wanted H x W"),
        ("a.npy", lambda: npy(light(H, W, 2)), "holds an array of 20 x 14 x 2, float32; wanted"),
        ("a.npy", lambda: npy(np.ones((H, W), np.int64)), "holds an array of 20 x 14, int64; wanted"),
        ("a.npy", lambda: npy(np.array("text")), "holds an array of one value, <U4; wanted"),
        ("a.h5", lambda: hdf5(depth=light(H, W), normals=light(H, W, 3)), "holds depth, normals; wanted the data set"),
        ("a.h5", lambda: hdf5(colors=np.ones((2, H, W, 3), np.uint8)), "2 x 20 x 14 x 3, uint8; wanted .* stereo pair"),
        ("a.tif", lambda: tiff(light(H, W, 5), photometric="minisblack", planarconfig="contig"), "5 float samples"),
        ("a.exr", lambda: exr({band: light(H, W) for band in "XYZ"}), "holds the channels X, Y, Z; wanted R, G and B"),
        ("a.npy", lambda: npy(np.eye(4)), "holds 4 x 4 values; a picture has at least 8 x 8 pixels"),
        ("a.npy", lambda: npy(light(68, 3)), "holds 68 x 3 values"),
        ("a.npy", lambda: npy(np.ones((2, 68), np.uint8)), "holds 2 x 68 values"),
        ("a.exr", lambda: exr({band: light(7, 90) for band in "RGB"}), "holds 7 x 90 values"),
        ("a.h5", lambda: hdf5(**{"colors/0": light(H, W, 3)}), "holds colors, a group; wanted the data set colors"),
    ],
)
def test_other_data_is_refused_by_what_it_holds(name: str, make: Any, message: str) -> None:
    with pytest.raises(NoColours, match=message):
        read_render(Path(name), make())


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.exr", "a.tif", "a.npy"])
def test_infinite_and_nan_values_are_counted_and_refused(name: str, broken: float) -> None:
    values = light(H, W, 3)
    values[2, 3], values[5, 6, 1] = broken, broken
    made = {
        "a.exr": lambda: exr({band: values[..., place].copy() for place, band in enumerate("RGB")}),
        "a.tif": lambda: tiff(values),
        "a.npy": lambda: npy(values),
    }
    assert "4 infinite or NaN values" in refused(name, made[name]())


@pytest.mark.parametrize("name", ["zip.exr", "tiles.exr", "plain.tif", "tiles.tif", "float.npy", "fortran.npy", "a.h5"])
@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_cut_off_file_is_refused(name: str, kept: float) -> None:
    content = LOSSLESS[name]() if name in LOSSLESS else hdf5(colors=light(H, W, 3))
    assert "cut off" in refused(name, content[: int(len(content) * kept)])


def test_links_of_an_hdf5_file_to_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.h5").write_bytes(hdf5(colors=np.ones((H, W, 3), np.uint8)))
    linked, virtual = io.BytesIO(), io.BytesIO()
    with h5py.File(linked, "w") as file:
        file["colors"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "colors")
    with h5py.File(virtual, "w") as file:
        layout = h5py.VirtualLayout((H, W, 3), np.uint8)
        layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "colors", (H, W, 3))
        file.create_virtual_dataset("colors", layout)
    assert "wanted the data set colors" in refused("a.h5", linked.getvalue())
    assert "lies in other files" in refused("a.h5", virtual.getvalue())


def test_pages_sizes_and_orientations_that_are_not_read_are_named() -> None:
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        for _ in range(2):
            writer.write(light(H, W), metadata=None)
    assert "holds 2 pages" in refused("a.tif", pages.getvalue())
    assert "orientation 6" in refused("a.tif", tiff(light(H, W), extratags=[(274, "H", 1, 6, True)]))
    assert "compression 34887" in refused("a.tif", tiff(light(H, W), compression="lerc"))
    huge = npy(np.zeros((1, 1), np.uint8)).replace(b"(1, 1), }", b"(99999, 99999), }").replace(b" " * 8 + b"\n", b"\n")
    assert "99999x99999 pixels" in refused("a.npy", huge)


def test_other_files_are_left_to_other_readers_or_refused() -> None:
    assert read_render(Path("a.tif"), tiff(RNG.integers(0, 256, (H, W, 3), np.uint8))) is None
    assert read_render(Path("a.tif"), b"II*\0" + bytes(9)) is None
    assert read_render(Path("a.png"), b"\x89PNG\r\n\x1a\n") is None
    assert read_render(Path("a.tif"), tiff(np.ones((H, W), np.uint8), byteorder=">", bigtiff=True)) is None
    assert refused("a.exr", b"") == "a.exr: empty file"
    assert "does not start as .exr files do" in refused("a.exr", b"version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.exr", "a.tif", "a.h5"])
def test_a_missing_library_is_named_with_its_install_command(tmp_path: Path, name: str) -> None:
    made = {"a.exr": exr(), "a.tif": tiff(light(H, W)), "a.h5": hdf5(colors=np.ones((H, W), np.uint8))}
    (tmp_path / name).write_bytes(made[name])
    program = (
        "import sys; from pathlib import Path; sys.modules.update(dict.fromkeys(('OpenEXR', 'tifffile', 'h5py')));"
        "from simgan_cli.data.renders import read_render;"
        "path = Path(sys.argv[1]); read_render(path, path.read_bytes())"
    )
    result = subprocess.run([sys.executable, "-c", program, tmp_path / name], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'simgan-cli[renders]'" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "make", "lost"),
    [
        ("a.exr", exr, ("EXR header and other channels", "linear light")),
        ("a.tif", lambda: tiff(light(H, W, 3)), ("TIFF tags", "linear light")),
        ("a.npy", lambda: npy(light(H, W, 3)), ("linear light",)),
        ("a.npy", lambda: npy(np.ones((H, W), np.uint8)), ()),
        ("a.h5", lambda: hdf5(colors=np.ones((H, W, 3), np.uint8)), ("other HDF5 data sets",)),
    ],
)
def test_losses_of_another_format_are_named(tmp_path: Path, name: str, make: Any, lost: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(make())
    picture = read_picture(tmp_path / name)
    assert write_picture(picture, picture.pixels ^ 1, "png").lost == lost
    assert write_picture(picture, picture.pixels ^ 1, None).lost == ()


def test_a_kept_zero_of_a_float_file_stays_the_only_one(tmp_path: Path) -> None:
    values = np.linspace(0, 1, H * W, dtype=np.float32).reshape(H, W)
    (tmp_path / "a.npy").write_bytes(npy(values))
    picture = read_picture(tmp_path / "a.npy", Reading(keep_value=0))
    written = np.load(io.BytesIO(write_picture(picture, np.zeros_like(picture.pixels), None).content))
    np.testing.assert_array_equal(written == 0, values == 0)


def test_a_bigtiff_of_the_other_order_of_bytes_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.ones((H, W), np.uint8), byteorder=">", bigtiff=True))
    with pytest.raises(UnreadableImage, match="a big-endian BigTIFF image, which is not read"):
        decode(tmp_path / "a.tif")

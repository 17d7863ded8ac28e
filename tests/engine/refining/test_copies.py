"""Names of copies and of the labels beside them."""

import pytest

from simgan_cli.engine.refining.copies import Copies

IMAGES = ["a.png", "a.x.png", "deep/1.JPG", "plain"]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("a.json", ["a_0.json", "a_1.json"]),
        ("a.png.json", ["a_0.png.json", "a_1.png.json"]),
        ("a.y.txt", ["a_0.y.txt", "a_1.y.txt"]),
        ("a.x.txt", ["a.x_0.txt", "a.x_1.txt"]),  # the longest stem is its image's
        ("deep/1.txt", ["deep/1_0.txt", "deep/1_1.txt"]),
        ("deep/a.json", ["deep/a.json"]),
        ("ab.json", ["ab.json"]),
        ("labels.csv", ["labels.csv"]),
        (".a.json", [".a.json"]),
    ],
)
def test_labels_beside_an_image_follow_its_looks(path: str, names: list[str]) -> None:
    assert Copies(2, IMAGES, None).others(path) == names
    assert Copies(1, IMAGES, None).others(path) == [path]


def test_images_are_numbered_and_take_the_suffix_of_their_format() -> None:
    assert Copies(2, IMAGES, None).images("deep/1.JPG") == ["deep/1_0.JPG", "deep/1_1.JPG"]
    assert Copies(2, IMAGES, "png").images("deep/1.JPG") == ["deep/1_0.png", "deep/1_1.png"]
    assert Copies(1, IMAGES, "png").images("deep/1.JPG") == ["deep/1.png"]
    assert Copies(2, IMAGES, None).images("plain") == ["plain_0", "plain_1"]


def test_a_table_names_images_below_its_folder_with_or_without_suffix() -> None:
    copies = Copies(2, IMAGES, "png")
    assert copies.edited("labels.csv", b"file\na\ndeep\\1.JPG\n./deep/1\n1.JPG\n") == (
        b"file\na_0\na_1\ndeep\\1_0.png\ndeep\\1_1.png\n./deep/1_0\n./deep/1_1\n1.JPG\n"
    )
    assert copies.edited("deep/labels.csv", b"file\n1.JPG\na.png\n") == b"file\n1_0.png\n1_1.png\na.png\n"
    assert copies.edited("labels.csv", b"name\na.png\n") == b"name\na.png\n"
    assert copies.edited("labels.csv", b"\xff\xfe\xff") == b"\xff\xfe\xff"


@pytest.mark.parametrize(
    ("path", "content", "names_images"),
    [
        ("coco.json", b'{"images": [{"file_name": "train/a.png"}]}', True),
        ("list.txt", "x.png\r\na.x.png\r\n".encode("utf-16"), True),
        ("a.xml", b"<filename>a.png</filename>", True),
        ("coco.json", b'{"images": [{"file_name": "other.png"}]}', False),
        ("list.txt", b"aa.png a.png.txt", False),
        ("labels.csv", b"file\na.png\n", False),
        ("labels.csv", b"name\na.png\n", True),
        ("a.bin", b"a.png", False),
    ],
)
def test_label_files_with_old_image_names_are_found(path: str, content: bytes, names_images: bool) -> None:
    assert Copies(2, IMAGES, None).is_outdated(path, lambda: content) == names_images
    assert not Copies(1, IMAGES, None).is_outdated(path, lambda: content)

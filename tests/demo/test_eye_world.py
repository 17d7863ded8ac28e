import numpy as np
import pytest
from numpy.typing import NDArray

from simgan_cli.demo import webcam
from simgan_cli.demo.eye_world import CLEAN_LOOK, FACE, FIELD, IRIS_DISTANCE, UNIFORM_GAZE, Eyes, Floats, Ranges, render
from simgan_cli.gaze.geometry import vectors_from_angles

SIZE = (70, 110)
RANGES: Ranges = {**UNIFORM_GAZE, **FACE, **CLEAN_LOOK}
# Only the pupil is dark, lids do not hide it, and light has no direction.
BARE: dict[str, float] = {
    "upper": 12, "lower": 12, "aperture": 1, "follow_upper": 0, "follow_lower": 0, "skin": 0.8, "sclera": 0.9,
    "iris": 0.6, "iris_texture": 0, "limbus": 0, "pupil": 0, "pupil_radius": 2.5, "ambient": 1, "lid_shadow": 0,
    "glint": 0, "lash_line": 0, "lashes": 0, "lower_lashes": 0, "brow": 0, "socket": 0, "crease": 0, "wrinkles": 0,
    "veins": 0,
}  # fmt: skip


def eyes(number: int = 1, /, **same: float | NDArray[np.float64]) -> Eyes:
    """Draw eyes with the parameters `same`, for all eyes or for each."""
    given = {name: np.full(number, value) for name, value in same.items()}
    return Eyes.draw(np.random.default_rng(3), number, RANGES, **given)


def dark_centre(image: Floats) -> NDArray[np.float64]:
    """Return x and y of the centre of dark pixels, pixel centres at +0.5."""
    weights = np.clip(0.3 - image, 0, None)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()])


def test_the_pupil_label_is_the_middle_of_the_drawn_pupil() -> None:
    limits = np.array([[0.5], [0.5], [1.5], [1.5]])  # radians, millimetres
    pitch, yaw, x, y = np.random.default_rng(0).uniform(-limits, limits, (4, 100))
    some = eyes(100, **BARE, pitch=pitch, yaw=yaw, x=x, y=y)
    centres = [dark_centre(image) for image in render(some, SIZE)]
    np.testing.assert_allclose(some.pupil_centres(SIZE), centres, atol=0.3)


def test_the_pupil_lies_where_the_gaze_of_the_labels_leads() -> None:
    pitch, yaw = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 100))
    some = eyes(100, pitch=pitch, yaw=yaw, x=0, y=0, ball_x=0, ball_y=0, zoom=1)
    gaze = vectors_from_angles(np.stack([pitch, yaw], axis=1), "mpiigaze")
    np.testing.assert_allclose(np.concatenate(some.gaze(), axis=2)[:, 0], gaze, atol=1e-6)
    middle = np.array([SIZE[1] / 2, SIZE[0] / 2])
    expected = middle + IRIS_DISTANCE * gaze[:, :2] * SIZE[1] / FIELD
    np.testing.assert_allclose(some.pupil_centres(SIZE), expected, atol=1e-3)


def test_an_eye_that_looks_straight_shows_its_pupil_in_the_middle_and_others_where_they_look() -> None:
    plain = {**BARE, "x": 0.0, "y": 0.0, "ball_x": 0.0, "ball_y": 0.0}
    straight, left, right, up, down = (
        dark_centre(render(eyes(**plain, pitch=pitch, yaw=yaw), SIZE)[0])
        for pitch, yaw in ((0, 0), (0, 0.3), (0, -0.3), (0.3, 0), (-0.3, 0))
    )
    np.testing.assert_allclose(straight, [SIZE[1] / 2, SIZE[0] / 2], atol=0.2)
    assert left[0] < straight[0] - 5
    assert right[0] > straight[0] + 5
    assert up[1] < straight[1] - 5
    assert down[1] > straight[1] + 5


def test_the_lids_follow_the_gaze_and_close_beyond_the_corners() -> None:
    x = np.linspace(-8, 8, 5, dtype=np.float32)
    (up, up_lower), (down, down_lower) = (eyes(pitch=pitch, aperture=1).lids(x) for pitch in (0.3, -0.3))
    assert (up < down - 1).all()  # mm, y down
    assert (up_lower < down_lower - 0.5).all()
    assert (up < up_lower).all()
    eye = eyes()
    beyond = np.array([1.1, -1.1], np.float32) * eye.half_width
    top, bottom = eye.lids(beyond)
    assert (top > bottom).all()


def test_landmarks_lie_on_the_picture() -> None:
    some = eyes(20)
    places = some.landmarks(SIZE)
    assert {name: array.shape for name, array in places.items()} == {
        "interior_margin_2d": (20, 16, 2), "caruncle_2d": (20, 7, 2), "iris_2d": (20, 32, 2),
    }  # fmt: skip
    np.testing.assert_allclose(places["iris_2d"].mean(axis=1), some.pupil_centres(SIZE), atol=1e-3)
    margin = places["interior_margin_2d"]
    width = np.ptp(margin[:, :, 0], axis=1)
    np.testing.assert_allclose(width, (2 * some.half_width * some.scale(SIZE)).ravel(), rtol=1e-4)
    assert (places["caruncle_2d"][:, :, 0].mean(axis=1) < margin[:, :, 0].mean(axis=1)).all()  # the nose is on the left


@pytest.mark.parametrize("size", [(35, 55), (36, 60), (64, 64), (20, 90)])
def test_renders_of_any_size_are_valid_images(size: tuple[int, int]) -> None:
    images = render(eyes(8), size)
    assert images.shape == (8, *size)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.std(axis=(1, 2)) > 0.05).all()


def test_an_eye_does_not_depend_on_its_neighbours() -> None:
    some = eyes(5)
    np.testing.assert_array_equal(render(some, SIZE)[2:4], render(some[2:4], SIZE))


def test_a_camera_keeps_positions_and_changes_looks() -> None:
    rng = np.random.default_rng(0)
    clean = render(eyes(64), (35, 55))
    photographs = webcam.photograph(clean, rng) / 255
    # Shifts by phase correlation, averaged over all images: blur and noise move nothing.
    spectrum = (np.fft.fft2(clean) * np.conj(np.fft.fft2(photographs))).sum(axis=0)
    assert np.fft.ifft2(spectrum / np.abs(spectrum)).real.argmax() == 0
    assert np.abs(photographs - clean).mean() > 0.1
    assert photographs.std(axis=(1, 2)).mean() > 1.3 * clean.std(axis=(1, 2)).mean()


def test_the_camera_has_other_looks_and_a_narrower_gaze_but_the_same_shapes() -> None:
    assert webcam.WEBCAM_LOOK.keys() == CLEAN_LOOK.keys()
    assert webcam.WEBCAM_LOOK["iris"][1] < CLEAN_LOOK["iris"][0]
    assert webcam.WEBCAM_LOOK["sclera"][1] < CLEAN_LOOK["sclera"][0]
    gaze = webcam.gaze_at_a_screen(np.random.default_rng(0), 2000)
    for name, (low, high) in UNIFORM_GAZE.items():
        assert gaze[name].min() >= low
        assert gaze[name].max() <= high
        assert gaze[name].std() < 0.7 * (high - low) / np.sqrt(12)

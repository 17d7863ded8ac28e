import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan_cli.gaze.geometry import (
    angles_from_vectors,
    angular_error,
    facing_camera,
    mirrored,
    vectors_from_angles,
)
from simgan_cli.settings.base import Convention

STRAIGHT, UP = (0.0, 0.0, -1.0), (0.0, -np.sin(0.3), -np.cos(0.3))
# The subject's left is the image's right: x > 0.
SUBJECTS_LEFT = (np.sin(0.4), 0.0, -np.cos(0.4))


@pytest.mark.parametrize(
    ("convention", "vector", "angles"),
    [
        ("mpiigaze", STRAIGHT, (0, 0)),
        ("mpiigaze", UP, (0.3, 0)),
        ("mpiigaze", SUBJECTS_LEFT, (0, -0.4)),
        ("gazehub", UP, (0, 0.3)),
        ("gazehub", SUBJECTS_LEFT, (-0.4, 0)),
        ("xgaze", UP, (-0.3, np.pi)),
        ("xgaze", SUBJECTS_LEFT, (0, np.pi - 0.4)),
    ],
)
def test_known_directions_have_the_angles_of_each_convention(
    convention: Convention, vector: tuple[float, ...], angles: tuple[float, ...]
) -> None:
    assert np.allclose(angles_from_vectors(np.array([vector]), convention), [angles])
    assert np.allclose(vectors_from_angles(np.array([angles], float), convention), [vector])


def test_xgaze_files_that_hold_the_reversed_vector_face_the_camera() -> None:
    # As ETH-XGaze's files have it: small angles; pitch > 0 looks up, yaw > 0 to the image's left.
    vectors = facing_camera(vectors_from_angles(np.array([[0.3, 0.0], [0.0, 0.4], [0.0, 0.0]]), "xgaze"))
    assert np.allclose(vectors, [UP, mirrored(np.array([SUBJECTS_LEFT]))[0], STRAIGHT])


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.sampled_from(["mpiigaze", "gazehub", "xgaze"]))
def test_angles_survive_a_round_trip_through_vectors(pitch: float, yaw: float, convention: Convention) -> None:
    angles = np.array([[yaw, pitch] if convention == "gazehub" else [pitch, yaw]])
    assert np.allclose(angles_from_vectors(vectors_from_angles(angles, convention), convention), angles)


def test_angular_error_is_exact_at_its_ends() -> None:
    a = np.array([STRAIGHT, STRAIGHT, STRAIGHT, (1e-9, 0, -1)])
    b = np.array([STRAIGHT, (0, 0, 1), (0, -1, 0), STRAIGHT])
    assert np.allclose(angular_error(a, b), [0, 180, 90, np.degrees(1e-9)], rtol=1e-9, atol=0)

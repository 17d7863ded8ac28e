"""Directions of gaze: unit vectors inside the program, angles only in files and reports.

Vectors are in the camera's frame: x right, y down, z away from the camera. Looking into the camera is (0, 0, -1).
Angles are in radians.
"""

import numpy as np
from numpy.typing import NDArray

from simgan_cli.settings.base import Convention

Vectors = NDArray[np.float64]  # N x 3
Angles = NDArray[np.float64]  # N x 2, in the order of their convention


def vectors_from_angles(angles: Angles, convention: Convention) -> Vectors:
    """Return unit vectors N x 3 of angles N x 2 in the order and signs of `convention`.

    mpiigaze (hysts, ptgaze): (pitch, yaw) with pitch = asin(-y), yaw = atan2(-x, -z). gazehub: the same angles as
    (yaw, pitch). xgaze (ETH-XGaze, GazeML): (pitch, yaw) with pitch = asin(y), yaw = atan2(x, z); files may hold the
    reversed vector (see `facing_camera`).
    """
    first, second = angles.T
    pitch, yaw = (second, first) if convention == "gazehub" else (first, second)
    sign = 1.0 if convention == "xgaze" else -1.0
    return sign * np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], axis=1)


def angles_from_vectors(vectors: Vectors, convention: Convention) -> Angles:
    """Return the angles N x 2 of vectors N x 3 of any length except 0, the inverse of `vectors_from_angles`."""
    x, y, z = unit(vectors).T
    sign = 1.0 if convention == "xgaze" else -1.0
    pitch, yaw = np.arcsin(np.clip(sign * y, -1, 1)), np.arctan2(sign * x, sign * z)
    return np.stack([yaw, pitch] if convention == "gazehub" else [pitch, yaw], axis=1)


def facing_camera(vectors: Vectors) -> Vectors:
    """Return vectors N x 3, all reversed if most point away from the camera.

    ETH-XGaze and GazeML use the vector from the target to the eye, so that looking into the camera is yaw 0. Eyes that
    a camera sees look towards it, so the sign of z shows which vector a file holds.
    """
    return -vectors if np.median(vectors[:, 2]) > 0 else vectors


def unit(vectors: Vectors) -> Vectors:
    """Return vectors scaled to length 1; those of length 0 stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length == 0, 1, length)


def angular_error(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Return the angle between each pair of vectors N x 3, in degrees, N.

    atan2(|a x b|, a . b) is exact for equal and opposite vectors; the arc cosine of a rounded dot product is not.
    """
    across = np.linalg.norm(np.cross(a, b), axis=1)
    angle: NDArray[np.float64] = np.degrees(np.arctan2(across, np.einsum("ij,ij->i", a, b)))
    return angle


def mirrored(vectors: Vectors) -> Vectors:
    """Return vectors N x 3 for an image that is flipped left to right."""
    return np.multiply(vectors, [-1.0, 1.0, 1.0])

"""Directions of gaze: one convention inside, angles only at the edges.

Inside, gaze is a unit vector in the camera's frame: x right, y down, z away from the camera; looking into the camera is
(0, 0, -1). Angles are radians.
"""

import numpy as np
from numpy.typing import NDArray

from simgan_cli.settings.base import Convention

Vectors = NDArray[np.float64]  # N x 3
Angles = NDArray[np.float64]  # N x 2, in the order of their convention


def vectors_from_angles(angles: Angles, convention: Convention) -> Vectors:
    """Return unit vectors N x 3 of angles N x 2 as files of `convention` hold them.

    mpiigaze (hysts, ptgaze): (pitch, yaw) with pitch = asin(-y), yaw = atan2(-x, -z). gazehub: the same angles as
    (yaw, pitch). xgaze (ETH-XGaze, GazeML): (pitch, yaw) with pitch = asin(y), yaw = atan2(x, z); files of that
    convention may hold the reversed vector (see `facing_camera`).
    """
    first, second = angles.T
    pitch, yaw = (second, first) if convention == "gazehub" else (first, second)
    sign = 1.0 if convention == "xgaze" else -1.0
    return sign * np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], axis=1)


def angles_from_vectors(vectors: Vectors, convention: Convention) -> Angles:
    """Return the angles N x 2 of vectors N x 3 of any length but 0: the inverse of `vectors_from_angles`."""
    x, y, z = unit(vectors).T
    sign = 1.0 if convention == "xgaze" else -1.0
    pitch, yaw = np.arcsin(np.clip(sign * y, -1, 1)), np.arctan2(sign * x, sign * z)
    return np.stack([yaw, pitch] if convention == "gazehub" else [pitch, yaw], axis=1)


def facing_camera(vectors: Vectors) -> Vectors:
    """Return vectors N x 3, all reversed if most point away from the camera.

    ETH-XGaze and GazeML take their angles of the vector from what is looked at to the eye, so that looking into the
    camera is yaw 0; an eye that a camera sees looks towards it, which tells the two apart.
    """
    return -vectors if np.median(vectors[:, 2]) > 0 else vectors


def unit(vectors: Vectors) -> Vectors:
    """Return vectors of length 1; those of length 0 stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length == 0, 1, length)


def angular_error(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Return the angle between each pair of vectors N x 3, in degrees, N.

    atan2(|a x b|, a . b): exact for equal and for opposite vectors, where the arc cosine of a rounded dot product is
    NaN or wrong.
    """
    across = np.linalg.norm(np.cross(a, b), axis=1)
    angle: NDArray[np.float64] = np.degrees(np.arctan2(across, np.einsum("ij,ij->i", a, b)))
    return angle


def mirrored(vectors: Vectors) -> Vectors:
    """Return vectors N x 3 as they look in an image that is flipped left to right."""
    return np.multiply(vectors, [-1.0, 1.0, 1.0])

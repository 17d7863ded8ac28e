"""The toy hands of the benchmark of points: joints lie where images show them, and thin parts are lost first."""

import numpy as np
import pytest

from benchmarks.efficacy.points import FAR, JOINTS, RANGE, SIZE, degraded_by_hand, draw, seen_by_a_depth_camera


def test_joints_lie_on_the_hand_also_through_the_camera() -> None:
    rng = np.random.default_rng(0)
    depth, joints = draw(rng, 20)
    assert depth.shape == (20, SIZE, SIZE)
    assert joints.shape == (20, len(JOINTS), 2)
    images = np.arange(20)[:, None]
    columns, rows = np.moveaxis(joints.astype(int), -1, 0)
    assert (depth[images, rows, columns] > 0).all()
    seen = seen_by_a_depth_camera(depth, rng)
    hand, missing = depth > 0, seen == 0
    assert 0.1 < missing[hand].mean() < 0.5
    assert (seen[~hand] > 0).mean() < 0.1
    clear = hand & ~missing
    assert np.abs(seen - depth)[clear].mean() < 0.05


def test_a_camera_loses_more_of_thin_parts_and_is_noisier_far_away() -> None:
    rng = np.random.default_rng(1)
    noise = []
    for value in (0.8, 0.2):
        depth = np.full((20, SIZE, SIZE), value)
        seen = seen_by_a_depth_camera(depth, rng)
        noise.append(np.std(seen[seen > 0]))
    assert noise[1] / noise[0] == pytest.approx(((FAR - 0.2 * RANGE) / (FAR - 0.8 * RANGE)) ** 2, rel=0.1)
    bars = np.zeros((8, SIZE, SIZE))
    bars[:, 10:13] = bars[:, 20:40] = 0.6
    lost = seen_by_a_depth_camera(bars, rng) == 0
    assert lost[:, 10:13].mean() > 3 * lost[:, 22:38].mean()


def test_degrading_by_hand_drops_pixels_at_random_and_leaves_the_background() -> None:
    rng = np.random.default_rng(2)
    depth = np.zeros((50, SIZE, SIZE))
    depth[:, 10:40, 10:40] = 0.6
    degraded = degraded_by_hand(depth, rng)
    assert not degraded[depth == 0].any()
    assert 0.1 < (degraded[depth > 0] == 0).mean() < 0.2
    assert 0.01 < np.std(degraded[degraded > 0]) < 0.05

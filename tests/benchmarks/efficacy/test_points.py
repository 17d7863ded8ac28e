"""The toy hands of the benchmark of points: joints lie where images show them."""

import numpy as np

from benchmarks.efficacy.points import JOINTS, SIZE, draw, seen_by_a_depth_camera


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

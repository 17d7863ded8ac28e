"""The benchmark of the demonstration's domains: its control differs from the camera in looks alone."""

import numpy as np

from benchmarks.efficacy.demo_gap import clean
from simgan_cli.demo.dataset import camera_eyes
from simgan_cli.demo.eye_world import CLEAN_LOOK


def test_the_control_has_gaze_and_shapes_of_the_camera_and_looks_of_the_renderer() -> None:
    camera = camera_eyes(50, np.random.default_rng(1))
    control = clean(camera, 0)
    np.testing.assert_array_equal(control.pupil_centres((35, 55)), camera.pupil_centres((35, 55)))
    assert control.parameters.keys() == camera.parameters.keys()
    for name, theirs in camera.parameters.items():
        ours = control.parameters[name]
        if name in CLEAN_LOOK:
            low, high = CLEAN_LOOK[name]
            assert low <= ours.min()
            assert ours.max() <= np.float32(high)
        else:
            np.testing.assert_array_equal(ours, theirs)

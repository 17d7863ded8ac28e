"""The number of processes of a refining job."""

from pathlib import Path

import pytest

from simgan_cli.engine.refining.plan import check_inputs, make_plan
from simgan_cli.engine.refining.processes import processes_for
from tests.helpers import pack, write_images


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are forked on Linux alone")
@pytest.mark.parametrize(
    ("images", "archives", "cores", "wanted"),
    [(2 * 4 - 1, 0, 4, 1), (2 * 4, 0, 4, 2), (100, 0, 4, 4), (100, 1, 4, 1), (2, 4, 4, 4), (100, 0, 1, 1)],
)
def test_few_images_few_archives_and_large_images_stay_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, archives: int, cores: int, wanted: int
) -> None:
    monkeypatch.setattr("simgan_cli.engine.refining.processes.MIN_IMAGES", 4)
    folder = write_images(tmp_path / "images", images, 1, shape=(4, 4))
    for number in range(archives):
        pack(write_images(tmp_path / f"shard-{number}", 4, 2, shape=(4, 4)), folder / f"{number}.tar")
    plan = make_plan(check_inputs([folder], tmp_path / "out"), tmp_path / "out", None, (0, 1))
    assert processes_for(plan, cores, (4, 4)) == wanted
    assert processes_for(plan, cores, (2160, 3840)) == 1

"""The number of processes of a refining job, and their parts."""

import multiprocessing
import sys
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


@pytest.mark.parametrize("processes", [(1, 1), (2, 1), (3, 2)])
def test_parts_are_complete_however_many_processes_share_each(tmp_path: Path, processes: tuple[int, int]) -> None:
    folder = write_images(tmp_path / "images", 11, 1, shape=(4, 4))
    for number in range(5):
        pack(write_images(tmp_path / f"shard-{number}", 2, 2, shape=(4, 4)), folder / f"{number}.tar")
    (folder / "labels.csv").touch()
    inputs = check_inputs([folder], tmp_path / "out")
    plans = [
        plan
        for part, count in enumerate(processes)
        for plan in make_plan(inputs, tmp_path / "out", None, (part, len(processes))).split(count)
    ]
    images = [str(task.source) for plan in plans for task in plan.image_tasks()]
    others = [str(task.source) for plan in plans for task in plan.other_tasks()]
    assert len(images) == len(set(images)) == 11 + 5 * 2
    assert others == [str(folder / "labels.csv")]


def _end_with_number_of_processes(folder: Path) -> None:
    out = folder.with_name("out")
    sys.exit(processes_for(make_plan(check_inputs([folder], out), out, None, (0, 1)), 2, (4, 4)))


@pytest.mark.slow
@pytest.mark.parametrize(("daemon", "wanted"), [(False, 2), (True, 1)])
def test_a_process_that_may_have_no_children_refines_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemon: bool, wanted: int
) -> None:
    monkeypatch.setattr("simgan_cli.engine.refining.processes.MIN_IMAGES", 4)
    folder = write_images(tmp_path / "images", 8, 1, shape=(4, 4))
    process = multiprocessing.get_context("fork").Process(
        target=_end_with_number_of_processes, args=(folder,), daemon=daemon
    )
    process.start()
    process.join()
    assert process.exitcode == wanted

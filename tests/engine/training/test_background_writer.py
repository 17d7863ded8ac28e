"""Files written beside training: complete, in order, with the state of their step; errors are raised."""

import shutil
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from simgan_cli.cli.resolve import resolve
from simgan_cli.engine.run_folder.checkpoints import verify_checkpoint
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.runtime.ranks import SINGLE
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.training.build import train
from simgan_cli.files import atomic_file
from tests.engine.runtime.distributed_worker import built
from tests.engine.runtime.distributed_worker import train as train_steps
from tests.engine.training.test_training import Quiet
from tests.helpers import files_below


@pytest.fixture
def settings(folders: dict[str, Any]) -> dict[str, Any]:
    every = {"log_every": 1, "sample_every": 2, "save_every": 2, "keep": 0, "eval_every": 0}
    return folders | every | {"pretrain_discriminator": 0, "steps": 6}


class Listener(Quiet):
    """Does something when a step is done."""

    def __init__(self, actions: dict[int, Any]) -> None:
        super().__init__()
        self.actions = actions
        self.steps = 0

    def advanced(self, step: int, total_steps: int) -> None:
        self.steps = step
        self.actions.get(step, lambda: None)()


def run(settings: dict[str, Any], listener: Quiet) -> None:
    train(resolve(settings), None, listener, StopRequest())


def weights_and_state(checkpoint: Path) -> dict[str, Any]:
    """Return the checkpoint's files without parts that depend on the run's name."""
    state = verify_checkpoint(checkpoint)
    state["settings"].pop("out")
    tensors = {name: content for name, content in files_below(checkpoint).items() if name.endswith(".safetensors")}
    return tensors | {"state": state}


def test_a_snapshot_does_not_change_while_training_continues(tmp_path: Path) -> None:
    state = built("adam", SINGLE)
    train_steps(state, 3)
    state.snapshot(state.gather_rank_states()).save(tmp_path / "at once")
    snapshot = state.snapshot(state.gather_rank_states())
    exported = {name: tensor.clone() for name, tensor in snapshot.exported[1].state_dict().items()}
    train_steps(state, 3)
    snapshot.save(tmp_path / "later")
    files, later = files_below(tmp_path / "at once"), files_below(tmp_path / "later")
    assert later == files
    assert "history.safetensors" in files
    state.snapshot(state.gather_rank_states()).save(tmp_path / "trained")
    assert all(files_below(tmp_path / "trained")[name] != files[name] for name in files if name != "manifest.json")
    assert all(torch.equal(tensor, exported[name]) for name, tensor in snapshot.exported[1].state_dict().items())


@pytest.mark.slow
def test_training_continues_while_the_files_of_a_step_are_written(settings: dict[str, Any]) -> None:
    run_folder, held = RunFolder(settings["out"]), ExitStack()
    picture = run_folder.samples / "step-00000002.png"

    def release() -> None:
        assert not run_folder.checkpoint(2).exists()
        assert not run_folder.report.exists()
        held.close()

    # Two writers of one path take turns: the picture of step 2 waits for us, and the rest of that step for the picture.
    run(settings, Listener({1: lambda: held.enter_context(atomic_file(picture)), 3: release}))
    uninterrupted = settings | {"out": settings["out"].with_name("uninterrupted")}
    run(uninterrupted, Quiet())
    for step in (2, 4, 6):
        one, other = (weights_and_state(RunFolder(each["out"]).checkpoint(step)) for each in (settings, uninterrupted))
        assert one == other
    assert picture.read_bytes() == (uninterrupted["out"] / "samples" / picture.name).read_bytes()
    assert "step 6 of 6" in run_folder.report.read_text()


def test_an_error_of_the_thread_is_raised_in_training(settings: dict[str, Any]) -> None:
    run_folder = RunFolder(settings["out"])

    def spoil() -> None:
        shutil.rmtree(run_folder.samples)
        run_folder.samples.touch()

    listener = Listener({1: spoil})
    with pytest.raises(NotADirectoryError, match="samples"):
        run(settings, listener)
    assert listener.steps <= 4  # the next copies are due at step 4
    verify_checkpoint(run_folder.checkpoint(2))  # queued after the picture that failed, and still written


def test_pending_files_are_written_when_training_fails(settings: dict[str, Any]) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        run(settings, Listener({3: fail}))
    run_folder = RunFolder(settings["out"])
    verify_checkpoint(run_folder.checkpoint(2))
    assert (run_folder.samples / "step-00000002.png").stat().st_size > 0
    assert "step 2 of 6" in run_folder.report.read_text()
    assert (run_folder.refiner / "README.md").exists()
    assert threading.active_count() == threads


def test_page_and_card_show_nothing_of_later_steps(settings: dict[str, Any]) -> None:
    run_folder = RunFolder(settings["out"])
    run(settings, Quiet())
    lines = run_folder.read_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert run_folder.read_metrics(until=4) == lines[:4]
    assert run_folder.last_metrics(until=4) == lines[3]
    assert run_folder.last_metrics(until=0) == {}
    run_folder.metrics.write_bytes(b'{"step": 1}\n{"st')  # a kill cut the last line
    assert run_folder.read_metrics() == [{"step": 1}]

"""Errors in another process, counts in messages, and out-of-memory errors by real messages of libraries."""

import pickle
from pathlib import Path

import pytest

from simgan_cli.errors import (
    EndedElsewhere,
    LabelImages,
    SettingsError,
    SimganError,
    UnreadableImage,
    is_out_of_memory,
    plural,
)


def test_a_noun_is_singular_after_1_alone() -> None:
    assert [plural(number, "file") for number in (0, 1, 2, 2000)] == ["0 files", "1 file", "2 files", "2,000 files"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::future_error: Broken promise"),
    ],
)
def test_an_out_of_memory_error_is_recognised_by_its_message(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_not_taken_for_out_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))
    assert not is_out_of_memory(ValueError("memory"))


@pytest.mark.parametrize(
    "error",
    [
        SettingsError("one", "two"),
        LabelImages("labels", {"name them": ("--include", "*_rgb.png")}),
        UnreadableImage(Path("a.png"), "ends early"),
        EndedElsewhere(4, "elsewhere"),
    ],
)
def test_errors_keep_all_that_they_hold_on_their_way_to_another_process(error: SimganError) -> None:
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is type(error)
    assert (str(restored), restored.exit_code, vars(restored)) == (str(error), error.exit_code, vars(error))

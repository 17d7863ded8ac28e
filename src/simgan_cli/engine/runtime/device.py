"""The machine: device, precision, random streams, memory."""

import ctypes
import importlib.util
import os
import shutil
import sys
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.errors import SettingsError, plural
from simgan_cli.portability import peak_memory_bytes
from simgan_cli.settings.base import Arithmetic

if TYPE_CHECKING:
    import torch
    from torch import nn

# Values of one of R's layers in all steps. At the paper's size compiled passes saved 0.5 ns for each on an H200, and
# compiling took 37 s (benchmarks/results/speed.jsonl). Shorter trainings end before they gain.
MIN_COMPILED_VALUES = 10**11


def resolve_device(name: str, ranks: Ranks = SINGLE) -> "torch.device":
    """Return the device called `name`; auto is the first GPU, else Apple's, else the CPU.

    With several ranks, each has its own GPU, or the CPU. Raises SettingsError when a device is missing: a training
    that silently runs on the CPU costs days.
    """
    import torch

    if ranks.count > 1:
        name = _of_rank(name, ranks)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"--device {name}: wanted auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise SettingsError(
                f"--device {name}: this machine shows {plural(count, 'CUDA device')}; use auto, cpu or another one"
            )
        if name == "cuda":  # torch.cuda.set_device needs an index
            return torch.device(name, torch.cuda.current_device())
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("--device mps: not available on this machine; use auto or cpu")
    return device


def _of_rank(name: str, ranks: Ranks) -> str:
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise SettingsError(
            f"--device {name}: one device for {ranks.count} ranks; auto and cuda give each a GPU, or use cpu"
        )
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return f"cuda:{ranks.local_rank}"


def resolve_precision(name: str, device: "torch.device") -> Arithmetic:
    """Return the arithmetic of the networks: auto is bf16 on a GPU or CPU that computes in it, else fp32."""
    if name == "auto":
        return "bf16" if _computes_in_bf16(device) else "fp32"
    return "bf16" if name == "bf16" else "fp32"


def precision_reason(device: "torch.device") -> str:
    """Return the reason for the precision that auto takes on `device`."""
    kind = "CPU" if device.type == "cpu" else "GPU"
    if _computes_in_bf16(device):
        return f"this {kind} has instructions for bf16"
    return f"this {kind} has no instructions for bf16, and emulating them is slower than fp32"


def _computes_in_bf16(device: "torch.device") -> bool:
    """Return whether the device has instructions for bf16; emulating it is slower than float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch lacks it
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16"))


def autocast(precision: str, device: "torch.device") -> Callable[[], AbstractContextManager[object]]:
    """Return a function that makes a context for the networks' forward passes."""
    import torch

    if precision == "bf16":
        return partial(torch.autocast, device.type, dtype=torch.bfloat16)
    return nullcontext


def compiler(name: str, device: "torch.device", values: int) -> "Callable[[nn.Module], Callable[..., Any]]":
    """Return torch.compile, or the identity, to apply to networks before a training on `values`.

    auto compiles on a GPU with Triton and a C++ compiler, where the training is long enough to gain. On CPUs compiled
    networks were slower. `values` are those of one of R's layers in all steps (images x pixels x maps).
    """
    import torch

    has_compiler = any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
    is_able = has_compiler and importlib.util.find_spec("triton") is not None
    pays = device.type == "cuda" and values >= MIN_COMPILED_VALUES
    if name == "on" or (name == "auto" and is_able and pays):
        return partial(torch.compile, dynamic=False)
    return lambda network: network


def prepare_process(device: "torch.device", *, deterministic: bool) -> None:
    """Set the process's switches: TF32, deterministic kernels, and an allocator that keeps what it has."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Stop glibc from returning every large tensor to the system, only to fault its pages in again a step later."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack it
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_mmap_threshold, 2**30)


def stream_number(name: str) -> int:
    """Return a number for a random stream's name, so that (seed, number, ...) seeds a stream of its own."""
    return zlib.crc32(name.encode())


def peak_memory_mb(device: "torch.device") -> float | None:
    """Return the peak memory so far: of the GPU's tensors, or of this process, in MB of 10**6 bytes.

    None where the system does not report it.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = peak_memory_bytes()
    return None if peak is None else peak / 1e6

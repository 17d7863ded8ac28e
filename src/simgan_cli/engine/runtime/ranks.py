"""The processes that torchrun starts: their numbers, their exchange of data, and their common end.

Work that may fail in one rank belongs in a block of `all_or_none`: an error there ends all ranks with its exit code
and one message. Errors outside such blocks break the connection, which ends the others. Imports torch only to connect.
"""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from simgan_cli.engine.runtime.stop import StopReason
from simgan_cli.errors import EndedElsewhere, SettingsError

if TYPE_CHECKING:
    from torch import Tensor, nn

# The first rank may decode images for hours while the others wait. A rank that dies closes its connections, which ends
# the wait over gloo. NCCL would wait on, but between any two of its calls all ranks meet over gloo.
MAX_WAIT = timedelta(hours=12)
VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
MIN_TORCH = "2.11"  # 2.6 may hang when ranks disconnect, and 2.9 writes lines of its own to stdout
LOST = "another rank is gone; rerun with --resume auto (train) or --skip-existing (refine)"
REASONS: tuple[StopReason | None, ...] = (None, "max-time", "signal", "interrupt")  # later ones prevail
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


class Ranks:
    """The number of this process in a job and on its machine; 0 of 1 without torchrun."""

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0) -> None:
        self.rank, self.count, self.local_rank = rank, count, local_rank
        self.exit_code: int | None = None  # that all ranks end with
        self._groups: dict[str, Any] = {"cpu": None}  # by type of device; None is the default group

    @classmethod
    def of_process(cls) -> "Ranks":
        """Read torchrun's variables. Raises SettingsError where one is not a number, or they contradict each other."""
        values = {name: os.environ.get(name) or default for name, default in VARIABLES.items()}
        if wrong := [f"{name}={value}" for name, value in values.items() if not value.isdecimal()]:
            raise SettingsError(f"{', '.join(wrong)}: not a number; start with torchrun, or unset {', '.join(values)}")
        ranks = cls(*map(int, values.values()))
        if ranks.rank >= ranks.count:
            raise SettingsError(
                f"RANK is {ranks.rank}, but WORLD_SIZE is {ranks.count}; start with torchrun, or unset RANK"
            )
        return ranks

    @property
    def is_first(self) -> bool:
        """Return whether this rank prints and writes."""
        return self.rank == 0

    @contextmanager
    def connected(self) -> Iterator["Ranks"]:
        """Connect the processes for the length of the block, and leave it together if none is lost.

        Raises SettingsError where PyTorch is too old, or torchrun's variables are missing.
        """
        if self.count == 1:
            yield self
            return
        self._connect()
        try:
            yield self
        except BaseException:
            if self.exit_code is not None:
                self._leave()
            raise
        self._leave()

    def _connect(self) -> None:
        import torch
        import torch.distributed as dist

        # Optimizers would import this later, and its functions would keep the group of that time as a default. The
        # threads of that group, which may hold tensors, would abort the process at exit.
        import torch.distributed.nn

        if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise SettingsError(f"WORLD_SIZE is {self.count}, but there is no MASTER_ADDR; start with torchrun")
        if torch.__version__ < MIN_TORCH:
            raise SettingsError(
                f"{self.count} ranks need PyTorch {MIN_TORCH} or newer, and this is {torch.__version__}: older ranks "
                "may hang at their end; update it, or start one process without torchrun"
            )
        with self._reaching_others():
            dist.init_process_group("gloo", timeout=MAX_WAIT)

    def _leave(self) -> None:
        """Wait for all ranks, then disconnect; torchrun's SIGTERM to the slower ones must not change exit codes."""
        import torch.distributed as dist

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.gather_objects(None)
        dist.destroy_process_group()

    def gather_objects(self, value: Any) -> list[Any]:
        """Return every rank's `value`, by rank, on every rank; waits for the slowest."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        with self._reaching_others():
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Do the block, then wait for the others; if it failed anywhere, it fails everywhere.

        The first rank whose block failed raises its exception, the others EndedElsewhere with the same exit code.
        """
        if self.count == 1:
            yield
            return
        failure: BaseException | None = None
        try:
            yield
        except EndedElsewhere:
            raise  # the others know it, or are out of reach
        except BaseException as error:
            if self.exit_code is not None:
                raise
            failure = error
        codes = self.gather_objects(None if failure is None else getattr(failure, "exit_code", 1))
        failed = [rank for rank, code in enumerate(codes) if code is not None]
        if failed:
            self.exit_code = codes[failed[0]]
            if failure is not None and self.rank == failed[0]:
                raise failure
            raise EndedElsewhere(self.exit_code) from None

    def first_rank_then_others(self, work: Callable[[], Result]) -> Result:
        """Return `work()`, done by the first rank, then one of each other machine, then all, who find their files."""
        mine = 0 if self.is_first else 1 if self.local_rank == 0 else 2
        for turn in range(3 if self.count > 1 else 1):
            with self.all_or_none():
                if turn == mine:
                    result = work()
        return result

    def reduce_stop(self, reason: StopReason | None) -> StopReason | None:
        """Return the strongest of all ranks' reasons to stop, on every rank; None where no rank has one."""
        if self.count == 1:
            return reason
        import torch
        import torch.distributed as dist

        strongest = torch.tensor(REASONS.index(reason))
        with self._reaching_others():
            dist.all_reduce(strongest, dist.ReduceOp.MAX)
        return REASONS[int(strongest)]

    def broadcast(self, network: "nn.Module") -> None:
        """Copy the first rank's weights to all ranks: another processor may draw other ones from the same seed."""
        if self.count == 1:
            return
        import torch.distributed as dist

        with self._reaching_others():
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, 0)

    def average_gradients(self, network: "nn.Module") -> None:
        """Replace each gradient by its mean over the ranks, in one call for all of them.

        Batches have one size on all ranks, so that this is the gradient of the mean loss over the complete batch.
        """
        if self.count == 1:
            return
        import torch
        import torch.distributed as dist

        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with self._reaching_others():
            if flat.device.type not in self._groups:
                self._groups[flat.device.type] = dist.new_group(backend="nccl")
            dist.all_reduce(flat, group=self._groups[flat.device.type])
        parts = torch.split(flat.div_(self.count), [gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view(g.shape) for part, g in zip(parts, gradients, strict=True)])

    def gather_tensors(self, tensors: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
        """Return all ranks' tensors, concatenated by rank along their first axis, as copies on the first rank's CPU.

        Shapes may differ in that axis. The other ranks get nothing back.
        """
        if self.count == 1:
            return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}
        import torch
        import torch.distributed as dist

        # Objects would copy each history several times, and it may fill much of the memory.
        lengths = self.gather_objects({name: len(tensor) for name, tensor in tensors.items()})
        joined = {}
        with self._reaching_others():
            for name, tensor in tensors.items():
                parts = [tensor.cpu().contiguous()]
                if not self.is_first:
                    dist.send(parts[0], 0)
                    continue
                for rank in range(1, self.count):
                    parts.append(torch.empty((lengths[rank][name], *tensor.shape[1:]), dtype=tensor.dtype))
                    dist.recv(parts[-1], rank)
                joined[name] = torch.cat(parts)
        return joined

    @contextmanager
    def _reaching_others(self) -> Iterator[None]:
        """Turn a broken connection into EndedElsewhere, with a message on the first rank."""
        try:
            yield
        except RuntimeError as error:
            raise EndedElsewhere(1, LOST if self.is_first else "") from error


SINGLE = Ranks()


class HasRanks(Protocol):
    """An object that knows its rank."""

    ranks: Ranks


Owner = TypeVar("Owner", bound=HasRanks)


def rank_zero_only(
    method: Callable[Concatenate[Owner, Parameters], None],
) -> Callable[Concatenate[Owner, Parameters], None]:
    """Let the first rank alone do what a method does, while the others wait. All of them must call it."""

    @functools.wraps(method)
    def wrapper(self: Owner, /, *arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        with self.ranks.all_or_none():
            if self.ranks.is_first:
                method(self, *arguments, **named)

    return wrapper

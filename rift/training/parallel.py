"""Several processes that train one network, one process per GPU.

All processes draw the same random numbers, for whole batches, and each computes its share of a
batch. Several processes therefore compute the same as one, except for the order of sums. On the
CPU, batch norm also differs: each process normalises by its own share.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from rift.device import GROUP_VARIABLES, launched
from rift.errors import RiftError, first_line
from rift.models.two_wings import frozen_statistics


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one network, seen from one of them.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Return whether this is the process that writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's share of a batch."""
        return batch.tensor_split(self.size)[self.rank]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def any(self, flag: bool) -> bool:
        """Return whether any process has set its flag; all processes wait for each other."""
        if self.size == 1:
            return flag
        cuda = distributed.get_backend() == "nccl"
        flags = torch.tensor([float(flag)], device="cuda" if cuda else "cpu")
        distributed.all_reduce(flags)
        return bool(flags > 0)

    def average_statistics(self, model: nn.Module) -> None:
        """Replace every running statistic by its mean over all processes.

        Otherwise each process would attack a different network. The frozen wing of TWINS has the
        same statistics everywhere, which the mean could round.
        """
        if self.size > 1:
            frozen = {id(buffer) for buffer in frozen_statistics(model)}
            for buffer in model.buffers():
                if buffer.is_floating_point() and id(buffer) not in frozen:
                    distributed.all_reduce(buffer)
                    buffer /= self.size


ALONE = ProcessGroup()
"""The group of a single process."""


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run ``rift`` in several processes on this machine, which train one network.

    Args:
        processes: number of processes.
        arguments: command line of ``rift``.

    Raises:
        RiftError: a process failed; it has already printed the reason.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The failing process prints a better message than torch.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="rift",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "rift", *arguments)
    except ChildFailedError as error:
        rank, _ = error.get_first_failure()
        raise RiftError(
            f"process {rank} of {processes} failed; correct the problem in its message above"
        ) from None


@contextmanager
def joined_group(
    device: torch.device, patience: timedelta = timedelta(minutes=5)
) -> Iterator[ProcessGroup]:
    """Yield the group of the processes that were started together, or ``ALONE`` if there is one.

    Args:
        device: device of this process.
        patience: time to wait for the other processes to start.

    Raises:
        RiftError: the other processes did not answer in time, or a variable is no number.
    """
    if not launched():
        yield ALONE
        return
    present = ", ".join(f"{name}={os.environ[name]}" for name in GROUP_VARIABLES)
    advice = (
        f"{present}: the environment describes a process group; start all of its processes, or"
        f" unset {GROUP_VARIABLES[0]} to train in one process"
    )
    here, count = (os.environ[name] for name in ("RANK", "WORLD_SIZE"))
    if not (here.isdecimal() and count.isdecimal() and int(here) < int(count)):
        raise RiftError(f"{advice} (RANK must be a number from 0 to WORLD_SIZE - 1)")
    try:
        store, rank, size = next(rendezvous("env://", timeout=patience))
    except (distributed.DistError, ValueError, RuntimeError, OverflowError) as error:
        raise RiftError(f"{advice} ({first_line(error)})") from error
    backend = "nccl" if device.type == "cuda" else "gloo"
    # A collective waits longer than the start: one process writes files while others wait.
    store.set_timeout(distributed.default_pg_timeout)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield ProcessGroup(rank, size)
    finally:
        distributed.destroy_process_group()

"""Processes that train one network together, one a GPU: what they share and add up.

All draw the same random numbers, for whole batches; each computes its share of a batch. So one process or several do the same,
up to the order of sums (and up to batch norm on the CPU, where every process normalises by its own share).
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from rift.errors import RiftError


@dataclass(frozen=True)
class ProcessGroup:
    """Processes that train together, and which of them this one is."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Return whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch."""
        return batch.tensor_split(self.size)[self.rank]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor the sum of all processes'."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def any(self, flag: bool) -> bool:
        """Return whether the flag of any process is set; all processes wait for each other."""
        if self.size == 1:
            return flag
        cuda = distributed.get_backend() == "nccl"
        flags = torch.tensor([float(flag)], device="cuda" if cuda else "cpu")
        distributed.all_reduce(flags)
        return bool(flags > 0)

    def average_statistics(self, model: nn.Module) -> None:
        """Put into every running statistic the mean of all processes', so that all attack the same network."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    distributed.all_reduce(buffer)
                    buffer /= self.size


ALONE = ProcessGroup()


def launched() -> bool:
    """Say whether this process is one of several that were started together (by ``launch`` or ``torchrun``)."""
    return "WORLD_SIZE" in os.environ


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run ``rift`` in several processes on this machine that train together.

    Args:
        processes: how many.
        arguments: of the command.

    Raises:
        RiftError: one of them failed; it has said why.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(
        logging.CRITICAL
    )  # the process that failed says it better
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
            f"process {rank} of {processes} failed; what it said stands above"
        ) from None


@contextmanager
def joined_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the processes that were started together (``torchrun``), if this one was."""
    if not launched():
        yield ALONE
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()

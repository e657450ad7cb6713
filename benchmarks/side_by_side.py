"""Shared parts of the benchmarks: one network in two layouts, and alternating timing."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import nn

from rift.config import ArchitectureName
from rift.models import build

CPU = torch.device("cpu")


def network(
    architecture: ArchitectureName, channels: int = 3, side: int = 32, device: torch.device = CPU
) -> nn.Module:
    """Make a network of rift with channels last in memory.

    The random weights are the same every time.
    """
    return build(
        architecture, classes=10, size=side, mean=(0.5,) * channels, std=(0.25,) * channels
    ).to(device)


def in_default_layout(model: nn.Module) -> nn.Module:
    """Copy a network into the default memory layout of torch; the copy shares no memory with it."""
    copy = deepcopy(model)
    state = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    copy.load_state_dict(state, assign=True)
    return copy.requires_grad_(True)


def seconds(function: Callable[[], object], device: torch.device = CPU) -> float:
    """Time one call, including the work that it started on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def take_turns(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device = CPU,
    pause: float = 0,
) -> dict[str, list[float]]:
    """Time all rivals in every round, so that other load on the machine affects all of them.

    Args:
        runs: the functions to call, by name.
        rounds: number of counted rounds; one more round comes first as a warm-up.
        device: the device of the computation.
        pause: seconds before every turn, in which worker processes of the previous turn may finish.

    Returns:
        The seconds of every counted turn, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            time.sleep(pause)
            taken = seconds(run, device)
            if number > 0:
                times[name].append(taken)
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> str:
    """Format the median, the minimum and the maximum of the ratios of the rounds."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def rates(times: Mapping[str, Sequence[float]], images: int) -> dict[str, float]:
    """Return images per second, from the median of the turns."""
    return {name: images / statistics.median(taken) for name, taken in times.items()}


def print_rates(times: Mapping[str, Sequence[float]], images: int, against: str) -> None:
    """Print the speed of every rival, absolute and relative to one of them."""
    width = max(map(len, times))
    for name, rate in rates(times, images).items():
        print(
            f"  {name:{width}}{rate:11.1f} images/s"
            f"   {ratio(times[against], times[name])} times {against}",
            flush=True,
        )

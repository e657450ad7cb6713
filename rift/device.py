"""The device, and the precision that it computes in."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from rift.errors import RiftError, first_line

GROUP_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that together describe a process group."""


def launched() -> bool:
    """Return whether this process was started as one of several that train together.

    Job scripts often set some of the variables for other programs. A process without all of them
    trains alone.
    """
    return all(name in os.environ for name in GROUP_VARIABLES)


def choose_device(name: str) -> torch.device:
    """Return the device of a name, and make equal runs equal on it.

    Of several processes that train together each gets its own GPU and its part of the CPU threads.

    Args:
        name: ``auto`` (a GPU if there is one, else the CPU), or a torch device such as ``cuda:1``.

    Raises:
        RiftError: torch has no such device, or this machine has none.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if chosen == "cuda":
        chosen = f"cuda:{_local('LOCAL_RANK', 0)}"
    processes = _local("LOCAL_WORLD_SIZE", 1)
    if processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    if chosen.startswith("cuda") and not torch.cuda.is_available():
        # torch would explain at length how to link its CUDA library.
        raise RiftError(
            f"--device {name}: cannot be used (torch finds no GPU on this machine); pass --device"
            " cpu, or run rift doctor"
        )
    try:
        device = torch.device(chosen)
        torch.Generator(device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise RiftError(
            f"--device {name}: cannot be used ({reason}); rift doctor lists what can"
        ) from error
    _set_arithmetic(EXACT)
    return device


EXACT = (True, False, False)
"""Values of the settings of torch in ``_set_arithmetic``.

Equal runs are equal, and float32 means float32: a GPU would otherwise use 10 of its 23 bits in
convolutions.
"""


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Let torch compute as ``choose_device`` sets it, and restore its settings at the end."""
    before = (
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    )
    _set_arithmetic(EXACT)
    try:
        yield
    finally:
        _set_arithmetic(before)


def _set_arithmetic(values: tuple[bool, bool, bool]) -> None:
    torch.backends.cudnn.deterministic, convolutions, products = values
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products


def _local(variable: str, otherwise: int) -> int:
    """Return a variable of the launcher; outside of a group, it belongs to another program.

    Raises:
        RiftError: the variable is no number.
    """
    text = os.environ.get(variable, str(otherwise)) if launched() else str(otherwise)
    if not text.isdecimal():
        raise RiftError(
            f"{variable}={text}: the environment describes a process group, but this is no number;"
            f" correct it, or unset {GROUP_VARIABLES[0]} to train in one process"
        )
    return int(text)


def resolve_precision(precision: str, device: torch.device, *, on_cpu: bool = False) -> str:
    """Return ``float32`` or ``bfloat16``.

    Args:
        precision: one of them, or ``auto``: bfloat16 on a device that has instructions for it.
        device: device that computes.
        on_cpu: whether ``auto`` may be bfloat16 on a CPU. It may where the results are known to be
            as good.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = on_cpu and device.type == "cpu" and _cpu_has_bfloat16()
    return "bfloat16" if fast else "float32"


def _cpu_has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16; others imitate it slowly."""
    # Older versions of torch do not tell.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which networks compute in a precision.

    Autocast caches converted weights until its context ends. Weights that change between two passes
    therefore need a context for each pass.
    """
    in_bfloat16 = resolve_precision(precision, device) == "bfloat16"
    context: AbstractContextManager[None] = torch.autocast(
        device.type, torch.bfloat16, enabled=in_bfloat16
    )
    return context


def to_float32(logits: Tensor) -> Tensor:
    """Convert logits of a shorter type to float32, in which losses are computed."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

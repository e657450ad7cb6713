"""Robust critical fine-tuning (RiFT) of adversarially trained classifiers.

RiFT improves the standard accuracy without a loss of adversarial robustness. ``rift.improve`` does
it for any network, and the other functions are its steps. They are loaded when they are first used,
so that ``import rift`` does not wait for torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rift.api import Result, evaluate, fine_tune, improve, interpolate, mrc, select, sweep

__version__ = version("rift")

__all__ = [
    "Result",
    "evaluate",
    "fine_tune",
    "improve",
    "interpolate",
    "mrc",
    "select",
    "sweep",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("rift.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

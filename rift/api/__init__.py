"""RiFT for Python: ``improve``, its steps and its result. ``rift`` itself exports these names."""

from rift.api.improving import improve
from rift.api.result import Result
from rift.api.steps import evaluate, fine_tune, interpolate, mrc, select, sweep

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

"""Roles of the fields of a command: files that it reads or writes, and what changes no result.

The type of an output that rift reads again says the ending of its name. rift reads a file by its
ending, so a file with another one could be written and not be read.
"""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator

T = TypeVar("T")
INPUT, OUTPUT, NEUTRAL = "input", "output", "neutral"

Input = Annotated[T, INPUT]
Output = Annotated[T, OUTPUT]
Neutral = Annotated[T, NEUTRAL]


def check_ending(path: T, ending: str, name: str = "the name") -> T:
    """Return the path of an output whose name has an ending; None is no output.

    Raises:
        ValueError: it has another one.
    """
    if isinstance(path, Path) and path.suffix != ending:
        raise ValueError(f"{name} must end in {ending}; change its ending")
    return path


def _with_ending(ending: str) -> AfterValidator:
    return AfterValidator(lambda path: check_ending(path, ending))


SafetensorsOutput = Annotated[Output[T], _with_ending(".safetensors")]
CsvOutput = Annotated[Output[T], _with_ending(".csv")]
JsonOutput = Annotated[Output[T], _with_ending(".json")]
NpyOutput = Annotated[Output[T], _with_ending(".npy")]
NpzOutput = Annotated[Output[T], _with_ending(".npz")]

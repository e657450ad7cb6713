"""Value types of settings with their bounds, and the base class of all sections."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

from rift.config.names import CORRUPTION_LISTS, CorruptionListName, CorruptionName
from rift.errors import RiftError

T = TypeVar("T")


class AddedLater:
    """Mark of a setting that earlier versions did not have, and whose default is None.

    None is not written, so results of earlier versions count as made with the same settings.
    """


class Section(BaseModel):
    """Base class of sections: immutable, and without unknown keys, infinity and NaN."""

    # Validators are built at their first use: most commands, and --help, need only a few of them.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @model_serializer(mode="wrap")
    def _without_added(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        added = {
            name
            for name, field in type(self).model_fields.items()
            if any(isinstance(mark, AddedLater) for mark in field.metadata)
        }
        return {
            key: value for key, value in written.items() if key not in added or value is not None
        }


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings merged key by key.

    Args:
        below: settings of lower priority.
        above: settings of higher priority; they replace the values of the same keys.
    """
    merged = dict(below)
    for key, value in above.items():
        beneath = merged.get(key)
        nested = isinstance(value, Mapping)
        merged[key] = (
            merge(beneath if isinstance(beneath, Mapping) else {}, value) if nested else value
        )
    return merged


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to one level with dotted keys such as ``train.epochs``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flat |= leaves(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def flag_text(value: object) -> str:
    """Return a value as the text of a flag.

    Entries of a list are separated by commas, and a string stays as it is. All other values are
    written as JSON.
    """
    if isinstance(value, list | tuple):
        return ",".join(flag_text(entry) for entry in value) or "[]"
    return value if isinstance(value, str) else json.dumps(value)


def flag(name: str, value: str) -> list[str]:
    """Return the words of a flag; a value with a leading dash would count as another flag."""
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]


def number(value: object) -> object:
    """Convert text such as ``8/255`` or ``1e-3``, which YAML reads as strings, to a number.

    Raises:
        ValueError: the text is neither a number nor a fraction.
    """
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")) if "/" in value else value)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError(
                f"{value!r} is neither a number nor a fraction such as 8/255"
            ) from None
    return value


def seconds_of(duration: str) -> float:
    """Return the seconds of a duration such as ``90s``, ``30m`` or ``2h``.

    Raises:
        ValueError: it is no positive number with one of these units.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    if found is None or float(found[1]) == 0:
        raise ValueError("must be a number with its unit, such as 90s, 30m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _duration(text: str) -> str:
    seconds_of(text)
    return text


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the values unchanged.

    Raises:
        ValueError: a value occurs more than once.
    """
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ValueError(f"must not contain a value twice; repeated: {', '.join(repeated)}")
    return values


def rising(values: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values unchanged.

    Raises:
        ValueError: the values are not strictly increasing.
    """
    if list(values) != sorted(set(values)):
        raise ValueError("must be strictly increasing")
    return values


def _is_list_name(value: object) -> bool:
    """Return whether a value is the name of a list of corruptions, rather than a list.

    A flag always gives a list. A flag with only the name of a list therefore counts as that name.
    """
    return isinstance(value, str) or value in [[name] for name in CORRUPTION_LISTS]


def _list_name(value: str | list[str]) -> str:
    name = value[0] if isinstance(value, list) else value
    if name not in CORRUPTION_LISTS:
        raise ValueError(
            f"must be a list of corruptions, or the name of a list: {' or '.join(CORRUPTION_LISTS)}"
        )
    return name


def _part(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= limits[0] <= limits[1] <= 1:
        raise ValueError(
            "must be two numbers from 0 (the first module) to 1 (the last module), and the second"
            " must not be smaller than the first"
        )
    return limits


Number = Annotated[float, BeforeValidator(number, json_schema_input_type=float | str)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
ImageCount = Annotated[int, Field(ge=1)] | Literal["all"]
Share = Annotated[Number, Field(gt=0, lt=0.5)]
LeastShare = Annotated[Number, Field(ge=0, lt=1)]
Part = Annotated[tuple[Number, Number], AfterValidator(_part)]
Duration = Annotated[str, AfterValidator(_duration)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Severity = Annotated[int, Field(ge=1, le=5)]
Precision = Literal["auto", "float32", "bfloat16"]
Names = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(distinct)]
Corruptions = Annotated[
    Annotated[CorruptionListName, BeforeValidator(_list_name), Tag("list-name")]
    | Annotated[Names[CorruptionName], Tag("names")],
    Discriminator(lambda value: "list-name" if _is_list_name(value) else "names"),
]


def home_expanded(path: Path) -> Path:
    """Return a path with the home folder in place of a leading ``~`` or ``~USER``.

    Raises:
        RiftError: there is no such home folder.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise RiftError(
            f"{path}: the home folder is unknown; write the path without {path.parts[0]}"
        ) from error

"""The base class of all commands.

A command is a pydantic model, and its fields are its flags. A field that is a section of the
configuration takes the keys of that section (``--train.epochs 110``). The type of a field says what
the field is: an ``Input`` file, an ``Output`` file, ``Neutral`` (does not change the result), or a
setting. The types determine which outputs are checked, and what the provenance records.

A command imports the modules that it computes with when it runs, so that ``--help`` does not wait
for torch.
"""

import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from rift import artifacts, config
from rift.commands.roles import INPUT, NEUTRAL, OUTPUT, Input, Neutral
from rift.config import Architecture, MethodName, RegimeName
from rift.config.outside import code_digest, is_outside
from rift.config.values import flag, flag_text, leaves
from rift.errors import RiftError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import torch
    from _typeshed import DataclassInstance
    from torch import nn

    from rift.data import Prepared
    from rift.data.images import Images
    from rift.models.checkpoint import ModelSpec
    from rift.training.history import Trained

PreparedSet = Annotated[Input[Path], Field(description="Prepared data set (rift prepare).")]
Seed = Annotated[config.Seed, Field(description="Seed of all random numbers: ≥ 0.")]
Shard = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*/[1-9][0-9]*$")]
Device = Annotated[
    Neutral[str],
    Field(
        description="Device: auto (a GPU if one exists, else the CPU), or a torch device (cuda:1)."
    ),
]


class Command(BaseModel):
    """The base class of a command; subclasses define fields, ``stage`` and ``run``."""

    # The validator of a command is built when this command runs, not for every other one too.
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), defer_build=True
    )

    stage: ClassVar[str]
    """Name of the stage in provenance."""

    adoptable: ClassVar[bool] = False
    """Whether finished outputs get second names in a workflow, for adoption after a kill."""

    rescues: ClassVar[bool] = False
    """Whether finished outputs get second names, for a user whose input is damaged since."""

    memory: ClassVar[str] = "the memory use of other programs"
    """Flags or programs that the error message advises to lower when memory runs out."""

    @field_validator("*", mode="after")
    @classmethod
    def _expand_home(cls, value: object) -> object:
        # A shell does not expand the tilde in --output=~/x, nor in quotes.
        if isinstance(value, Path):
            return config.home_expanded(value)
        if isinstance(value, tuple) and value and all(isinstance(each, Path) for each in value):
            return tuple(config.home_expanded(each) for each in value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _report_missing_keys_of_sections(cls, given: dict[str, Any]) -> dict[str, Any]:
        # A section is no flag: its keys are. An empty section lacks each of its required keys.
        sections: dict[str, Any] = {
            name: {}
            for name, field in cls.model_fields.items()
            if field.is_required()
            and isinstance(field.annotation, type)
            and issubclass(field.annotation, BaseModel)
        }
        return {**sections, **given}

    @abstractmethod
    def run(self) -> None:
        """Read artifacts, call a stage, write artifacts, and print a summary.

        Raises:
            RiftError: the user can solve the problem.
        """

    @property
    def gpus(self) -> int:
        """Return how many GPUs a job with this command uses where there are some."""
        return int(getattr(self, "device", "cpu") in ("auto", "cuda"))

    def paths(self, role: str) -> Iterator[tuple[str, Path]]:
        """Yield the names and paths of the fields with a role, ``INPUT`` or ``OUTPUT``."""
        for name in self._fields(role):
            value = getattr(self, name)
            if isinstance(value, Path):
                yield name, value
            elif isinstance(value, tuple):
                yield from ((f"{name}.{number}", path) for number, path in enumerate(value))

    def check_outputs(self) -> None:
        """Check that all outputs can be written, and that none replaces an input.

        Raises:
            RiftError: an output cannot be written, is an input, or is the file of another output.
        """
        read = {path.resolve() for path in self.files_read()}
        seen: set[Path] = set()
        for _, path in self.paths(OUTPUT):
            artifacts.check_writable(path)
            if path.resolve() in read:
                raise RiftError(
                    f"{path}: is an input, which the output would replace; choose"
                    " another path for the output"
                )
            if path.resolve() in seen:
                raise RiftError(f"{path}: is the path of two outputs; choose different paths")
            seen.add(path.resolve())

    def files_read(self) -> list[Path]:
        """Return the paths of all files that the command reads."""
        return [path for _, path in self.paths(INPUT)]

    def inputs(self) -> dict[str, str]:
        """Return the digest of the content of every input, by field name.

        The file of an architecture from outside is the input ``code``.

        Raises:
            RiftError: an input cannot be read.
        """
        files = {name: artifacts.content_digest(path) for name, path in self.paths(INPUT)}
        architecture = getattr(self, "architecture", None) or ""
        code = {"code": code_digest(architecture)} if is_outside(architecture) else {}
        return {**files, **code}

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return all settings that affect the result, without inputs and seed, as JSON values."""
        without = {*self._fields(INPUT), *self._fields(OUTPUT), *self._fields(NEUTRAL), "seed"}
        values = {
            name: getattr(self, name) for name in type(self).model_fields if name not in without
        }
        return {
            name: value.model_dump(mode="json", exclude=set(config.RESULT_NEUTRAL))
            if isinstance(value, BaseModel)
            else value
            for name, value in values.items()
        }

    def provenance(self, device: "torch.device | None" = None) -> artifacts.Provenance:
        """Return the provenance of the outputs.

        Raises:
            RiftError: an input cannot be read.
        """
        return artifacts.provenance(
            self.stage,
            self.settings_for_provenance(),
            seed=getattr(self, "seed", None),
            device=None if device is None else str(device),
            inputs=self.inputs(),
        )

    def begun_with(self, source: artifacts.Provenance) -> dict[str, Any]:
        """Return the facts that must equal those of a saved state to continue from it.

        Args:
            source: provenance of the outputs of this command.
        """
        keys = ("stage", "version", "settings", "seed", "inputs")
        return {key: source[key] for key in keys}

    def arguments(self) -> list[str]:
        """Return the flags that this command was created from."""
        return list(_flags(self.model_dump(mode="json", exclude_unset=True, exclude_none=True)))

    @classmethod
    def _fields(cls, role: str) -> list[str]:
        return [name for name, field in cls.model_fields.items() if role in field.metadata]


def _flags(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flags(value, f"{prefix}{name}.")
        else:
            yield from flag(f"{prefix}{name}", flag_text(value))


def following_recipe(given: dict[str, Any]) -> dict[str, Any]:
    """Complete the settings of a training with the recipe of its regime.

    Args:
        given: fields of a command that were given, ``regime`` among them or ``pgd``.

    Raises:
        ValueError: a setting belongs to another regime.
    """
    regime = given.get("regime", "pgd")
    if regime not in get_args(RegimeName):
        # The field of the regime reports the error.
        return given
    refuse_sections(given, config.sections_of_other_regimes(regime), f"regime {regime}")
    return config.fill_from_recipe(regime, given)


def following_target(given: dict[str, Any]) -> dict[str, Any]:
    """Complete the settings of a transfer with the authors' recipe for its target.

    Args:
        given: fields of a command that were given: ``method``, and ``data`` of the target.

    Raises:
        ValueError: a setting belongs to another method.
    """
    method: Any = given.get("method")
    if method not in get_args(MethodName) or "data" not in given:
        # The fields report the error.
        return given
    refuse_sections(given, config.sections_of_other_methods(method), f"method {method}")
    try:
        facts = artifacts.read_facts(config.home_expanded(Path(given["data"])))
        target = facts["facts"]["dataset"]
    except (RiftError, KeyError, TypeError):
        # The run reports what is wrong with the data set.
        return given
    return config.fill_from_target(method, str(target), given)


def refuse_sections(given: dict[str, Any], names: Iterable[str], owner: str) -> None:
    """Refuse settings that would have no effect.

    Args:
        given: fields of a command that were given.
        names: fields that have no effect.
        owner: regime, scope or method that does not use them, for the message.

    Raises:
        ValueError: one of them was given.
    """
    others = leaves({name: given[name] for name in names if name in given})
    if others:
        flags = ", ".join(f"--{flag}" for flag in others)
        raise ValueError(f"{flags}: not a setting of {owner}")


def say(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def opened_device(name: str) -> "torch.device":
    """Return the torch device of a name, and print it to standard error.

    Args:
        name: ``auto``, or a torch device such as ``cpu`` or ``cuda:1``.

    Raises:
        RiftError: the device cannot be used.
    """
    import os

    import torch

    from rift.device import choose_device

    device = choose_device(name)
    if os.environ.get("RANK", "0") == "0":
        say(f"computing on {device}, {torch.get_num_threads()} threads")
    return device


def opened_model(
    weights: Path, prepared: "Prepared", data: Path, device: "torch.device"
) -> "tuple[nn.Module, ModelSpec]":
    """Return a model that fits a prepared data set, and its specification.

    Args:
        weights: file of the weights.
        prepared: the prepared data set.
        data: file of the data set, for the error message.
        device: device of the model.

    Raises:
        RiftError: the weights cannot be loaded, or the numbers of classes and channels or the image
            size differ from those of the data set.
    """
    from rift.models import checkpoint

    model, spec = checkpoint.load(weights, device)
    ours = _shape(spec.classes, len(spec.mean), spec.size)
    theirs = _shape(len(prepared.classes), len(prepared.mean), prepared.size)
    if theirs != ours:
        raise RiftError(
            f"{weights}: is for {ours}, but {data} has {theirs}; pass weights and data that match"
        )
    _warn_of_other_data(weights, data)
    return model, spec


def _warn_of_other_data(weights: Path, data: Path) -> None:
    """Say so if a network was trained on another prepared set than the one it is used with.

    That is right for another test set. But two cuts of one data set share images, and then training
    images would count as images that the network has never seen.
    """
    source = artifacts.read_facts(weights).get("provenance", {})
    trained_on = source.get("inputs", {}).get("data")
    if source.get("stage") == "import" or trained_on in (None, artifacts.content_digest(data)):
        return
    say(
        f"warning: {weights} was not trained on {data}, but on another prepared set; if both are"
        " of the same data set, images of this one were training images there, and accuracies are"
        " too high: prepare the data with the settings of that training (data.seed,"
        " data.validation, data.test, data.cut)"
    )


def opened(
    weights: Path, data: Path, split: str, device: "torch.device"
) -> "tuple[nn.Module, Images]":
    """Return a model and one split of the prepared data set, both on the device.

    Raises:
        RiftError: a file cannot be loaded, or the model does not fit the data set.
    """
    from rift.data import load

    prepared = load(data, (split,))
    model, _ = opened_model(weights, prepared, data, device)
    return model, prepared.split(split, device)


def expected_spec(architecture: Architecture, prepared: "Prepared") -> "ModelSpec":
    """Return the specification of a network with this architecture for a data set."""
    from rift.models.checkpoint import ModelSpec

    classes, size = len(prepared.classes), prepared.size
    return ModelSpec(architecture, classes, size, prepared.mean, prepared.std)


def frame(records: "Sequence[DataclassInstance]") -> "pd.DataFrame":
    """Return records as a table with one row per record."""
    import pandas as pd

    return pd.DataFrame([asdict(record) for record in records])


def history(trained: "Trained") -> "pd.DataFrame":
    """Return the history of a training run as a table with one row per epoch."""
    table = frame(trained.history).dropna(axis=1)
    table["kept"] = [row.epoch == trained.kept for row in trained.history]
    if "averaged_standard_accuracy" in table:
        table["averaged_kept"] = table["kept"] & trained.averaged
    return table


def read_shard(text: str | None) -> tuple[int, int]:
    """Return the number and the count of a shard: (2, 4) for ``2/4``, and (1, 1) for None.

    Raises:
        RiftError: the number exceeds the count.
    """
    number, count = map(int, (text or "1/1").split("/"))
    if number > count:
        raise RiftError(f"--shard {text}: the number of a shard must be at most {count}")
    return number, count


def _shape(classes: int, channels: int, size: int) -> str:
    return f"{classes} classes and images of {channels}×{size}×{size}"

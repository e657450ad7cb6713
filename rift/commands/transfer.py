"""Transfer of a base to another data set: ``rift transfer``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, model_validator

from rift import config
from rift.commands.command import Command, Device, PreparedSet, Seed, following_target
from rift.commands.roles import CsvOutput, Input, SafetensorsOutput
from rift.commands.training import MEMORY, run_training
from rift.config import MethodName
from rift.errors import RiftError

if TYPE_CHECKING:
    from torch import nn

    from rift.data import Prepared
    from rift.data.images import Images
    from rift.models.checkpoint import ModelSpec
    from rift.training.history import Trained


class Transfer(Command):
    """Fine-tune a base adversarially to another data set; an interrupted job continues."""

    stage = "transfer"
    adoptable = True
    memory = MEMORY.format(section="transfer")

    base: Input[Path] = Field(description="Weights of the source (rift train, rift import).")
    data: PreparedSet
    method: MethodName = Field(
        description="Method of the transfer. The authors' recipe for the target sets what no flag"
        " sets."
    )
    seed: Seed = 0
    transfer: config.Transfer = config.Transfer()
    attack: config.Attack = config.Attack()
    inner: config.Inner = config.Inner()
    augment: config.Augment = config.Augment()
    trades: config.Trades = config.Trades()
    twins: config.Twins = config.Twins()
    device: Device = "auto"
    output: SafetensorsOutput[Path] = Field(
        description="Output: weights (.safetensors). While the job runs, OUTPUT.state contains its"
        " state."
    )
    history: CsvOutput[Path] = Field(
        description="Output: training history (.csv), one row per evaluated epoch."
    )

    _head: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _follow_the_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        return following_target(given)

    @model_validator(mode="after")
    def _attack_fits(self) -> "Transfer":
        config.check_inner(self.inner, self.attack)
        return self

    @property
    def settings(self) -> config.TransferSettings:
        """Return the sections of the transfer as one configuration."""
        names = config.TransferSettings.model_fields
        return config.TransferSettings(**{name: getattr(self, name) for name in names})

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return all settings that affect the result, without the sections of other methods."""
        foreign = config.sections_of_other_methods(self.method)
        settings = super().settings_for_provenance()
        return {name: value for name, value in settings.items() if name not in foreign}

    @property
    def gpus(self) -> int:
        """Return how many GPUs a job with this command uses where there are some."""
        return super().gpus * self.transfer.processes

    def run(self) -> None:
        run_training(self, self.transfer)

    def network(self, prepared: "Prepared") -> "tuple[nn.Module, ModelSpec]":
        """Return the network of the base with a new last layer, and its specification.

        Raises:
            RiftError: the base cannot be read, or does not fit the target.
        """
        from rift.models import checkpoint
        from rift.transferring import network_for_target

        source, spec = checkpoint.load(self.base)
        try:
            model, target, self._head = network_for_target(
                source,
                spec,
                classes=len(prepared.classes),
                channels=len(prepared.mean),
                size=prepared.size,
                enlarge=self.transfer.enlarge,
                seed=self.seed,
            )
        except RiftError as error:
            raise RiftError(f"{self.base}: {error}") from error
        return model, target

    def train_network(
        self, model: "nn.Module", data: "Images", validation: "Images", **how: Any
    ) -> "Trained":
        """Train the network in place, and return its best epoch."""
        from rift.transferring import transfer

        return transfer(
            model,
            data,
            validation,
            head=self._head,
            method=self.method,
            settings=self.settings,
            seed=self.seed,
            **how,
        )

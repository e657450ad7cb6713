"""Training a base: ``rift train``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.commands.command import (
    Command,
    Device,
    PreparedSet,
    Seed,
    expected_spec,
    following_recipe,
)
from rift.commands.roles import CsvOutput, SafetensorsOutput
from rift.commands.training import MEMORY, run_training
from rift.config import Architecture, RegimeName

if TYPE_CHECKING:
    from torch import nn

    from rift.data import Prepared
    from rift.data.images import Images
    from rift.models.checkpoint import ModelSpec
    from rift.training.history import Trained


class Train(Command):
    """Train a base and keep its most robust epoch; an interrupted job continues."""

    stage = "train"
    adoptable = True
    memory = MEMORY.format(section="train")

    data: PreparedSet
    architecture: Architecture = Field(
        description="Architecture: resnet18 …, timm:NAME, or MODULE:FUNCTION, a function in a file"
        " of the working directory."
    )
    regime: RegimeName = Field(
        "pgd", description="Training regime. The recipe of its authors sets what no flag sets."
    )
    seed: Seed = 0
    train: config.Train = config.Train()
    attack: config.Attack = config.Attack()
    inner: config.Inner = config.Inner()
    augment: config.Augment = config.Augment()
    trades: config.Trades = config.Trades()
    mart: config.Mart = config.Mart()
    score: config.Score = config.Score()
    awp: config.Awp = config.Awp()
    device: Device = "auto"
    output: SafetensorsOutput[Path] = Field(
        description="Output: weights (.safetensors). While the job runs, OUTPUT.state contains its"
        " state."
    )
    history: CsvOutput[Path] = Field(
        description="Output: training history (.csv), one row per evaluated epoch."
    )

    @model_validator(mode="before")
    @classmethod
    def _follow_the_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        return following_recipe(given)

    @model_validator(mode="after")
    def _refuse_unused_keys(self) -> "Train":
        if self.train.init_normalization and not self.train.init:
            raise ValueError("--train.init_normalization requires --train.init")
        config.check_inner(self.inner, self.attack)
        return self

    @property
    def settings(self) -> config.TrainingSettings:
        """Return the sections of the training as one configuration."""
        names = config.TrainingSettings.model_fields.keys() & type(self).model_fields.keys()
        return config.TrainingSettings(**{name: getattr(self, name) for name in names})

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return all settings that affect the result, without the sections of other regimes."""
        foreign = config.sections_of_other_regimes(self.regime)
        settings = super().settings_for_provenance()
        return {name: value for name, value in settings.items() if name not in foreign}

    def files_read(self) -> list[Path]:
        """Return the paths of the data set and of the initial weights."""
        return [*super().files_read(), *self._initial]

    @property
    def _initial(self) -> list[Path]:
        init = self.train.init
        return [] if init is None else [*map(Path, config.ImportedBase(weights=init).files)]

    def inputs(self) -> dict[str, str]:
        """Return the digests of the data set and of the initial weights.

        Raises:
            RiftError: an input cannot be read.
        """
        initial = {f"init.{path}": artifacts.content_digest(path) for path in self._initial}
        return {**super().inputs(), **initial}

    @property
    def gpus(self) -> int:
        """Return how many GPUs a job with this command uses where there are some."""
        return super().gpus * self.train.processes

    def run(self) -> None:
        run_training(self, self.train)

    def train_network(
        self,
        model: "nn.Module",
        data: "Images",
        validation: "Images",
        **how: Any,
    ) -> "Trained":
        """Train the network in place, and return its best epoch."""
        from rift.training.regimes import REGIMES
        from rift.training.trainer import train

        settings = self.settings
        regime = REGIMES[self.regime]
        return train(
            model, data, validation, regime=regime, settings=settings, seed=self.seed, **how
        )

    def network(self, prepared: "Prepared") -> "tuple[nn.Module, ModelSpec]":
        """Return the network with its initial weights, and its specification.

        Raises:
            RiftError: the initial weights cannot be imported.
        """
        from rift.importing import import_base
        from rift.models import build

        spec = expected_spec(self.architecture, prepared)
        if self.train.init is None:
            return build(**asdict(spec), seed=self.seed), spec
        init = config.ImportedBase(
            weights=self.train.init, normalization=self.train.init_normalization
        )
        some = prepared.split("validation").up_to(32).floats()
        found = import_base(
            init,
            spec,
            dataset=prepared.facts["dataset"],
            norm=self.attack.norm,
            images=some,
        )
        return found.model, found.spec

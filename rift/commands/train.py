"""Training a base: ``rift train``."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.artifacts.resume import Work, resumable
from rift.commands.command import (
    Command,
    Device,
    Output,
    PreparedSet,
    Seed,
    expected_spec,
    following_recipe,
    history,
    opened_device,
    say,
)
from rift.config import Architecture, RegimeName
from rift.errors import RiftError
from rift.progress import display, no_progress

if TYPE_CHECKING:
    from torch import nn

    from rift.data import Prepared
    from rift.models.checkpoint import ModelSpec
    from rift.training.history import Epoch, Trained
    from rift.training.parallel import ProcessGroup


class Train(Command):
    """Train a base and keep its most robust epoch; an interrupted job continues."""

    stage = "train"
    adoptable = True
    memory = (
        "--train.batch_size, or raise --train.accumulate, which computes the same gradients in"
        " smaller parts"
    )

    data: PreparedSet
    architecture: Architecture = Field(description="Architecture: resnet18 …, or timm:NAME.")
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
    output: Output[Path] = Field(
        description="Output: weights (.safetensors). While the job runs, OUTPUT.state contains its"
        " state."
    )
    history: Output[Path] = Field(description="Output: training history (.csv), one row per epoch.")

    @model_validator(mode="before")
    @classmethod
    def _follow_the_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        return following_recipe(given)

    @model_validator(mode="after")
    def _refuse_unused_keys(self) -> "Train":
        if self.train.init_normalization and not self.train.init:
            raise ValueError("--train.init_normalization requires --train.init")
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

    def run(self) -> None:
        # torch would print the frames of its C++ code if another process does not answer.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
        from rift.data import load
        from rift.device import launched
        from rift.models import checkpoint
        from rift.training.parallel import joined_group, launch

        if self.train.processes > 1 and not launched():
            _check_processes(self.train.processes, self.device)
            launch(self.train.processes, ["train", *self.arguments()])
            return
        device = opened_device(self.device)
        with joined_group(device) as group, ExitStack() as held:
            # Loading comes first: if data or weights are damaged, no output folder is created.
            prepared = load(self.data, ("train", "validation"))
            model, spec = self._network(prepared)
            source = self.provenance(device)
            work = held.enter_context(
                resumable(
                    self.output,
                    self.begun_with(source),
                    save_minutes=self.train.save_minutes,
                    writes=group.is_main,
                    tell=say if group.is_main else lambda text: None,
                )
            )
            if work.state is not None and group.is_main:
                epoch = work.state["epoch"]
                say(f"continuing in epoch {epoch['epoch']}, after batch {epoch['steps']}")
            trained = self._train(model.to(device), prepared, group, source, work)
            if group.is_main:
                artifacts.write_csv(self.history, history(trained), source)
                checkpoint.save(self.output, trained.state, spec, source)
                _say_kept(trained)

    def _train(
        self,
        model: "nn.Module",
        prepared: "Prepared",
        group: "ProcessGroup",
        source: artifacts.Provenance,
        work: Work,
    ) -> "Trained":
        """Train the network, write the history after every epoch, and return the result."""
        from rift.training.regimes import REGIMES
        from rift.training.trainer import train

        device = next(model.parameters()).device
        with ExitStack() as held:
            logs = group.is_main and self.train.tensorboard
            log = held.enter_context(_tensorboard(self.output.parent)) if logs else None

            def after_epoch(trained: "Trained") -> None:
                if group.is_main:
                    artifacts.write_csv(self.history, history(trained), source)
                if log is not None:
                    log(trained.history[-1])

            progress = held.enter_context(display("train")) if group.is_main else no_progress
            return train(
                model,
                prepared.split("train", device),
                prepared.split("validation", device),
                regime=REGIMES[self.regime],
                settings=self.settings,
                seed=self.seed,
                group=group,
                work=work,
                after_epoch=after_epoch,
                progress=progress,
            )

    def _network(self, prepared: "Prepared") -> "tuple[nn.Module, ModelSpec]":
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
        found = import_base(init, spec, dataset=prepared.facts["dataset"], images=some)
        return found.model, found.spec


def _say_kept(trained: "Trained") -> None:
    say(f"epoch {trained.kept} kept{', averaged weights' if trained.averaged else ''}")
    if trained.collapsed is not None:
        say(
            f"warning: catastrophic overfitting since epoch {trained.collapsed}: the network"
            " withstands the single-step attack of its training, but not PGD; the most robust epoch"
            " is kept"
        )


def _check_processes(processes: int, device: str) -> None:
    """Check that every process gets its own GPU, if the processes compute on GPUs.

    Raises:
        RiftError: there are fewer GPUs than processes, or ``--device`` selects a single GPU.
    """
    import torch

    if device not in ("auto", "cuda", "cpu"):
        raise RiftError(
            f"--train.processes {processes}: each process needs its own GPU; do not pass --device"
            f" {device}"
        )
    available = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if available and processes > available:
        raise RiftError(
            f"--train.processes {processes}: there are {available} GPUs, and each process needs"
            f" one; choose at most {available}"
        )


@contextmanager
def _tensorboard(folder: Path) -> "Iterator[Callable[[Epoch], None]]":
    """Yield a function that logs a row of the training history for TensorBoard.

    Raises:
        RiftError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RiftError(
            "--train.tensorboard: TensorBoard is not installed; run pip install 'rift[tensorboard]'"
        ) from error

    with SummaryWriter(folder / "tensorboard") as writer:

        def log(row: "Epoch") -> None:
            for name, value in asdict(row).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row.epoch)
            writer.flush()

        yield log

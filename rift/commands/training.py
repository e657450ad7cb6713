"""The course of a command that trains: processes, resume, and the files of its result."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rift import artifacts
from rift.artifacts.resume import State, Work, resumable
from rift.commands.command import history, opened_device, say
from rift.config import TrainingLoop
from rift.errors import RiftError
from rift.progress import display, no_progress

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rift.data import Prepared
    from rift.data.images import Images
    from rift.models.checkpoint import ModelSpec
    from rift.training.history import Epoch, Trained

MEMORY = (
    "--{section}.batch_size, or raise --{section}.accumulate, which computes the same gradients in"
    " smaller parts"
)
"""Advice of such a command if memory runs out."""


class Trains(Protocol):
    """A command that trains a network on a prepared data set.

    Its stage is its name, and also the name of the section with its training loop.
    """

    stage: ClassVar[str]

    @property
    def data(self) -> Path:
        """Return the path of the prepared data set."""

    @property
    def device(self) -> str:
        """Return the name of the device."""

    @property
    def output(self) -> Path:
        """Return the path of the weights to write."""

    @property
    def history(self) -> Path:
        """Return the path of the history to write."""

    def arguments(self) -> list[str]:
        """Return the flags of the command."""

    def provenance(self, device: "torch.device | None" = None) -> artifacts.Provenance:
        """Return the provenance of the outputs."""

    def begun_with(self, source: artifacts.Provenance) -> dict[str, Any]:
        """Return the facts that must equal those of a saved state."""

    def network(self, prepared: "Prepared") -> "tuple[nn.Module, ModelSpec]":
        """Return the network with its initial weights, and its specification."""

    def train_network(
        self, model: "nn.Module", data: "Images", validation: "Images", **how: Any
    ) -> "Trained":
        """Train the network in place, and return its best epoch.

        Args:
            model: network on the device of the images.
            data: training images.
            validation: selection split.
            **how: group, work, after_epoch and progress of ``rift.training.trainer.train``.
        """


def run_training(command: Trains, loop: TrainingLoop) -> None:
    """Train in all processes, and write the history after every epoch and the weights at the end.

    Args:
        command: command that describes the training.
        loop: its training loop.

    Raises:
        RiftError: the user can solve the problem.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    # torch would print the frames of its C++ code if another process does not answer.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from rift.data import load
    from rift.device import launched
    from rift.models import checkpoint
    from rift.training.parallel import joined_group, launch

    if loop.processes > 1 and not launched():
        _check_processes(command.stage, loop.processes, command.device)
        launch(loop.processes, [command.stage, *command.arguments()])
        return
    device = opened_device(command.device)
    with joined_group(device) as group, ExitStack() as held:
        # Loading comes first: if data or weights are damaged, no output folder is created.
        prepared = load(command.data, ("train", "validation"))
        model, spec = command.network(prepared)
        source = command.provenance(device)
        work = held.enter_context(
            resumable(
                command.output,
                command.begun_with(source),
                save_minutes=loop.save_minutes,
                writes=group.is_main,
                tell=say if group.is_main else lambda text: None,
            )
        )
        if group.is_main:
            say_where_it_continues(work)
        logs = group.is_main and loop.tensorboard
        folder = command.output.parent
        log = held.enter_context(_tensorboard(command.stage, folder)) if logs else None

        def after_epoch(trained: "Trained") -> None:
            if group.is_main:
                artifacts.write_csv(command.history, history(trained), source)
            if log is not None:
                log(trained.history[-1])

        with display(command.stage) if group.is_main else nullcontext(no_progress) as progress:
            trained = command.train_network(
                model.to(device),
                prepared.split("train", device),
                prepared.split("validation", device),
                group=group,
                work=work,
                after_epoch=after_epoch,
                progress=progress,
            )
        if group.is_main:
            artifacts.write_csv(command.history, history(trained), source)
            checkpoint.save(command.output, trained.state, spec, source)
            _say_kept(trained)


def say_where_it_continues(work: Work) -> None:
    """Print the place within a training or fine-tuning; nothing if it begins."""
    if work.state is not None:
        say(f"continuing in {_place(work.state)}")


def _place(state: State) -> str:
    """Return the place of a saved state in words; the states of a transfer have phases."""
    if "epoch" in state:
        return f"epoch {state['epoch']['epoch']}, after batch {state['epoch']['steps']}"
    phase, inside = next(iter(state.items()))
    return f"{phase}: {_place(inside)}"


def _say_kept(trained: "Trained") -> None:
    say(f"epoch {trained.kept} kept{', averaged weights' if trained.averaged else ''}")
    if trained.collapsed is not None:
        say(
            f"warning: catastrophic overfitting since epoch {trained.collapsed}: the network"
            " withstands the single-step attack of its training, but not PGD; the most robust epoch"
            " is kept"
        )


def _check_processes(section: str, processes: int, device: str) -> None:
    """Check that every process gets its own GPU, if the processes compute on GPUs.

    Raises:
        RiftError: there are fewer GPUs than processes, or ``--device`` selects a single GPU.
    """
    import torch

    if device not in ("auto", "cuda", "cpu"):
        raise RiftError(
            f"--{section}.processes {processes}: each process needs its own GPU; do not pass"
            f" --device {device}"
        )
    available = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if available and processes > available:
        raise RiftError(
            f"--{section}.processes {processes}: there are {available} GPUs, and each process needs"
            f" one; choose at most {available}"
        )


@contextmanager
def _tensorboard(section: str, folder: Path) -> "Iterator[Callable[[Epoch], None]]":
    """Yield a function that logs a row of the training history for TensorBoard.

    Raises:
        RiftError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RiftError(
            f"--{section}.tensorboard: TensorBoard is not installed; run pip install"
            " 'rift[tensorboard]'"
        ) from error

    with SummaryWriter(folder / "tensorboard") as writer:

        def log(row: "Epoch") -> None:
            for name, value in asdict(row).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row.epoch)
            writer.flush()

        yield log

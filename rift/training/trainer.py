"""The trainer: one resumable loop for training, fine-tuning and transfer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rift.artifacts.resume import State, Work
from rift.config import TrainingSettings
from rift.data.images import Images
from rift.models.requirements import PROBED, check_network, unwrapped
from rift.progress import Progress, no_progress
from rift.seeds import generator, global_numbers_kept, seed_torch
from rift.thirdparty import synchronised_norms
from rift.training.averaging import Average
from rift.training.checkpoints import Candidates, Checkpoint
from rift.training.compiling import compile_network
from rift.training.epoch import EpochState, Steps, run_epoch
from rift.training.history import Epoch, Trained, TrainingEpoch
from rift.training.measuring import Measure, measure_robust
from rift.training.parallel import ALONE, ProcessGroup
from rift.training.regimes import Regime
from rift.training.schedules import SCHEDULES
from rift.training.step import BatchGradient

STEPS_BETWEEN_QUESTIONS = 8
"""Number of steps after which several processes agree whether to save; agreeing makes them wait."""


@dataclass(frozen=True)
class Job:
    """The differences between training, fine-tuning and transfer.

    Attributes:
        regime: loss, inner attack, and wrapping of the model.
        settings: optimiser, schedule, precision, augmentation, inner attack and threat model.
        purpose: name of the stream of random numbers.
        parameters: weights that are trained; None trains all.
        head: weights among them with a learning rate of their own.
        head_rate: learning rate of the head, as a multiple of that of the other weights.
        measure: function that measures the model after an epoch.
        moves_statistics: whether batch norm is in training mode.
        watched: weights whose gradient is measured in every step.
    """

    regime: Regime
    settings: TrainingSettings
    purpose: str = "training"
    parameters: Sequence[nn.Parameter] | None = None
    head: Sequence[nn.Parameter] = ()
    head_rate: float = 1.0
    measure: Measure = measure_robust
    moves_statistics: bool = True
    watched: Sequence[nn.Parameter] = ()


class Trainer:
    """A training, with everything that changes while it runs and that can be saved and restored.

    Args:
        model: network, trained in place.
        data: training images, on the device of the model.
        validation: selection split, likewise.
        job: regime, settings, weights and measurement of the training.
        seed: seed of data order, augmentation and attacks.
        group: processes that share every batch.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Images,
        validation: Images,
        job: Job,
        *,
        seed: int,
        group: ProcessGroup = ALONE,
    ) -> None:
        chosen = job.settings.train
        on_gpu = data.device.type == "cuda"
        model = unwrapped(model)
        check_network(model, data.take(slice(0, PROBED)).floats(), data.labels)
        model = job.regime.prepare(model)
        if group.size > 1 and on_gpu:
            model = synchronised_norms(model)
        compile_network(model, chosen.compile, data.device)
        self.model, self.data, self.validation = model, data, validation
        self.job, self.settings, self.seed, self.group = job, job.settings, seed, group
        self.stream = generator(seed, job.purpose, data.device)
        trained = list(model.parameters()) if job.parameters is None else job.parameters
        self.optimizer = torch.optim.SGD(
            _groups(trained, job.head, job.head_rate),
            chosen.learning_rate,
            chosen.momentum,
            weight_decay=chosen.weight_decay,
        )
        self.gradient = BatchGradient(model, job.regime, job.settings, self.stream, group)
        self.average = Average(model, chosen.averaging) if chosen.averaging else None
        robust = job.regime.kept_by == "adversarial"
        tested = robust and chosen.keep == "most-accurate-of-equals"
        self.candidates = Candidates(1 if robust else 0, chosen.keep_level if tested else None)
        self.epoch = EpochState.begin(1, len(data), self.stream)
        self.history: list[Epoch] = []
        self.collapsed: int | None = None
        self._seconds = 0.0
        self._since = time.monotonic()

    def run(
        self,
        work: Work,
        after_epoch: Callable[[Trained], None],
        progress: Progress = no_progress,
    ) -> Trained:
        """Train to the last epoch, and return the result.

        Args:
            work: source of the state of an interrupted run, and target of this run's states.
            after_epoch: called with the result so far after every epoch that was evaluated.
            progress: called after every step.

        Raises:
            RiftError: the loss is no longer finite.
            Stopped: a signal asked the process to stop; the state has been saved.
        """
        saved = "no state was saved before"
        if work.state is not None:
            self.restore(work.state)
            saved = f"the last saved state is of {self.place}"

        def save() -> None:
            nonlocal saved
            self.epoch.check_finite(f"; {saved}")
            saved = f"the last saved state is of {self.place}"
            work.save(self.state())

        def after_step() -> None:
            if self.average is not None:
                self.average.update(self.model)
            asks = self.group.size == 1 or self.epoch.steps % STEPS_BETWEEN_QUESTIONS == 0
            if asks and self.group.any(work.is_due):
                save()

        chosen = self.settings.train
        steps = Steps(
            gradient=self._seeded_gradient,
            optimizer=self.optimizer,
            learning_rate=lambda done: SCHEDULES[chosen.schedule](chosen, done),
            augmentation=self.settings.augment,
            generator=self.stream,
            batch_size=chosen.batch_size,
            least=2 * self.group.size * chosen.accumulate,
            epochs=chosen.epochs,
            after_step=after_step,
            watched=self.job.watched,
        )
        with global_numbers_kept(self.data.device):
            while self.epoch.epoch <= chosen.epochs:
                self.model.train(self.job.moves_statistics)
                run_epoch(self.epoch, self.data, steps, progress)
                self.epoch.check_finite(f"; {saved}")
                finished, measured = self.epoch, self._is_measured
                note = self._finish_epoch() if measured else "not evaluated"
                self._seconds, self._since = 0.0, time.monotonic()
                progress(finished.epoch, chosen.epochs, note, loss=finished.loss)
                self.epoch = EpochState.begin(finished.epoch + 1, len(self.data), self.stream)
                if measured:
                    after_epoch(self.result())
                save()
        return self.result()

    def _seeded_gradient(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Compute the gradient of a step, with the step's own numbers for dropout and drop-path.

        The numbers depend on nothing but seed, step and process, so that no state contains them.
        """
        step = f"epoch {epoch}, step {self.epoch.steps}, process {self.group.rank}"
        seed_torch(self.seed, f"{self.job.purpose}: dropout: {step}", images.device)
        return self.gradient(images, labels, epoch)

    @property
    def _is_measured(self) -> bool:
        """Return whether the model is evaluated after this epoch."""
        chosen, number = self.settings.train, self.epoch.epoch
        return number % chosen.measure_every == 0 or number == chosen.epochs

    @property
    def place(self) -> str:
        """Return the position of the training, for messages."""
        return f"epoch {self.epoch.epoch}, batch {self.epoch.steps}"

    @property
    def seconds(self) -> float:
        """Return the seconds of this epoch so far, including those of earlier processes."""
        return self._seconds + time.monotonic() - self._since

    def consider(self, outcomes: Tensor, *, averaged: bool = False) -> None:
        """Make the present weights of the model a candidate for the kept checkpoint.

        Args:
            outcomes: outcomes (0 or 1) on clean and attacked images of the selection split, 2×N, or
                only on clean images, 1×N.
            averaged: whether these are averaged weights.
        """
        kept = {
            name: value.detach().clone() for name, value in self.job.regime.kept(self.model).items()
        }
        self.candidates.consider(outcomes, self.epoch.epoch, averaged, kept)

    def result(self) -> Trained:
        """Return the result so far; at least one epoch must have been evaluated."""
        kept = self.candidates.kept
        return Trained(kept.state, list(self.history), kept.epoch, kept.averaged, self.collapsed)

    def state(self) -> State:
        """Return everything that another process needs to continue; tensors are not copied."""
        average = self.average
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": average and {"steps": average.steps, "state": average.state},
            "random": self.stream.get_state(),
            "epoch": vars(self.epoch).copy(),
            "history": [asdict(row) for row in self.history],
            "candidates": [vars(checkpoint).copy() for checkpoint in self.candidates.checkpoints],
            "collapsed": self.collapsed,
            "seconds": self.seconds,
        }

    def restore(self, state: State) -> None:
        """Continue from a state that ``state`` returned."""
        device = self.data.device
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(**state["average"])
        self.stream.set_state(state["random"])
        self.epoch = EpochState.restore(state["epoch"], device)
        self.history = [self.job.measure.row(**row) for row in state["history"]]
        self.candidates.checkpoints = [
            Checkpoint.restore(saved, device) for saved in state["candidates"]
        ]
        self.collapsed = state["collapsed"]
        self._seconds = state["seconds"]

    def _finish_epoch(self) -> str:
        """Measure the model after an epoch, and return a line for the log."""
        self.model.eval()
        row, note = self.job.measure(self)
        self.history.append(row)
        collapse = self._describe_collapse()
        if not collapse:
            return note
        self.collapsed = self.collapsed or row.epoch
        return f"{note}; CATASTROPHIC OVERFITTING: {collapse}"

    def _describe_collapse(self) -> str:
        """Return a description of catastrophic overfitting (Wong et al. 2020), or an empty string.

        Only single-step attacks are checked, because they are prone to it.
        """
        rows = [row for row in self.history if isinstance(row, TrainingEpoch)]
        if self.settings.inner.method == "pgd" or self.job.regime.objective is None or not rows:
            return ""
        best, now = max(rows, key=lambda row: row.adversarial_accuracy), rows[-1]
        fell = 2 * now.adversarial_accuracy < best.adversarial_accuracy
        if not fell or now.train_accuracy <= best.train_accuracy:
            return ""
        return (
            f"accuracy under PGD fell from {best.adversarial_accuracy:.2f}% (epoch {best.epoch}) to"
            f" {now.adversarial_accuracy:.2f}%, while accuracy under the single-step attack of"
            f" training rose from {best.train_accuracy:.2f}% to {now.train_accuracy:.2f}%; epoch"
            f" {self.candidates.kept.epoch} stays kept"
        )


def _groups(
    trained: Sequence[nn.Parameter], head: Sequence[nn.Parameter], head_rate: float
) -> list[dict[str, Any]]:
    """Return the weights in groups for the optimiser; ``scale`` multiplies the learning rate."""
    if not head or head_rate == 1:
        return [{"params": list(trained), "scale": 1.0}]
    own = set(head)
    return [
        {"params": [weight for weight in trained if weight not in own], "scale": 1.0},
        {"params": list(head), "scale": head_rate},
    ]


def train(
    model: nn.Module,
    data: Images,
    validation: Images,
    *,
    regime: Regime,
    settings: TrainingSettings,
    seed: int,
    group: ProcessGroup = ALONE,
    work: Work | None = None,
    after_epoch: Callable[[Trained], None] = lambda trained: None,
    progress: Progress = no_progress,
) -> Trained:
    """Train a model and return its best epoch.

    The kept epoch has the best accuracy on the selection split: adversarial accuracy, or standard
    accuracy if the regime does not attack. Ties go to the epoch that is better in the other kind,
    then to the earlier one. With ``train.keep: most-accurate-of-equals``, the kept epoch is the
    most accurate of those that a paired test cannot distinguish from the best. Averaged weights
    compete with those of the last step.

    Args:
        model: network, trained in place; it ends with the weights of the last epoch.
        data: training images, on the device of the model.
        validation: selection split, likewise.
        regime: entry of ``rift.training.regimes.REGIMES``.
        settings: schedule, optimiser, precision, augmentation, inner attack, and the threat model
            that decides which epoch is kept.
        seed: seed of data order, augmentation and attacks.
        group: processes that share every batch.
        work: source of the state of an interrupted run, and target of this run's states. A
            continued run gives the same result as an uninterrupted one.
        after_epoch: called with the result so far after every epoch.
        progress: called after every step.

    Raises:
        RiftError: the loss is no longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    trainer = Trainer(model, data, validation, Job(regime, settings), seed=seed, group=group)
    return trainer.run(work or Work(), after_epoch, progress)

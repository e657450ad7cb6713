"""The training loop that all regimes share."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rift.config import RunSettings
from rift.data.split import BATCH_SIZE, Split
from rift.evaluation.accuracy import correct, percent, withstands_pgd
from rift.models.modes import snapshot
from rift.progress import Progress, silent
from rift.seeds import generator
from rift.training import Regime
from rift.training.averaging import Average
from rift.training.epoch import Epoch, Pass, Trained, go_through
from rift.training.parallel import ALONE, Team
from rift.training.schedules import SCHEDULES
from rift.training.step import gradients_of

WATCHED = 1000  # training images that are measured at the end of an epoch like the selection split

State = dict[str, Any]
"""All that another process needs to go on: tensors, numbers, texts, and lists and dicts of them."""


@dataclass(frozen=True)
class TrainingEpoch(Epoch):
    """A row of the training history; all accuracies but ``train_accuracy`` are measured at the epoch's end, in eval mode.

    Attributes:
        adversarial_accuracy: on the selection split under PGD.
        train_standard_accuracy: on the first training images, clean and not augmented.
        train_adversarial_accuracy: on them, under PGD.
        averaged_standard_accuracy: of the averaged weights, on the selection split; None if there are none.
        averaged_adversarial_accuracy: likewise, under PGD.
        images_per_second: while training.
        seconds: that training and measuring took.
    """

    adversarial_accuracy: float
    train_standard_accuracy: float
    train_adversarial_accuracy: float
    averaged_standard_accuracy: float | None
    averaged_adversarial_accuracy: float | None
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class TrainedBase(Trained):
    """What training has come to.

    Attributes:
        averaged: whether the averaged weights of that epoch are kept, not the last step's.
        collapsed: the first epoch of catastrophic overfitting, None if there was none.
    """

    history: Sequence[TrainingEpoch]
    averaged: bool
    collapsed: int | None


@dataclass(frozen=True)
class Best:
    """The weights kept so far.

    Attributes:
        rank: the accuracy that decides, and the other kind.
        epoch: that they are from.
        averaged: whether they are averaged ones.
        state: the weights.
    """

    rank: list[float]
    epoch: int
    averaged: bool
    state: dict[str, Tensor]


class Run:
    """A training under way: everything that changes while it runs, and can be written down and taken up again."""

    def __init__(
        self,
        model: nn.Module,
        data: Split,
        validation: Split,
        regime: Regime,
        settings: RunSettings,
        seed: int,
        team: Team,
    ) -> None:
        chosen, device = settings.train, data.images.device
        if team.size > 1 and device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if chosen.compile == "always" or (chosen.compile == "auto" and device.type == "cuda"):
            model.compile()
        self.model, self.data, self.validation = model, data, validation
        self.regime, self.settings, self.seed, self.team = regime, settings, seed, team
        self.stream = generator(seed, "training", device)
        self.optimizer = torch.optim.SGD(
            model.parameters(), chosen.learning_rate, chosen.momentum, weight_decay=chosen.weight_decay
        )
        self.average = Average(model, chosen.averaging) if chosen.averaging else None
        self.here = Pass.begin(1, len(data.labels), self.stream)
        self.history: list[TrainingEpoch] = []
        self.best: Best | None = None
        self.collapsed: int | None = None
        self._seconds = 0.0
        self._since = time.monotonic()
        self._gradients = gradients_of(model, regime, settings, device, self.stream, team)

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradients of a batch; returns its mean loss and hits."""
        return self._gradients(images, labels, self.here.epoch > self.settings.awp.warmup)

    def place(self) -> str:
        """Say how far the run has come."""
        return f"epoch {self.here.epoch}, batch {self.here.steps}"

    def state(self) -> State:
        """Return everything that another process needs to go on, not copied."""
        cuda = torch.cuda.is_available()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else {"steps": self.average.steps, "state": self.average.state},
            "random": {
                "stream": self.stream.get_state(),
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if cuda else [],
            },
            "pass": vars(self.here).copy(),
            "history": [asdict(row) for row in self.history],
            "best": None if self.best is None else vars(self.best).copy(),
            "collapsed": self.collapsed,
            "seconds": self._seconds + time.monotonic() - self._since,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(**state["average"])
        self.stream.set_state(state["random"]["stream"])
        torch.set_rng_state(state["random"]["cpu"])
        if state["random"]["cuda"]:
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
        device = self.data.images.device
        self.here = Pass(**_moved(state["pass"], device))
        self.history = [TrainingEpoch(**row) for row in state["history"]]
        self.best = None if state["best"] is None else Best(**state["best"])
        self.collapsed = state["collapsed"]
        self._seconds = state["seconds"]

    def finish_epoch(self) -> str:
        """Measure what an epoch ended with, and keep it if it is the best; returns what is worth saying of it."""
        trained_for = self._seconds + time.monotonic() - self._since
        self.model.eval()
        validation = self._measure(self.validation)
        watched = self._measure(self.data.up_to(WATCHED))
        averaged = None
        if self.average is not None:
            with self.average.within(self.model):
                averaged = self._measure(self.validation)
                self._keep_if_best(*averaged, averaged=True)
        self._keep_if_best(*validation, averaged=False)
        row = TrainingEpoch(
            epoch=self.here.epoch,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            train_loss=self.here.loss,
            train_accuracy=self.here.accuracy,
            standard_accuracy=validation[0],
            adversarial_accuracy=validation[1],
            train_standard_accuracy=watched[0],
            train_adversarial_accuracy=watched[1],
            averaged_standard_accuracy=None if averaged is None else averaged[0],
            averaged_adversarial_accuracy=None if averaged is None else averaged[1],
            images_per_second=len(self.data.labels) / trained_for,
            seconds=self._seconds + time.monotonic() - self._since,
        )
        self.history.append(row)
        self._seconds, self._since = 0.0, time.monotonic()
        notes = [f"accuracy {validation[0]:.2f}%, under PGD {validation[1]:.2f}% on the selection split"]
        if averaged is not None:
            notes.append(f"averaged weights {averaged[0]:.2f}%, {averaged[1]:.2f}%")
        if collapse := self._collapse():
            notes.append(f"CATASTROPHIC OVERFITTING: {collapse}")
            self.collapsed = self.collapsed or row.epoch
        return "; ".join(notes)

    def trained(self) -> TrainedBase:
        """Return what training has come to, after one epoch at least."""
        assert self.best is not None
        return TrainedBase(self.best.state, list(self.history), self.best.epoch, self.best.averaged, self.collapsed)

    def _measure(self, split: Split) -> tuple[float, float]:
        """Accuracy on clean and attacked images; the processes of the team share the work."""
        device = split.images.device
        outcomes = torch.zeros(2, len(split.labels), device=device)
        parts = zip(torch.arange(len(split.labels)).split(BATCH_SIZE), strict=True)
        for number, (part,) in enumerate(parts):
            if number % self.team.size == self.team.rank:
                images = Split(split.images[part], split.labels[part])
                starts = generator(self.seed, f"checkpoint selection {number}", device)
                outcomes[0, part] = correct(self.model, images).float()
                outcomes[1, part] = withstands_pgd(
                    self.model, images, self.settings.attack, restarts=1, generator=starts
                ).float()
        self.team.add([outcomes])
        return percent(outcomes[0]), percent(outcomes[1])

    def _keep_if_best(self, standard: float, adversarial: float, *, averaged: bool) -> None:
        """Keep what the model holds now, if nothing before was as good."""
        rank = (adversarial, standard) if self.regime.kept_by == "adversarial" else (standard, adversarial)
        if self.best is None or rank > tuple(self.best.rank):
            self.best = Best(list(rank), self.here.epoch, averaged, snapshot(self.model))

    def _collapse(self) -> str:
        """Tell catastrophic overfitting, which single-step attacks are prone to (Wong et al. 2020); empty if there is none."""
        if self.settings.inner.method == "pgd" or self.regime.objective is None:
            return ""
        best, now = max(self.history, key=lambda row: row.adversarial_accuracy), self.history[-1]
        if 2 * now.adversarial_accuracy >= best.adversarial_accuracy or now.train_accuracy <= best.train_accuracy:
            return ""
        assert self.best is not None
        return (
            f"accuracy under PGD fell from {best.adversarial_accuracy:.2f}% (epoch {best.epoch}) to"
            f" {now.adversarial_accuracy:.2f}%, while that under the single-step attack trained with rose from"
            f" {best.train_accuracy:.2f}% to {now.train_accuracy:.2f}%; epoch {self.best.epoch} stays kept"
        )


def _moved(content: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in content.items()}


def train(
    model: nn.Module,
    data: Split,
    validation: Split,
    regime: Regime,
    settings: RunSettings,
    seed: int,
    progress: Progress = silent,
    *,
    team: Team = ALONE,
    state: State | None = None,
    keep_state: Callable[[State], None] = lambda state: None,
    after_epoch: Callable[[TrainedBase], None] = lambda trained: None,
) -> TrainedBase:
    """Train a model and keep its best epoch.

    The epoch kept is the one with the best accuracy of the regime's kind (adversarial, or standard where the regime
    does not attack) on the selection split; of equal ones the better in the other kind, then the earlier. Averaged
    weights, if there are any, compete with those of the last step.

    Args:
        model: trained in place; it ends with the weights of the last epoch.
        data: training split, on the device of the model.
        validation: selection split, likewise.
        regime: an entry of ``rift.training.REGIMES``.
        settings: schedule, optimiser, precision, augmentation, inner attack, and the threat model, which decides what is kept.
        seed: of data order, augmentation and attacks.
        progress: called after every batch.
        team: processes that share every batch.
        state: an earlier process's, to go on from it: the same model, data, regime, settings and seed then end as if nothing
            had happened.
        keep_state: called with the state at the end of every epoch, and every ``train.save_minutes`` within one. It must
            be done with it when it returns: training goes on with the same tensors.
        after_epoch: called with what training has come to, at the end of every epoch.

    Raises:
        RiftError: the loss is no longer finite.
    """
    run = Run(model, data, validation, regime, settings, seed, team)
    if state is not None:
        run.restore(state)
    chosen = settings.train
    last = f"; the last state kept is of {run.place()}" if state is not None else "; no state was kept before"
    kept_at = time.monotonic()

    def keep() -> None:
        nonlocal last, kept_at
        run.here.check_finite(last)
        keep_state(run.state())
        last, kept_at = f"; the last state kept is of {run.place()}", time.monotonic()

    def after_step() -> None:
        if run.average is not None:
            run.average.update(model)
        if time.monotonic() - kept_at >= 60 * chosen.save_minutes:
            keep()

    def learning_rate(done: float) -> float:
        return SCHEDULES[chosen.schedule](chosen, done)

    while run.here.epoch <= chosen.epochs:
        model.train()
        go_through(
            run.here,
            data,
            run.step,
            run.optimizer,
            learning_rate,
            settings.augment,
            run.stream,
            batch_size=chosen.batch_size,
            least=2 * team.size * chosen.accumulate,
            after_step=after_step,
            epochs=chosen.epochs,
            progress=progress,
        )
        run.here.check_finite(last)
        note = run.finish_epoch()
        progress(run.here.epoch, chosen.epochs, note, loss=run.history[-1].train_loss)
        run.here = Pass.begin(run.here.epoch + 1, len(data.labels), run.stream)
        keep()
        after_epoch(run.trained())
    return run.trained()

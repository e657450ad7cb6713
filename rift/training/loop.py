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
from rift.training.epoch import Epoch, Pass, Trained, arithmetic, go_through
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
class Checkpoint:
    """Weights that may be kept.

    Attributes:
        rank: the accuracy that decides, and the other kind, in percent of the selection split.
        passed: for each image of the selection split whether it was classified correctly, of the kind that decides: bool, N.
        epoch: at whose end the weights were taken.
        averaged: whether they are averaged ones.
        state: the weights.
    """

    rank: list[float]
    passed: Tensor
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
        self.candidates: list[Checkpoint] = []
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
            "candidates": [vars(checkpoint).copy() for checkpoint in self.candidates],
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
        self.candidates = [Checkpoint(**_moved(checkpoint, device)) for checkpoint in state["candidates"]]
        self.collapsed = state["collapsed"]
        self._seconds = state["seconds"]

    def finish_epoch(self) -> str:
        """Measure what an epoch ended with, and keep it if it is the best; returns what is worth saying of it."""
        trained_for = self._seconds + time.monotonic() - self._since
        self.model.eval()
        selection = self.validation.first(self.settings.train.measure_images, "train.measure_images")
        outcomes = self._measure(selection)
        validation = percent(outcomes[0]), percent(outcomes[1])
        watched = [percent(kind) for kind in self._measure(self.data.up_to(WATCHED))]
        averaged = None
        if self.average is not None:
            with self.average.within(self.model):
                of_average = self._measure(selection)
                averaged = percent(of_average[0]), percent(of_average[1])
                self._consider(of_average, averaged=True)
        self._consider(outcomes, averaged=False)
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
        best = self._best()
        return TrainedBase(best.state, list(self.history), best.epoch, best.averaged, self.collapsed)

    def _measure(self, split: Split) -> Tensor:
        """Outcomes on clean and attacked images, 2×N, 0 or 1; the processes of the team share the work."""
        device = split.images.device
        in_bfloat16 = arithmetic(self.settings.train.measure_precision, device) == "bfloat16"
        outcomes = torch.zeros(2, len(split.labels), device=device)
        parts = zip(torch.arange(len(split.labels)).split(BATCH_SIZE), strict=True)
        for number, (part,) in enumerate(parts):
            if number % self.team.size == self.team.rank:
                images = Split(split.images[part], split.labels[part])
                starts = generator(self.seed, f"checkpoint selection {number}", device)
                with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
                    outcomes[0, part] = correct(self.model, images).float()
                    outcomes[1, part] = withstands_pgd(
                        self.model, images, self.settings.attack, restarts=1, generator=starts
                    ).float()
        self.team.add([outcomes])
        return outcomes

    def _consider(self, outcomes: Tensor, *, averaged: bool) -> None:
        """Make the weights that the model holds now a candidate, and forget those that can no longer be kept."""
        decides, other = (1, 0) if self.regime.kept_by == "adversarial" else (0, 1)
        rank = [percent(outcomes[decides]), percent(outcomes[other])]
        if any(rank[0] <= before.rank[0] and rank[1] <= before.rank[1] for before in self.candidates):
            return  # no better in either
        now = Checkpoint(rank, outcomes[decides].bool(), self.here.epoch, averaged, snapshot(self.model))
        self.candidates = [
            *(before for before in self.candidates if before.rank[0] > rank[0] or before.rank[1] > rank[1]),
            now,
        ]
        most = max(self.candidates, key=lambda checkpoint: checkpoint.rank)
        self.candidates = [
            checkpoint for checkpoint in self.candidates if checkpoint is most or self._equals(checkpoint, most)
        ]

    def _equals(self, checkpoint: Checkpoint, most: Checkpoint) -> bool:
        """Return whether a paired test cannot tell a checkpoint from the best one, where the settings ask for such a test."""
        if self.settings.train.keep == "most-robust" or self.regime.kept_by == "standard":
            return False
        from rift.statistics import mcnemar  # scipy takes half a second to import, and few runs need it

        gained, lost = (
            int((one & ~other).sum())
            for one, other in ((most.passed, checkpoint.passed), (checkpoint.passed, most.passed))
        )
        return mcnemar(gained, lost) > self.settings.train.keep_level

    def _best(self) -> Checkpoint:
        """Return the candidate that is kept."""
        return max(self.candidates, key=lambda checkpoint: checkpoint.rank[::-1])

    def _collapse(self) -> str:
        """Tell catastrophic overfitting, which single-step attacks are prone to (Wong et al. 2020); empty if there is none."""
        if self.settings.inner.method == "pgd" or self.regime.objective is None:
            return ""
        best, now = max(self.history, key=lambda row: row.adversarial_accuracy), self.history[-1]
        if 2 * now.adversarial_accuracy >= best.adversarial_accuracy or now.train_accuracy <= best.train_accuracy:
            return ""
        return (
            f"accuracy under PGD fell from {best.adversarial_accuracy:.2f}% (epoch {best.epoch}) to"
            f" {now.adversarial_accuracy:.2f}%, while that under the single-step attack trained with rose from"
            f" {best.train_accuracy:.2f}% to {now.train_accuracy:.2f}%; epoch {self._best().epoch} stays kept"
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
    does not attack) on the selection split; of equal ones the better in the other kind, then the earlier. With
    ``train.keep: most-accurate-of-equals`` it is the most accurate of those whose adversarial outcomes a paired test cannot
    tell from the best one's. Averaged weights, if there are any, compete with those of the last step.

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

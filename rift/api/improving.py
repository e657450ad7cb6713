"""RiFT in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from rift import config
from rift.api import steps
from rift.api.budget import amounts_within, limited
from rift.api.comparison import compared, selected
from rift.api.given import (
    Given,
    ImageSet,
    Sections,
    check_usable,
    digests_of,
    images_of,
    network_of,
    settings_of,
    shown,
)
from rift.api.result import Result
from rift.artifacts import Work
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.state import copied
from rift.training.history import Epoch, Trained


def improve(
    model: nn.Module,
    train: ImageSet,
    validation: ImageSet,
    *,
    test: ImageSet | None = None,
    modules: int = 1,
    attack: Given[config.Attack] = None,
    criticality: Given[config.Criticality] = None,
    finetune: Given[config.Finetune] = None,
    augment: Given[config.Augment] = None,
    interpolate: Given[config.Interpolate] = None,
    pgd: Given[config.Pgd] = None,
    autoattack: bool = False,
    budget: str | None = None,
    seed: int = 0,
    progress: bool = True,
    work: Work | None = None,
) -> Result:
    """Make a robust network more accurate, and keep its robustness (RiFT, Zhu et al. 2023).

    The least robust-critical module is fine-tuned on clean images. Of the networks between base and
    fine-tuned weights, the most accurate one is selected that is as robust as the base. The given
    network does not change.

    Settings are sections of an experiment file, as a dict (``attack={"eps": "8/255"}``) or an
    object (``attack=rift.config.Attack(eps=8 / 255)``). Defaults are those of the paper, with MRC
    on at most 1,000 training images.

    Args:
        model: robust network, which returns logits for images in [0, 1]; on the CPU or a GPU.
        train: training images: a pair (images, labels), a torch ``Dataset`` or ``DataLoader``.
        validation: images for the selection of the epoch and of α. The network must not have been
            trained on them.
        test: images for the comparison of both networks; they decide nothing.
        modules: number of least critical modules that are fine-tuned: ≥ 1.
        attack: threat model and steps of PGD.
        criticality: measurement of MRC.
        finetune: epochs and optimiser.
        augment: augmentation of the training images.
        interpolate: values of α, tolerance, restarts of PGD, number of validation images.
        pgd: restarts of PGD on test images.
        autoattack: whether AutoAttack is run on the test images, too.
        budget: time for all steps, such as ``90s``, ``30m`` or ``2h``. The network is measured for
            a few seconds, and numbers of images and epochs are chosen that fit. Those of the
            settings are the largest ones.
        seed: seed of all random numbers.
        progress: whether progress is shown on standard error.
        work: from ``rift.artifacts.resumable``: source of the state of an interrupted run, and
            target of this run's states. The numbers that a budget chose are among them.

    Raises:
        RiftError: network, images or settings cannot be used, or the budget is too short; the
            message says why.
        Stopped: a signal asked the process to stop, with ``work``.
    """
    _check_asked(test, modules, autoattack)
    _check_budget(budget)
    with network_of(model) as (network, device):
        base = copied(network)
    splits = {"train": train, "validation": validation} | ({} if test is None else {"test": test})
    images = {name: images_of(split, device, name) for name, split in splits.items()}
    # Whatever is wrong with a set would otherwise be found after hours.
    for name, some in images.items():
        check_usable(base, some, name)
    _check_comparable(images)
    sections = settings_of(
        attack=attack,
        criticality=criticality,
        finetune=finetune,
        augment=augment,
        interpolate=interpolate,
        pgd=pgd,
    )
    shared = {"seed": seed, "progress": progress}
    job = _Improvement(base, images, sections, modules, autoattack, shared, work or Work())
    return job.run() if budget is None else job.run_within(budget)


SHARED = 0.01
"""Largest share of images that two sets may have in common: published sets have some duplicates."""

PURPOSES = {
    "validation": "the network was not trained on",
    "test": "decide nothing, or omit test",
}


@dataclass(frozen=True)
class _Improvement:
    """The steps of RiFT for one network. Each runs unless an earlier process has finished it.

    Attributes:
        base: the robust network.
        images: images of ``train``, ``validation`` and, if given, ``test``.
        sections: settings of all steps.
        modules: number of least critical modules that are fine-tuned.
        autoattack: whether AutoAttack is run on the test images, too.
        shared: keywords of all steps: ``seed`` and ``progress``.
        work: saves the results of finished steps.
    """

    base: nn.Module
    images: dict[str, Images]
    sections: Sections
    modules: int
    autoattack: bool
    shared: dict[str, Any]
    work: Work

    def amounts_within(self, budget: str) -> dict[str, Any]:
        """Choose the numbers that fit a time, or take those of an earlier process; say them."""

        def choose(_step: Work) -> dict[str, Any]:
            return amounts_within(
                budget, self.base, self.images, self.sections, autoattack=self.autoattack
            )

        with shown("budget", self.shared["progress"]) as tell:
            chosen: dict[str, Any] = self.work.step("budget", choose)
            tell(1, 1, chosen["text"])
        return chosen

    def run_within(self, budget: str) -> Result:
        """Run all steps with numbers of images and epochs that fit a time."""
        chosen = self.amounts_within(budget)
        images, sections = limited(chosen, self.images, self.sections)
        found = replace(self, images=images, sections=sections).run()
        about = {**found.settings, "budget": {"time": budget, **chosen["amounts"]}}
        return replace(found, settings=about, budget=chosen["text"])

    def run(self) -> Result:
        """Run all steps, and return the result."""
        sections, validation = self.sections, self.images["validation"]
        self.images["train"].first(sections.finetune.images, "finetune.images")
        selection = validation.first(sections.interpolate.images, "interpolate.images")

        table = self.mrc()
        names = steps.least_critical_of(table, self.modules, sections.finetune)
        tuned = self.fine_tuned(names)
        points = self.sweep(tuned, selection)
        alpha = steps.select(
            points, sections.interpolate.tolerance, sections.interpolate.confidence
        )
        better = steps.interpolate(self.base, tuned, alpha)
        outcomes = self.outcomes(better, alpha) if "test" in self.images else {}
        return Result(
            model=better,
            modules=names,
            alpha=alpha,
            mrc=table,
            history=_history(tuned),
            sweep=points,
            accuracy=compared(**outcomes) if outcomes else selected(points, alpha, len(selection)),
            outcomes=outcomes,
            validation_images=len(selection),
            seed=self.shared["seed"],
            settings={
                **sections.model_dump(mode="json"),
                "modules": self.modules,
                "autoattack": self.autoattack,
            },
        )

    def mrc(self) -> pd.DataFrame:
        """Return the MRC of all modules."""
        sections = self.sections
        asked = sections.criticality.racing_for([self.modules], 0, sections.finetune)

        def measure(_step: Work) -> list[dict[Any, Any]]:
            how = {"attack": sections.attack, "criticality": asked, **self.shared}
            return steps.mrc(self.base, self.images["train"], **how).to_dict("records")

        return pd.DataFrame(self.work.step("criticality", measure))

    def fine_tuned(self, names: Sequence[str]) -> Trained:
        """Fine-tune modules on clean images."""
        train, validation = self.images["train"], self.images["validation"]

        def tune(step: Work) -> dict[str, Any]:
            sections = self.sections
            how = {"finetune": sections.finetune, "augment": sections.augment, **self.shared}
            with step.saving_often():
                found = steps.fine_tune(self.base, train, validation, names, work=step, **how)
            return {**vars(found), "history": [asdict(row) for row in found.history]}

        return _restored(self.work.step("fine-tuning", tune), train.device)

    def sweep(self, tuned: Trained, selection: Images) -> pd.DataFrame:
        """Measure the points between the base and the fine-tuned weights."""

        def measure(_step: Work) -> list[dict[Any, Any]]:
            sections = self.sections
            how = {"attack": sections.attack, "interpolate": sections.interpolate, **self.shared}
            return steps.sweep(self.base, tuned, selection, **how).to_dict("records")

        return pd.DataFrame(self.work.step("sweep", measure))

    def outcomes(self, better: nn.Module, alpha: float) -> dict[str, pd.DataFrame]:
        """Evaluate the network before and after on the test images; at α = 0 they are the same."""
        before = self.evaluated("before", self.base)
        return {"before": before, "after": self.evaluated("after", better) if alpha else before}

    def evaluated(self, name: str, network: nn.Module) -> pd.DataFrame:
        """Return what a network classifies correctly, one row per test image."""

        def evaluate(step: Work) -> dict[Any, Any]:
            sections = self.sections
            how = {"pgd": sections.pgd, "autoattack": self.autoattack, **self.shared}
            found = steps.evaluate(
                network, self.images["test"], attack=sections.attack, work=step, **how
            )
            return found.to_dict("list")

        return pd.DataFrame(self.work.step(name, evaluate))


def _restored(saved: dict[str, Any], device: torch.device) -> Trained:
    """Return the result of fine-tuning as it was before it was saved, on a device."""
    state = {name: value.to(device) for name, value in saved["state"].items()}
    history = [Epoch(**row) for row in saved["history"]]
    return Trained(**{**saved, "state": state, "history": history})


def _check_budget(budget: str | None) -> None:
    """Check that a budget is a duration.

    Raises:
        RiftError: it is none.
    """
    if not isinstance(budget, str | None):
        raise RiftError(f"budget: is {budget!r}; it must be text with a unit, such as '30m'")
    try:
        config.seconds_of(budget or "1s")
    except ValueError as error:
        raise RiftError(f"budget: is {budget!r}; it {error}") from error


def _check_asked(test: ImageSet | None, modules: int, autoattack: bool) -> None:
    """Check arguments that need no pass over the images.

    Raises:
        RiftError: AutoAttack has no images, or no module is asked for.
    """
    if autoattack and test is None:
        raise RiftError("autoattack: runs on test images; pass test, or omit autoattack")
    if type(modules) is not int or modules < 1:
        raise RiftError(
            f"modules: is {modules!r}; it is how many of the least critical modules are fine-tuned,"
            " so choose a whole number from 1 on (rift.fine_tune takes names)"
        )


def _check_comparable(images: Mapping[str, Images]) -> None:
    """Check that all sets have images of one shape, and that none serves two purposes.

    Images that are streamed are not compared: each would have to be read once more.

    Raises:
        RiftError: shapes differ, or more than ``SHARED`` of a set's images are in an earlier set.
    """
    shape = images["train"].shape
    known: dict[str, set[bytes]] = {}
    for name, some in images.items():
        if some.shape != shape:
            raise RiftError(
                f"{name}: has images of shape {some.shape}, but train has {shape}; pass images of"
                " one shape"
            )
        if type(some) is not Images:
            continue
        own = digests_of(some)
        for earlier, others in known.items():
            shared = len(own & others)
            if shared > SHARED * len(own):
                raise RiftError(
                    f"{name}: {shared} of its {len(own)} images are also in {earlier}; pass images"
                    f" that {PURPOSES[name]}"
                )
        known[name] = own


def _history(tuned: Trained) -> pd.DataFrame:
    """Return the history of fine-tuning as a table; ``kept`` marks the epoch that was taken."""
    table = pd.DataFrame(tuned.history)
    return table.assign(kept=table["epoch"] == tuned.kept)

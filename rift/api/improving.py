"""RiFT in one call."""

from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from rift import config
from rift.api import steps
from rift.api.budget import amounts_within, limited
from rift.api.comparison import compared, selected
from rift.api.given import Given, ImageSet, Sections, images_of, network_of, settings_of, shown
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
    _check_sets(train, validation, test, modules, autoattack)
    _check_budget(budget)
    with network_of(model) as (network, device):
        base = copied(network)
    splits = {"train": train, "validation": validation} | ({} if test is None else {"test": test})
    images = {name: images_of(split, device, name) for name, split in splits.items()}
    sections = settings_of(
        attack=attack,
        criticality=criticality,
        finetune=finetune,
        augment=augment,
        interpolate=interpolate,
        pgd=pgd,
    )
    work, shared = work or Work(), {"seed": seed, "progress": progress}
    chosen: dict[str, Any] = {}
    if budget is not None:
        chosen = _within(budget, base, images, sections, autoattack, progress, work)
        images, sections = limited(chosen, images, sections)
    found = _improved(base, images, sections, modules, autoattack, shared, work)
    settings = {**sections.model_dump(mode="json"), "modules": modules, "autoattack": autoattack}
    if budget is not None:
        settings["budget"] = {"time": budget, **chosen["amounts"]}
    return replace(found, settings=settings, budget=chosen.get("text", ""))


def _within(
    budget: str,
    base: nn.Module,
    images: dict[str, Images],
    sections: Sections,
    autoattack: bool,
    progress: bool,
    work: Work,
) -> dict[str, Any]:
    """Choose the numbers that fit a time, or take those that an earlier process chose; say them."""

    def choose(_step: Work) -> dict[str, Any]:
        return amounts_within(budget, base, images, sections, autoattack=autoattack)

    with shown("budget", progress) as tell:
        chosen: dict[str, Any] = work.step("budget", choose)
        tell(1, 1, chosen["text"])
    return chosen


def _improved(
    base: nn.Module,
    images: dict[str, Images],
    sections: Sections,
    modules: int,
    autoattack: bool,
    shared: dict[str, Any],
    work: Work,
) -> Result:
    """Run the steps that no earlier process finished, and return the result.

    ``shared`` are keywords of all steps.
    """
    train, validation = images["train"], images["validation"]
    # Wrong numbers of images would otherwise be found after hours.
    train.first(sections.finetune.images, "finetune.images")
    selection = validation.first(sections.interpolate.images, "interpolate.images")
    threat = sections.attack

    asked_of_race = sections.criticality.racing_for([modules], 0, sections.finetune)

    def measure(_step: Work) -> list[dict[Any, Any]]:
        found = steps.mrc(base, train, attack=threat, criticality=asked_of_race, **shared)
        return found.to_dict("records")

    table = pd.DataFrame(work.step("criticality", measure))
    names = steps.least_critical_of(table, modules, sections.finetune)

    def tune(step: Work) -> dict[str, Any]:
        asked = {"finetune": sections.finetune, "augment": sections.augment, **shared}
        with step.saving_often():
            found = steps.fine_tune(base, train, validation, names, work=step, **asked)
        return {**vars(found), "history": [asdict(row) for row in found.history]}

    tuned = _restored(work.step("fine-tuning", tune), train.device)

    def sweep(_step: Work) -> list[dict[Any, Any]]:
        asked = {"attack": threat, "interpolate": sections.interpolate, **shared}
        return steps.sweep(base, tuned, selection, **asked).to_dict("records")

    points = pd.DataFrame(work.step("sweep", sweep))
    rule = sections.interpolate
    alpha = steps.select(points, rule.tolerance, rule.confidence)
    better = steps.interpolate(base, tuned, alpha)

    outcomes: dict[str, pd.DataFrame] = {}
    for name, network in (("before", base), ("after", better)) if "test" in images else ():

        def evaluate(step: Work, network: nn.Module = network) -> dict[Any, Any]:
            asked = {"pgd": sections.pgd, "autoattack": autoattack, **shared}
            found = steps.evaluate(network, images["test"], attack=threat, work=step, **asked)
            return found.to_dict("list")

        same = name == "after" and not alpha
        outcomes[name] = outcomes["before"] if same else pd.DataFrame(work.step(name, evaluate))
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
        seed=shared["seed"],
    )


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
    try:
        config.seconds_of(budget or "1s")
    except (TypeError, ValueError) as error:
        raise RiftError(f"budget: is {budget!r}; it {error}") from error


def _check_sets(
    train: ImageSet, validation: ImageSet, test: ImageSet | None, modules: int, autoattack: bool
) -> None:
    """Check what would make the result meaningless.

    Raises:
        RiftError: one set has two purposes, AutoAttack has no images, or no module is asked for.
    """
    if validation is train:
        raise RiftError(
            "validation: are the training images, which the network knows; pass images that it was"
            " not trained on"
        )
    if test is not None and (test is train or test is validation):
        raise RiftError("test: are images that decide the result; pass other images, or omit test")
    if autoattack and test is None:
        raise RiftError("autoattack: runs on test images; pass test, or omit autoattack")
    if modules < 1:
        raise RiftError(f"modules: is {modules}; choose at least 1")


def _history(tuned: Trained) -> pd.DataFrame:
    """Return the history of fine-tuning as a table; ``kept`` marks the epoch that was taken."""
    table = pd.DataFrame(tuned.history)
    return table.assign(kept=table["epoch"] == tuned.kept)

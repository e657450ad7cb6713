"""RiFT in one call."""

from typing import Any

import pandas as pd
from torch import nn

from rift import config
from rift.api import steps
from rift.api.comparison import compared, selected
from rift.api.given import Given, ImageSet, Sections, images_of, network_of, settings_of
from rift.api.result import Result
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.state import copied
from rift.training.history import Trained


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
    seed: int = 0,
    progress: bool = True,
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
        seed: seed of all random numbers.
        progress: whether progress is shown on standard error.

    Raises:
        RiftError: network, images or settings cannot be used; the message says why.
    """
    _check_sets(train, validation, test, modules, autoattack)
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
    shared = {"seed": seed, "progress": progress}
    return _improved(base, images, sections, modules, autoattack, shared)


def _improved(
    base: nn.Module,
    images: dict[str, Images],
    sections: Sections,
    modules: int,
    autoattack: bool,
    shared: dict[str, Any],
) -> Result:
    """Run the steps, and return their result; ``shared`` are keywords of all steps."""
    train, validation = images["train"], images["validation"]
    # Wrong numbers of images would otherwise be found after hours.
    train.first(sections.finetune.images, "finetune.images")
    selection = validation.first(sections.interpolate.images, "interpolate.images")
    threat = sections.attack
    table = steps.mrc(base, train, attack=threat, criticality=sections.criticality, **shared)
    names = steps.least_critical_of(table, modules, sections.finetune)
    tuned = steps.fine_tune(
        base,
        train,
        validation,
        names,
        finetune=sections.finetune,
        augment=sections.augment,
        **shared,
    )
    points = steps.sweep(
        base, tuned, selection, attack=threat, interpolate=sections.interpolate, **shared
    )
    rule = sections.interpolate
    alpha = steps.select(points, rule.tolerance, rule.confidence)
    better = steps.interpolate(base, tuned, alpha)

    outcomes: dict[str, pd.DataFrame] = {}
    if "test" in images:
        asked = {"attack": threat, "pgd": sections.pgd, "autoattack": autoattack, **shared}
        before = steps.evaluate(base, images["test"], **asked)
        after = steps.evaluate(better, images["test"], **asked) if alpha else before
        outcomes = {"before": before, "after": after}
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
        settings={**sections.model_dump(mode="json"), "modules": modules, "autoattack": autoattack},
        seed=shared["seed"],
    )


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

"""The steps of RiFT, for any network and for images of any common type.

Every function leaves the network as it found it. Equal seeds give equal results.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import cast

import numpy as np
import pandas as pd
from torch import Tensor, nn

from rift import config, finetuning, interpolation
from rift.api.given import (
    Given,
    ImageSet,
    check_usable,
    for_criticality,
    images_of,
    network_of,
    settings_of,
    shown,
)
from rift.artifacts import Work
from rift.criticality import adversarial_examples, candidates_of, module_robust_criticality
from rift.criticality.rows import Table
from rift.criticality.scopes.least_critical import least_critical
from rift.errors import RiftError
from rift.evaluation.accuracy import correct, refuse_non_finite
from rift.evaluation.adversarial import evaluate_adversarial
from rift.evaluation.stages import AttackKind, stages
from rift.models.requirements import PROBED, check_network
from rift.models.state import copied, snapshot
from rift.training.history import Trained


def mrc(
    model: nn.Module,
    images: ImageSet,
    *,
    attack: Given[config.Attack] = None,
    criticality: Given[config.Criticality] = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure how critical each convolution and linear layer is to robustness (MRC).

    Args:
        model: robust network, which returns logits for images in [0, 1].
        images: training images; the first 1,000, unless ``criticality`` has ``images``.
        attack: threat model and steps of PGD, for the adversarial examples.
        criticality: search for the largest robust loss.
        seed: seed of all random starts.
        progress: whether progress is shown on standard error.

    Returns:
        One row per layer, in the network's order: ``module``, ``kind``, ``parameters``, ``mrc`` and
        ``mrc_error`` (nats), ``robust_loss`` (nats), ``robust_accuracy_drop`` (points), ``rank``
        (1 is the least critical), ``tied`` (with the first settled rank), ``images`` (on which the
        layer was measured), ``settled`` (whether the rank counts), and ``mrc_upper`` (nats;
        estimate of the largest rise, NaN without one). Only the method ``race`` measures layers on
        different numbers of images, and settles the ranks of the chosen ones alone.

    Raises:
        RiftError: network, images or settings cannot be used; the message says why.
    """
    settings = settings_of(attack=attack, criticality=criticality)
    with network_of(model) as (network, device), shown("mrc", progress) as tell:
        some = for_criticality(images_of(images, device, "images"), settings.criticality)
        adversarial = adversarial_examples(network, some, attack=settings.attack, seed=seed)
        rows = module_robust_criticality(
            network,
            adversarial,
            some.labels,
            settings=settings.criticality,
            seed=seed,
            progress=tell,
        )
    return pd.DataFrame(rows)


def least_critical_of(table: pd.DataFrame, count: int, settings: config.Finetune) -> list[str]:
    """Return the names of the least critical modules.

    Args:
        table: result of ``mrc``.
        count: number of modules.
        settings: restrictions on these modules (``least_share``, ``part``).

    Raises:
        RiftError: the settings allow fewer modules.
    """
    if "settled" not in table:  # of an earlier version, which knew no race
        table = table.assign(settled=True)
    rows = cast("Table", list(table.itertuples(index=False)))
    return least_critical(count)(rows, candidates_of(rows, settings))


def fine_tune(
    model: nn.Module,
    train: ImageSet,
    validation: ImageSet,
    modules: pd.DataFrame | str | Sequence[str],
    *,
    finetune: Given[config.Finetune] = None,
    augment: Given[config.Augment] = None,
    seed: int = 0,
    progress: bool = True,
    work: Work | None = None,
) -> Trained:
    """Fine-tune some modules on clean images, and return the weights of the best epoch.

    Args:
        model: robust network, which returns logits for images in [0, 1].
        train: training images.
        validation: images on which the epoch is chosen, by clean accuracy.
        modules: names of modules, or the table of ``mrc`` for its least critical one.
        finetune: epochs, optimiser, mode of batch norm.
        augment: augmentation of the training images.
        seed: seed of data order and augmentation.
        progress: whether progress is shown on standard error.
        work: from ``rift.artifacts.resumable``: source of the state of an interrupted call, and
            target of the states of this one.

    Returns:
        ``state`` is the state dict of the best epoch, ``kept`` its number, and ``history`` has one
        record per epoch.

    Raises:
        RiftError: network, images, modules or settings cannot be used; the message says why.
    """
    settings = settings_of(finetune=finetune, augment=augment)
    if isinstance(modules, pd.DataFrame):
        modules = least_critical_of(modules, 1, settings.finetune)
    names = [modules] if isinstance(modules, str) else list(modules)
    if not names:
        raise RiftError("modules: is empty; name at least one module of the network")
    with network_of(model) as (network, device), shown("fine-tuning", progress) as tell:
        images = images_of(train, device, "train")
        selection = images_of(validation, device, "validation")
        check_usable(network, selection, "validation")
        return finetuning.fine_tune(
            copied(network),  # training would drop the gradients of the original
            images.first(settings.finetune.images, "finetune.images"),
            selection,
            names,
            settings=settings.finetune,
            augmentation=settings.augment,
            seed=seed,
            work=work,
            progress=tell,
        )


def sweep(
    model: nn.Module,
    tuned: Trained,
    validation: ImageSet,
    *,
    attack: Given[config.Attack] = None,
    interpolate: Given[config.Interpolate] = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the networks between the base (α = 0) and the fine-tuned weights (α = 1).

    Args:
        model: the base.
        tuned: result of ``fine_tune``.
        validation: images on which α is to be selected.
        attack: threat model and steps of PGD.
        interpolate: values of α, restarts of PGD, number of images.
        seed: seed of the random starts, which are the same at every α.
        progress: whether progress is shown on standard error.

    Returns:
        One row per α: ``alpha``, ``standard_accuracy`` and ``adversarial_accuracy`` in percent;
        with ``interpolate.confidence`` also ``adversarial_error``, which ``select`` then needs.

    Raises:
        RiftError: network, images or settings cannot be used; the message says why.
    """
    settings = settings_of(attack=attack, interpolate=interpolate)
    with network_of(model) as (network, device), shown("sweep", progress) as tell:
        images = images_of(validation, device, "validation")
        check_usable(network, images, "validation")
        base = snapshot(network)
        _check_same_network(base, tuned)
        points = interpolation.sweep(
            network,
            base,
            tuned.state,
            images.first(settings.interpolate.images, "interpolate.images"),
            settings=settings.interpolate,
            attack=settings.attack,
            seed=seed,
            progress=tell,
        )
    return pd.DataFrame(points).dropna(axis=1)


def select(points: pd.DataFrame, tolerance: float = 0.1, confidence: float | None = None) -> float:
    """Return the α of largest clean accuracy among those that are as robust as the base.

    Ties go to the more robust point, then to the point closer to the base.

    Args:
        points: result of ``sweep``.
        tolerance: allowed loss of adversarial accuracy against the base, in percentage points.
        confidence: confidence that the loss is within the tolerance, for all points together: in
            [0.5, 1). Without it, the loss on the images of the sweep decides, as in the paper.

    Raises:
        RiftError: there is a confidence, and the points have no ``adversarial_error``.
    """
    error = "adversarial_error"
    if confidence is not None and error not in points:
        raise RiftError(
            f"confidence needs the column {error}; call rift.sweep with"
            f" interpolate={{'confidence': {confidence:g}}}"
        )
    columns = ["alpha", "standard_accuracy", "adversarial_accuracy"]
    columns += [error] if confidence is not None else []
    rows = [
        interpolation.Point(**dict(zip(columns, values, strict=True)))
        for values in points[columns].to_numpy().tolist()
    ]
    return float(interpolation.select(rows, tolerance, confidence).alpha)


def interpolate(model: nn.Module, tuned: Trained, alpha: float) -> nn.Module:
    """Return a copy of the network with the weights (1 − α)·θ_base + α·θ_finetuned.

    Args:
        model: the base.
        tuned: result of ``fine_tune``.
        alpha: position between base and fine-tuned weights: in 0 (base) … 1 (fine-tuned).

    Raises:
        RiftError: the network cannot be copied, the weights are of another one, or α is no number
            from 0 to 1.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 <= alpha <= 1:
        raise RiftError(f"alpha: is {alpha!r}; it must be a number from 0 (base) to 1 (fine-tuned)")
    with network_of(model) as (network, _):
        mixed = copied(network)
    _check_same_network(snapshot(mixed), tuned)
    mixed.load_state_dict(interpolation.interpolate(snapshot(mixed), tuned.state, alpha))
    return mixed


def _check_same_network(base: Mapping[str, Tensor], tuned: Trained) -> None:
    """Check that the weights of a fine-tuning fit the network that is said to be its base.

    Raises:
        RiftError: names or shapes differ.
    """
    ours, theirs = (
        {name: value.shape for name, value in state.items()} for state in (base, tuned.state)
    )
    if ours != theirs:
        name = min(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        raise RiftError(
            f"tuned: {name} differs from that of the network; pass the network that was fine-tuned"
        )


def evaluate(
    model: nn.Module,
    test: ImageSet,
    *,
    attack: Given[config.Attack] = None,
    pgd: Given[config.Pgd] = None,
    autoattack: bool = False,
    seed: int = 0,
    progress: bool = True,
    work: Work | None = None,
) -> pd.DataFrame:
    """Return whether the network classifies each image correctly, clean and attacked.

    ``100 * evaluate(…).mean()`` gives the accuracies in percent.

    Args:
        model: network, which returns logits for images in [0, 1].
        test: images that were not used for training or selection.
        attack: threat model and steps of PGD.
        pgd: restarts of PGD and images per batch; an image counts if it survives all restarts.
        autoattack: whether AutoAttack (Croce and Hein 2020) is run, too. It is the stronger attack,
            and takes much longer.
        seed: seed of the attacks.
        progress: whether progress is shown on standard error.
        work: from ``rift.artifacts.resumable``: source of the state of an interrupted call, and
            target of the states of this one.

    Returns:
        One row per image; bool columns ``clean``, ``pgd`` and, if asked for, ``autoattack``.

    Raises:
        RiftError: network, images or settings cannot be used; the message says why.
    """
    settings = settings_of(attack=attack, pgd=pgd)
    work = work or Work()
    attacks: tuple[AttackKind, ...] = ("pgd", "autoattack") if autoattack else ("pgd",)
    with network_of(model) as (network, device):
        images = images_of(test, device, "test")
        check_network(network, images.take(slice(0, PROBED)).floats(), images.labels)
        with refuse_non_finite(network, "evaluation"):
            outcomes = {"clean": correct(network, images)}
            broken_at = evaluate_adversarial(
                network,
                images,
                attacks=attacks,
                settings=config.Evaluate(pgd=settings.pgd),
                attack=settings.attack,
                seed=seed,
                kept=work.state,
                keep=work.save,
                show=lambda kind: shown(f"evaluation, {kind}", progress),
            )
    for kind, stage in broken_at.items():
        outcomes[kind] = stage == len(stages(kind, config.AutoAttack()))
    return pd.DataFrame({name: np.asarray(hits.cpu()) for name, hits in outcomes.items()})

"""Import of bases: weights from a file or the RobustBench model zoo, loaded and checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rift.config import ROBUSTBENCH, ImportedBase, NormName
from rift.config.normalization import known
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.accuracy import correct, percent
from rift.models import build, robustbench, weight_files
from rift.models.checkpoint import ModelSpec
from rift.models.state import snapshot, without_normalisation
from rift.progress import Progress, no_progress
from rift.statistics import mcnemar

IMPORT_IMAGES = 1000
"""Number of images per split for the evaluation of imported weights."""

TRIAL_IMAGES = 250
"""Number of validation images for the trial of each other normalisation."""

TRIAL_LEVEL = 0.01
"""Largest p of an exact test at which another normalisation counts as better."""


@dataclass(frozen=True)
class Imported:
    """A model with imported weights.

    Attributes:
        model: model with the weights, in eval mode.
        spec: specification of the model.
        facts: key, prefix and ignored entries of the file, keys of other weights in it, and origin
            and values of the normalisation, as JSON values.
    """

    model: nn.Module
    spec: ModelSpec
    facts: dict[str, Any]


@dataclass(frozen=True)
class ImportReport:
    """The accuracy of imported weights.

    Attributes:
        outcomes: whether each image is classified correctly, by split: bool, N.
        other_normalizations: accuracy on the validation images with other common normalisations,
            in percent, by name; empty if the user did not set the normalisation.
        better_normalization: name of the one that is significantly more accurate than that of the
            user; None if there is none.
        trained_on_selection: whether the accuracy on the validation images is significantly higher
            than on the test images, which indicates that the model was trained on them.
    """

    outcomes: dict[str, Tensor]
    other_normalizations: dict[str, float]
    better_normalization: str | None
    trained_on_selection: bool

    def facts(self) -> dict[str, Any]:
        """Return the report as JSON values, with accuracies in percent."""
        return {
            "accuracy": {name: percent(hits) for name, hits in self.outcomes.items()},
            "images": {name: len(hits) for name, hits in self.outcomes.items()},
            "accuracy_with_other_normalizations": self.other_normalizations,
            "better_normalization": self.better_normalization,
            "trained_on_selection": self.trained_on_selection,
        }


def import_base(
    base: ImportedBase,
    like: ModelSpec,
    *,
    dataset: str,
    norm: NormName = "linf",
    images: Tensor,
) -> Imported:
    """Return a model with imported weights.

    Args:
        base: source of the weights, and the normalisation that the user set.
        like: specification of the expected model, with the mean and standard deviation of the data
            set.
        dataset: name of the data set, which selects the list of networks in RobustBench.
        norm: norm of the threat model, which does too.
        images: images on which the models of rift and RobustBench must agree, float32 in [0, 1],
            N×C×H×W; used only for weights from RobustBench.

    Raises:
        RiftError: the weights cannot be read or do not fit, their normalisation is unknown or
            set twice, or the logits differ from those of the RobustBench model.
    """
    asked: str | None
    source = f"{base.weights}: as {like.architecture}"
    model = build(**asdict(like))
    if base.weights.startswith(ROBUSTBENCH):
        name = base.weights.removeprefix(ROBUSTBENCH)
        reference = robustbench.load_robustbench(name, dataset, norm)
        read = weight_files.Read(reference.state_dict(), "", ())
        fitted = weight_files.match_names(read.state, model, source)
        # RobustBench networks take images in [0, 1]; a normalisation is part of their weights.
        asked = "none" if fitted.mean is None else None
    else:
        reference = None
        read = weight_files.read(Path(base.files[0]), base.key)
        fitted, asked = weight_files.match_names(read.state, model, source), base.normalization
    mean, std, origin = weight_files.normalization(fitted, asked, like.mean, like.std, base.weights)
    spec = ModelSpec(like.architecture, like.classes, like.size, mean, std)
    model = build(**asdict(spec)).eval()
    weight_files.load_into(model, fitted)
    if reference is not None:
        robustbench.check_same(model, reference, images, source)
    facts = {
        "key": read.key,
        "prefix": fitted.prefix,
        "ignored": fitted.ignored,
        "other_weights": [
            *read.others,
            *(f"{read.key}.{name}" if read.key else name for name in fitted.others),
        ],
        "normalization": {"from": origin, "mean": mean, "std": std},
    }
    return Imported(model, spec, facts)


def check_imported(
    imported: Imported,
    splits: Mapping[str, Images],
    *,
    like: ModelSpec,
    asked: str | None,
    source: str,
    progress: Progress = no_progress,
) -> ImportReport:
    """Return the accuracy of imported weights, after a check that it is above chance.

    Args:
        imported: imported model, on the device of the images.
        splits: images by split, for ``validation`` and ``test``.
        like: specification of the expected model, with the mean and standard deviation of the data
            set.
        asked: normalisation that the user set, or None.
        source: name of the weights, for error messages.
        progress: function that is called after every batch.

    Raises:
        RiftError: the accuracy on a split is at most five standard errors above chance.
    """
    origin = imported.facts["normalization"]["from"]
    report = check_accuracy(
        imported.model,
        splits,
        classes=imported.spec.classes,
        source=f"{source}, normalization {origin}",
        progress=progress,
    )
    if asked is None:
        return report
    others, better = _try_normalizations(
        imported, splits["validation"], report.outcomes["validation"], like
    )
    return replace(report, other_normalizations=others, better_normalization=better)


def check_accuracy(
    model: nn.Module,
    splits: Mapping[str, Images],
    *,
    classes: int,
    source: str,
    progress: Progress = no_progress,
) -> ImportReport:
    """Return the accuracy of a network with weights, after a check that it is above chance.

    Args:
        model: network for images in [0, 1], on the device of the images.
        splits: images by split, for ``validation`` and ``test``.
        classes: number of classes.
        source: name of the network, for error messages.
        progress: function that is called after every batch.

    Raises:
        RiftError: the accuracy on a split is at most five standard errors above chance.
    """
    outcomes = {name: correct(model, images, progress=progress) for name, images in splits.items()}
    for hits in outcomes.values():
        _check_above_chance(hits, classes, source)
    return ImportReport(outcomes, {}, None, _is_better(outcomes["validation"], outcomes["test"]))


def imported_state(imported: Imported) -> dict[str, Tensor]:
    """Return a copy of the state dict of an imported model."""
    return snapshot(imported.model)


def _try_normalizations(
    imported: Imported, images: Images, outcomes: Tensor, like: ModelSpec
) -> tuple[dict[str, float], str | None]:
    """Measure an imported model with the other common normalisations.

    Each is tried on the first ``TRIAL_IMAGES`` images, and the best of them on all images.

    Args:
        imported: imported model, on the device of the images.
        images: validation images.
        outcomes: whether the model classifies each of them correctly: bool, N.
        like: specification of the expected model, with the mean and standard deviation of the data
            set.

    Returns:
        Accuracies by name, in percent, and the name of the significantly better one, if any.
    """
    candidates = {"dataset": (like.mean, like.std), **known(len(like.mean))}
    some = images.up_to(TRIAL_IMAGES)
    models = {
        name: _with_normalization(imported, *values)
        for name, values in candidates.items()
        if values != (imported.spec.mean, imported.spec.std)
    }
    accuracies = {name: percent(correct(model, some)) for name, model in models.items()}
    best = max(accuracies, key=lambda name: accuracies[name])
    others = correct(models[best], images)
    accuracies[best] = percent(others)
    gained, lost = int((others & ~outcomes).sum()), int((outcomes & ~others).sum())
    better = gained > lost and mcnemar(gained, lost) < TRIAL_LEVEL
    return accuracies, best if better else None


def _with_normalization(
    imported: Imported, mean: tuple[float, ...], std: tuple[float, ...]
) -> nn.Module:
    """Return a copy of an imported model with another normalisation."""
    built = build(**asdict(replace(imported.spec, mean=mean, std=std))).eval()
    state = without_normalisation(imported.model.state_dict())
    built.load_state_dict({**built.state_dict(), **state})
    return built.to(next(iter(state.values())).device)


def _check_above_chance(outcomes: Tensor, classes: int, source: str) -> None:
    """Check that a model is more accurate than random guessing.

    Raises:
        RiftError: the accuracy is at most five standard errors above chance.
    """
    chance = 1 / classes
    error = (chance * (1 - chance) / len(outcomes)) ** 0.5
    accuracy, least = percent(outcomes), 100 * (chance + 5 * error)
    if accuracy <= least:
        raise RiftError(
            f"{source}: classifies {accuracy:.2f}% of {len(outcomes)} images correctly, which is"
            f" not clearly above chance (random guessing gives {100 * chance:.2f}% on average and"
            f" up to {least:.2f}%); set another normalization or data set, or check that the"
            " weights are trained"
        )


def _is_better(outcomes: Tensor, unseen: Tensor) -> bool:
    """Return whether the accuracy is more than four standard errors above that on unseen images.

    Args:
        outcomes: outcomes on images that may have been used for training: bool, N.
        unseen: outcomes on images from the same distribution that were not used: bool, M.
    """
    known, unknown = outcomes.double().mean(), unseen.double().mean()
    share = torch.cat([outcomes, unseen]).double().mean()
    error = (share * (1 - share) * (1 / len(outcomes) + 1 / len(unseen))).sqrt()
    return bool(known - unknown > 4 * error)

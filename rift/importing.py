"""Bases from elsewhere: weights of a file or of RobustBench's zoo, in a network of ours, and checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rift.config import ROBUSTBENCH, ImportedBase
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.accuracy import correct, percent
from rift.models import build, robustbench, weight_files
from rift.models.checkpoint import ModelSpec
from rift.models.state import snapshot, without_normalisation
from rift.progress import Progress, no_progress

IMPORT_IMAGES = 1000
"""Images of each split that imported weights are tried on."""


@dataclass(frozen=True)
class Imported:
    """A network with weights from elsewhere.

    Attributes:
        model: in eval mode.
        spec: its specification.
        facts: how the file was read: key, prefix, ignored entries, normalisation.
    """

    model: nn.Module
    spec: ModelSpec
    facts: dict[str, Any]


@dataclass(frozen=True)
class ImportReport:
    """How accurate imported weights are.

    Attributes:
        outcomes: by split, whether each image is classified correctly: bool, N.
        other_normalization: accuracy on validation images with the other normalisation, in percent;
            None where the file decides.
        trained_on_selection: whether the network knows the validation images better than others.
    """

    outcomes: dict[str, Tensor]
    other_normalization: float | None
    trained_on_selection: bool

    @property
    def would_be_better_otherwise(self) -> bool:
        """Return whether the other normalisation gives a larger accuracy."""
        other = self.other_normalization
        return other is not None and other > percent(self.outcomes["validation"])

    def facts(self) -> dict[str, Any]:
        """Return the report as JSON values; accuracies in percent."""
        return {
            "accuracy": {name: percent(hits) for name, hits in self.outcomes.items()},
            "images": {name: len(hits) for name, hits in self.outcomes.items()},
            "accuracy_with_the_other_normalization": self.other_normalization,
            "trained_on_selection": self.trained_on_selection,
        }


def import_base(base: ImportedBase, like: ModelSpec, *, dataset: str, images: Tensor) -> Imported:
    """Build a network with weights from elsewhere.

    Args:
        base: where they are from, and what the user says about their normalisation.
        like: the network that is expected, with the mean and standard deviation of the data set.
        dataset: name of the data set, by which RobustBench's zoo is sorted.
        images: some images, float32 in [0, 1], for which a network of the zoo must return the same
            logits here and there.

    Raises:
        RiftError: the weights cannot be read, do not fit, or their normalisation is unknown.
    """
    asked: Literal["dataset", "none"] | None
    source = f"{base.weights}: as {like.architecture}"
    model = build(**asdict(like))
    if base.weights.startswith(ROBUSTBENCH):
        name = base.weights.removeprefix(ROBUSTBENCH)
        reference = robustbench.load_robustbench(name, dataset)
        fitted, key = weight_files.match_names(reference.state_dict(), model, source), ""
        # The zoo's networks take images in [0, 1]; whatever else they do is part of them.
        asked = "none" if fitted.mean is None else None
    else:
        reference = None
        state, key = weight_files.read(Path(base.weights), base.key)
        fitted, asked = weight_files.match_names(state, model, source), base.normalization
    mean, std, origin = weight_files.normalization(fitted, asked, like.mean, like.std, base.weights)
    spec = ModelSpec(like.architecture, like.classes, like.size, mean, std)
    model = build(**asdict(spec)).eval()
    weight_files.load_into(model, fitted)
    if reference is not None:
        robustbench.check_same(model, reference, images, source)
    facts = {
        "key": key,
        "prefix": fitted.prefix,
        "ignored": fitted.ignored,
        "normalization": {"from": origin, "mean": mean, "std": std},
    }
    return Imported(model, spec, facts)


def check_imported(
    imported: Imported,
    splits: Mapping[str, Images],
    *,
    like: ModelSpec,
    asked: Literal["dataset", "none"] | None,
    source: str,
    progress: Progress = no_progress,
) -> ImportReport:
    """Measure how accurate imported weights are, and refuse them if they do no better than chance.

    Args:
        imported: the network, on the device of the images.
        splits: images of the splits ``validation`` and ``test``.
        like: the network that is expected, with the mean and standard deviation of the data set.
        asked: what the user said about the normalisation.
        source: name of the weights, for messages.
        progress: called after every batch.

    Raises:
        RiftError: the network classifies no better than chance.
    """
    outcomes = {
        name: correct(imported.model, images, progress=progress) for name, images in splits.items()
    }
    origin = imported.facts["normalization"]["from"]
    for hits in outcomes.values():
        _refuse_chance(hits, imported.spec.classes, f"{source}, normalization {origin}")
    other = None
    if asked is not None:
        model = _otherwise_normalized(imported.model, imported.spec, like)
        other = percent(correct(model, splits["validation"]))
    trained_on = _knows_better(outcomes["validation"], outcomes["test"])
    return ImportReport(outcomes, other, trained_on)


def imported_state(imported: Imported) -> dict[str, Tensor]:
    """Return a copy of the weights."""
    return snapshot(imported.model)


def _otherwise_normalized(model: nn.Module, spec: ModelSpec, like: ModelSpec) -> nn.Module:
    """Build the same network with the other normalisation: none, or that of the data set."""
    channels = len(spec.mean)
    none = ModelSpec(
        spec.architecture, spec.classes, spec.size, (0.0,) * channels, (1.0,) * channels
    )
    other = like if (spec.mean, spec.std) == (none.mean, none.std) else none
    built = build(**asdict(other)).eval()
    state = without_normalisation(model.state_dict())
    built.load_state_dict({**built.state_dict(), **state})
    return built.to(next(iter(state.values())).device)


def _refuse_chance(outcomes: Tensor, classes: int, source: str) -> None:
    """Refuse a network that does not know the classes.

    Raises:
        RiftError: the accuracy is within five standard errors of guessing.
    """
    chance = 1 / classes
    error = (chance * (1 - chance) / len(outcomes)) ** 0.5
    accuracy, least = percent(outcomes), 100 * (chance + 5 * error)
    if accuracy <= least:
        raise RiftError(
            f"{source}: classifies {accuracy:.2f}% of {len(outcomes)} images correctly, which may be"
            f" chance ({100 * chance:.2f}%, or by luck up to {least:.2f}%); try another normalization"
            " or another data set, or check that the weights are trained"
        )


def _knows_better(outcomes: Tensor, unseen: Tensor) -> bool:
    """Return whether a network is better on some images by more than four standard errors.

    Args:
        outcomes: on images that it may have been trained on: bool, N.
        unseen: on images of the same kind that it has not been trained on.
    """
    known, unknown = outcomes.double().mean(), unseen.double().mean()
    share = torch.cat([outcomes, unseen]).double().mean()
    error = (share * (1 - share) * (1 / len(outcomes) + 1 / len(unseen))).sqrt()
    return bool(known - unknown > 4 * error)

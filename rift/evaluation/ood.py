"""Accuracy on corrupted test images."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rift.data.corruptions.files import CorruptedImages
from rift.evaluation.accuracy import correct
from rift.progress import Progress, no_progress


@dataclass(frozen=True)
class OodResult:
    """Outcomes of a model on corrupted images.

    Attributes:
        outcomes: whether each image is classified correctly, by corruption: bool, severities×N.
        severities: severities of the rows, by corruption.
        sources: source of the images, by corruption.
    """

    outcomes: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    severities: dict[str, tuple[int, ...]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Return the mean over corruptions and severities, in percent."""
        return float(100 * np.mean([outcomes.mean() for outcomes in self.outcomes.values()]))

    def only(self, names: Iterable[str]) -> "OodResult":
        """Return the result of the named corruptions, in the given order."""
        names = list(names)
        return OodResult(
            {name: self.outcomes[name] for name in names},
            {name: self.severities[name] for name in names},
            {name: self.sources[name] for name in names},
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per corruption and severity, with accuracies in percent."""
        return [
            {
                "corruption": name,
                "severity": severity,
                "accuracy": 100 * row.mean(),
                "images": len(row),
                "source": self.sources[name],
            }
            for name, outcomes in self.outcomes.items()
            for severity, row in zip(self.severities[name], outcomes, strict=True)
        ]


def evaluate_ood(
    model: nn.Module,
    corrupted: Iterable[CorruptedImages],
    *,
    count: int,
    progress: Progress = no_progress,
) -> OodResult:
    """Evaluate a model on every corruption at every severity.

    Args:
        model: returns logits for images in [0, 1].
        corrupted: corruptions; each is used once, so that a generator can read them from disk.
        count: number of corruptions, for the progress.
        progress: called after every corruption.
    """
    result = OodResult()
    for number, images in enumerate(corrupted, start=1):
        rows = [correct(model, severity).cpu().numpy() for severity in images.severities.values()]
        result.outcomes[images.corruption] = np.stack(rows)
        result.severities[images.corruption] = tuple(images.severities)
        result.sources[images.corruption] = images.source
        progress(number, count, accuracy=100 * np.stack(rows).mean())
    return result

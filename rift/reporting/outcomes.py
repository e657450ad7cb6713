"""Outcomes of evaluations, image by image, and the checks that make them comparable."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rift.artifacts import Array, Provenance
from rift.config import norm_of
from rift.config.values import leaves
from rift.errors import RiftError

Metric = Literal["std", "ood", "pgd", "autoattack"]
METRICS: dict[Metric, str] = {
    "std": "Std",
    "ood": "OOD",
    "pgd": "Adv (PGD)",
    "autoattack": "Adv (AutoAttack)",
}
MEAN = "mean"
ALL = "all"
# Settings that decide which images the network sees. Outcomes are comparable only if these agree.
_SETTINGS_OF_IMAGES: dict[Metric, tuple[str, ...]] = {
    "std": (),
    "ood": ("evaluate.ood.corruptions", "evaluate.ood.severities"),
    "pgd": ("attack.eps", "attack.step", "attack.steps", "evaluate.pgd.restarts"),
    "autoattack": ("attack.eps", "evaluate.autoattack.attacks"),
}


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of one variant in one metric, by seed.

    Attributes:
        scores: one score in 0 … 1 per image.
        files: file that the scores come from; none for outcomes in memory.
        images: the test set and the settings that decide which images the network sees.
        settings: all settings of the evaluation.
    """

    scores: dict[int, Array] = field(default_factory=dict)
    files: dict[int, Path] = field(default_factory=dict)
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    settings: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds that were evaluated."""
        return tuple(self.scores)

    @property
    def array(self) -> Array:
        """Return the scores as one array, seeds × images."""
        return np.stack(list(self.scores.values()))

    def add(self, seed: int, scores: Array, path: Path, source: Provenance, metric: Metric) -> None:
        """Add the scores of a seed.

        Args:
            seed: the seed.
            scores: one score per image.
            path: file that they come from.
            source: provenance of that file.
            metric: metric of the scores.
        """
        self.scores[seed], self.files[seed] = scores, path
        self.settings[seed], self.images[seed] = source["settings"], images_of(source, metric)

    def paired(self, other: "Outcomes") -> tuple[Array, Array]:
        """Return the scores of both over the seeds that both have (possibly none), seeds × images.

        Raises:
            RiftError: they are outcomes of different images.
        """
        shared = [seed for seed in self.seeds if seed in other.scores]
        for seed in shared:
            self._check_same_images(seed, other, seed)
        mine, theirs = (np.array([each.scores[seed] for seed in shared]) for each in (self, other))
        return mine, theirs

    def only(self, seeds: Iterable[int]) -> "Outcomes":
        """Return the outcomes of some of the seeds."""
        kept = {seed: self.scores[seed] for seed in seeds}
        return Outcomes(kept, self.files, self.images, self.settings)

    def checked(self) -> "Outcomes":
        """Return these outcomes after a check that all seeds saw the same images.

        Raises:
            RiftError: they did not.
        """
        for seed in self.seeds[1:]:
            self._check_same_images(self.seeds[0], self, seed)
        return self

    def _check_same_images(self, seed: int, other: "Outcomes", another: int) -> None:
        mine, theirs = self.images.get(seed, {}), other.images.get(another, {})
        ours, count = len(self.scores[seed]), len(other.scores[another])
        differing = [
            f"{key} {theirs[key]} instead of {mine[key]}"
            for key in mine
            if key in theirs and mine[key] != theirs[key]
        ]
        if count != ours:
            differing.insert(0, f"{count} images instead of {ours}")
        if differing:
            raise RiftError(
                f"{other._place(another)}: cannot be compared with {self._place(seed)} image by"
                f" image: {', '.join(differing)}; run both evaluations with the same settings"
            )

    def _place(self, seed: int) -> str:
        return str(self.files.get(seed, f"seed {seed}"))


def images_of(source: Provenance, metric: Metric) -> dict[str, Any]:
    """Return the test set and the settings that decide which images the network sees.

    Args:
        source: provenance of outcomes. Entries that it lacks are omitted.
        metric: metric of the outcomes.
    """
    examples = source.get("examples")
    test_set = {} if examples is None else {"examples": examples}
    found = pick(source["settings"], _SETTINGS_OF_IMAGES[metric])
    if "attack.eps" in found:
        found["attack.norm"] = norm_of(source["settings"]["attack"])
    return {**test_set, **found}


def pick(settings: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the nested settings at some dotted keys. Keys that do not exist are omitted."""
    flat = leaves(settings)
    return {key: flat[key] for key in keys if flat.get(key) is not None}


def with_means(outcomes: Mapping[tuple[str, int], Outcomes]) -> dict[tuple[str, str], Outcomes]:
    """Return outcomes by corruption and severity together with their means.

    The means over severities have the severity ``MEAN``, those over corruptions the corruption
    ``ALL``.
    """
    names = list(dict.fromkeys(corruption for corruption, _ in outcomes))
    severities = list(dict.fromkeys(severity for _, severity in outcomes))

    found: dict[tuple[str, str], Outcomes] = {}
    for name in names:
        found |= {(name, str(level)): outcomes[name, level] for level in severities}
        found[name, MEAN] = _mean([outcomes[name, level] for level in severities])

    if outcomes:
        for level in severities:
            found[ALL, str(level)] = _mean([outcomes[name, level] for name in names])
        found[ALL, MEAN] = _mean(list(outcomes.values()))
    return found


def _mean(parts: list[Outcomes]) -> Outcomes:
    first = parts[0]
    scores = {seed: np.mean([part.scores[seed] for part in parts], axis=0) for seed in first.seeds}
    return Outcomes(scores, first.files, first.images, first.settings)

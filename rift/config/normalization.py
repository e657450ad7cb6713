"""Input normalisations: names for the common ones, and numbers."""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from rift.config.values import number
from rift.errors import RiftError

Channels = tuple[float, ...]

NORMALIZATIONS: dict[str, tuple[Channels, Channels]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    # Many codes for CIFAR-10 have these deviations: the means of the deviations of single images.
    "cifar10-0.2023": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.1307,), (0.3081,)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}
"""Mean and standard deviation by name; one value is for all channels."""

NAMES = ("dataset", *NORMALIZATIONS)

DESCRIPTION = (
    "dataset: mean and standard deviation of the data set; none: the network expects images in"
    " [0, 1]; cifar10, cifar10-0.2023 (deviations 0.2023,0.1994,0.2010), cifar100, imagenet, mnist,"
    " half (0.5/0.5); or numbers, as MEANS/DEVIATIONS with a value for each channel"
    " (0.49,0.48,0.45/0.25,0.24,0.26)"
)
"""Values of a normalisation, for the descriptions of settings."""


def _text(value: object) -> object:
    """Return a normalisation as a name, or as text ``MEANS/DEVIATIONS``.

    Args:
        value: name, such text, or a mapping with the lists ``mean`` and ``std``.

    Raises:
        ValueError: the value is none of them, or its numbers are no normalisation.
    """
    if isinstance(value, str) and value in NAMES:
        return value
    if isinstance(value, str) and value.count("/") == 1:
        means, deviations = (part.split(",") for part in value.split("/"))
    elif isinstance(value, Mapping) and set(value) == {"mean", "std"}:
        means, deviations = (
            [*each] if isinstance(each, list | tuple) else [each] for each in value.values()
        )
        if [*value] == ["std", "mean"]:
            means, deviations = deviations, means
    else:
        raise ValueError(
            f"must be {', '.join(NAMES)}, MEANS/DEVIATIONS, or {{mean: […], std: […]}}"
        )
    mean, std = ([_finite(entry) for entry in entries] for entries in (means, deviations))
    if len(mean) != len(std):
        raise ValueError(
            f"has {len(mean)} means and {len(std)} deviations; give as many of one as of the other"
        )
    if not all(entry > 0 for entry in std):
        raise ValueError("has a deviation that is not positive; give deviations > 0")
    if max(map(abs, [*mean, *std])) > 1:
        raise ValueError(
            "has a value above 1; images are in [0, 1], so divide means and deviations by 255"
        )
    return "/".join(",".join(map(repr, entries)) for entries in (mean, std))


def _finite(entry: object) -> float:
    found = number(entry)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{entry!r} is not a finite number")
    return float(found)


Normalization = Annotated[
    str,
    BeforeValidator(_text, json_schema_input_type=str | dict[str, float | str | list[float | str]]),
]

FileNormalization = Annotated[
    Normalization | None,
    Field(
        description="Input normalisation of the network, if the file does not contain one."
        f" {DESCRIPTION}."
    ),
]
"""Setting for weights from elsewhere."""


def mean_and_std(normalization: str, channels: int) -> tuple[Channels, Channels]:
    """Return the mean and the standard deviation of each channel, for images in [0, 1].

    Args:
        normalization: a key of ``NORMALIZATIONS``, or text ``MEANS/DEVIATIONS``.
        channels: number of channels of the images.

    Raises:
        RiftError: the normalisation is for images with another number of channels.
    """
    if normalization in NORMALIZATIONS:
        mean, std = NORMALIZATIONS[normalization]
    else:
        mean, std = (
            tuple(float(entry) for entry in part.split(",")) for part in normalization.split("/")
        )
    if len(mean) not in (1, channels):
        raise RiftError(
            f"normalization {normalization}: is for {len(mean)} channels, but the images have"
            f" {channels}; choose another one"
        )
    return (mean * channels, std * channels) if len(mean) == 1 else (mean, std)


def known(channels: int) -> dict[str, tuple[Channels, Channels]]:
    """Return the common normalisations for images with this number of channels, by name."""
    return {
        name: mean_and_std(name, channels)
        for name, (mean, _) in NORMALIZATIONS.items()
        if len(mean) == channels or name in ("half", "none")
    }

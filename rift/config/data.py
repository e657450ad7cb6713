"""Settings of data sets and their corrupted copies."""

import os
from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
)

from rift.config.values import ImageCount, Section, Seed, Share


def data_root(given: str | Path | None) -> Path:
    """Settle where data sets lie: as given, else ``$RIFT_DATA``, else ``data``."""
    return Path(given or os.environ.get("RIFT_DATA") or "data")


class Data(Section):
    """Where data sets lie, and how the prepared set is cut."""

    root: str | None = Field(
        None,
        description="Folder of the data sets on disk; if not given, $RIFT_DATA, else data. Digits do not need it.",
    )
    validation: Share = Field(
        0.1, description="Share of the training images cut off as the selection split."
    )
    cut: Literal["stratified", "last"] = Field(
        "stratified",
        description="stratified: drawn at random from every class; last: the last training images, for imported bases that"
        " were trained on those before.",
    )
    test: Share = Field(
        0.2, description="Share cut off as test images where a data set has no official test split."
    )
    seed: Seed = Field(0, description="Seed of the stratified cut.")

    @property
    def folder(self) -> Path:
        """The data root."""
        return data_root(self.root)


class Corrupt(Section):
    """Corrupted copies of the test split."""

    source: Literal["auto", "published", "generated"] = Field(
        "auto",
        description="published: as published, downloaded if need be; generated: made here; auto: published where it lies"
        " under the data root, else generated. Tables say which.",
    )
    images: ImageCount = Field(
        "all", description="How many test images are corrupted, counted from the first."
    )
    seed: Seed = Field(0, description="Seed of the noise.")

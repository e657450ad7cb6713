"""Settings of data sets and their corrupted copies."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
)

from rift.config.values import ImageCount, Section, Seed, Share, home_expanded


def data_root(given: str | Path | None) -> Path:
    """Return the folder of the data sets: ``given``, else ``$RIFT_DATA``, else ``data``.

    A leading ``~`` is the home folder: no shell expands it in an experiment file.
    """
    return home_expanded(Path(given or os.environ.get("RIFT_DATA") or "data"))


class Data(Section):
    """Folder of the data sets, and the splits of the prepared data set."""

    root: str | None = Field(
        None,
        description="Folder of the data sets; the default is $RIFT_DATA if set, else data. The"
        " data set digits does not need it.",
    )
    validation: Share = Field(
        0.1, description="Share of the training images in the selection split: in (0, 0.5)."
    )
    cut: Literal["stratified", "last"] = Field(
        "stratified",
        description="Images of the selection split. stratified: a random share of every class;"
        " last: the last training images, for imported bases that were trained on all earlier"
        " ones.",
    )
    test: Share = Field(
        0.2,
        description="Share of the images in the test split, if there is no official one: in"
        " (0, 0.5).",
    )
    seed: Seed = Field(0, description="Seed of the stratified split: ≥ 0.")
    side: Annotated[int, Field(ge=8, le=1024)] | None = Field(
        None,
        description="Side of the prepared images in pixels, for data sets with images of any size:"
        " 8 to 1024; the default is 224. The shorter side is resized to 8/7 of it, and the middle"
        " is cut out.",
    )

    @property
    def folder(self) -> Path:
        """Return the folder of the data sets."""
        return data_root(self.root)


class Corrupt(Section):
    """Corrupted copies of the test split."""

    source: Literal["auto", "published", "generated"] = Field(
        "auto",
        description="published: use the published images, and download them if necessary;"
        " generated: generate images; auto: use the published images if the data root contains"
        " them, else generate images. Tables show the source.",
    )
    images: ImageCount = Field(
        "all", description="Number of test images to corrupt, from the first: ≥ 1, or all."
    )
    seed: Seed = Field(0, description="Seed of the noise: ≥ 0.")

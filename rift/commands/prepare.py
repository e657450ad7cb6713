"""Data: ``rift prepare`` and ``rift corrupt``."""

from pathlib import Path

from pydantic import Field

from rift import artifacts, config
from rift.commands.command import Command, PreparedSet, say
from rift.commands.roles import JsonOutput, Neutral, NpyOutput, SafetensorsOutput
from rift.config import CorruptionName, Dataset
from rift.progress import display


class Prepare(Command):
    """Read and check a data set, and divide it into training, validation and test splits."""

    stage = "prepare"
    # Raw data are not among the inputs, so a set is never adopted: they may have changed.
    rescues = True

    dataset: Dataset = Field(
        description="Name of the data set, or a range of its classes such as digits-0-4."
    )
    data: config.Data = config.Data()
    output: SafetensorsOutput[Path] = Field(
        description="Output: the prepared data set (.safetensors)."
    )
    manifest: JsonOutput[Path] = Field(
        description="Output: the manifest (.json): checksums, counts, mean and standard deviation."
    )

    def run(self) -> None:
        from rift.data import prepare, save
        from rift.data.raw import RAW, RawDigests, raw_files

        with display("download") as progress:
            prepared = prepare(self.dataset, self.data, progress)
        source = self.provenance()
        counts = {split: len(labels) for split, labels in prepared.labels.items()}
        facts = {
            "classes": prepared.classes,
            "mean": prepared.mean,
            "std": prepared.std,
            "images": counts,
            RAW: RawDigests()(raw_files(self.dataset, self.data.folder)),
        }
        save(self.output, prepared, source)
        artifacts.write_json(self.manifest, {**prepared.facts, **facts}, source)
        texts = ", ".join(f"{count} {split}" for split, count in counts.items())
        say(f"{self.dataset}: {texts} images")


class Corrupt(Command):
    """Corrupt the test split at five severities."""

    stage = "corrupt"

    data: PreparedSet
    corruption: CorruptionName = Field(description="Name of the corruption.")
    corrupt: config.Corrupt = config.Corrupt()
    root: Neutral[Path | None] = Field(
        None,
        description="Folder of the data sets. The default is $RIFT_DATA, or data if it is not set.",
    )
    output: NpyOutput[Path] = Field(
        description="Output: corrupted images (.npy) in the published layout. labels.npy is written"
        " to the same folder."
    )

    def run(self) -> None:
        from rift.data import load
        from rift.data.corruptions import files
        from rift.data.raw import RawDigests, raw_corrupted_files

        prepared = load(self.data, ("test",))
        root = config.data_root(self.root)
        with display("download") as progress:
            split = files.corrupted_test_split(
                prepared, self.corruption, self.corrupt, root, progress
            )
        published = raw_corrupted_files(
            prepared.facts["dataset"], self.corruption, self.corrupt, root
        )
        files.save(
            self.output,
            split,
            prepared.labels["test"],
            self.provenance(),
            raw=RawDigests()(published),
        )
        severities, images = split.images.shape[:2]
        say(f"{self.corruption}, {split.source}: {images} images at {severities} severities")

"""Criticality: ``rift examples``, ``rift criticality`` and ``rift merge criticality``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.commands.command import (
    Command,
    Device,
    PreparedSet,
    Seed,
    Shard,
    frame,
    opened,
    opened_device,
    read_shard,
    say,
)
from rift.commands.roles import CsvOutput, Input, Neutral, Output, SafetensorsOutput, check_ending
from rift.errors import RiftError
from rift.progress import display

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rift.criticality import Measurement, ModuleCriticality
    from rift.data.images import Images


class _CriticalityInputs(Command):
    """The base class of commands that use adversarial examples of a base."""

    base: Input[Path] = Field(description="Weights of the adversarially trained base.")
    data: PreparedSet
    seed: Seed = 0
    criticality: config.Criticality = config.Criticality()
    attack: config.Attack = config.Attack()
    device: Device = "auto"

    def opened(self) -> "tuple[nn.Module, Images, torch.device]":
        """Return the model, the images that it is measured on, and the device.

        Raises:
            RiftError: a file cannot be loaded, the model does not fit the data set, or the split
                has too few images.
        """
        device = opened_device(self.device)
        model, images = opened(self.base, self.data, self.criticality.split, device)
        images = images.first(self.criticality.images, "criticality.images")
        return model, images, device

    def examples(self, model: "nn.Module", images: "Images") -> "torch.Tensor":
        """Return an adversarial example of each image."""
        from rift.criticality import adversarial_examples

        with display("examples") as progress:
            return adversarial_examples(
                model, images, attack=self.attack, seed=self.seed, progress=progress
            )


class Examples(_CriticalityInputs):
    """Generate the adversarial examples for a measurement of criticality in several jobs."""

    stage = "examples"
    memory = "--criticality.images"

    output: SafetensorsOutput[Path] = Field(
        description="Output: adversarial examples (.safetensors)."
    )

    def run(self) -> None:
        model, images, device = self.opened()
        examples = self.examples(model, images).contiguous().cpu().numpy()
        artifacts.write_arrays(self.output, {"images": examples}, self.provenance(device))


class Criticality(_CriticalityInputs):
    """Measure how critical each module is to robustness (MRC)."""

    stage = "criticality"
    adoptable = True
    memory = "--criticality.batch_size or --criticality.cache_mib"

    adversarial: Neutral[Path | None] = Field(
        None,
        description="Adversarial examples (rift examples). By default, the command generates them.",
    )
    shard: Neutral[Shard | None] = Field(
        None,
        description="Shard K/N, for example 2/4: measure only the K-th of N parts of the modules."
        " rift merge criticality merges the shards.",
    )
    output: Output[Path] = Field(
        description="Output: the table (.csv), one row per module. With --shard: the raw"
        " measurement (.safetensors)."
    )

    @model_validator(mode="after")
    def _the_output_has_the_ending_of_its_content(self) -> "Criticality":
        ending = ".csv" if self.shard is None else ".safetensors"
        check_ending(self.output, ending, "--output: the name")
        return self

    def run(self) -> None:
        from rift.criticality import criticality_table, measurable_modules, measure, shard
        from rift.criticality.modules import PROBED_AGAIN

        number, count = read_shard(self.shard)
        if self.criticality.method == "race" and count > 1:
            raise RiftError(
                f"--shard {self.shard}: the race compares all modules in one job; pass --shard 1/1,"
                " or --criticality.method pga"
            )
        model, images, device = self.opened()
        modules = measurable_modules(model, images.up_to(PROBED_AGAIN).floats())
        if modules.note:
            say(modules.note)
        order = list(modules.names)
        if count > len(order):
            raise RiftError(
                f"--shard {self.shard}: the network has only {len(order)} modules to measure;"
                " lower criticality.shards"
            )
        adversarial = self._adversarial(model, images)
        with display("criticality") as progress:
            measured = measure(
                model,
                adversarial,
                images.labels,
                shard(order, number, count),
                settings=self.criticality,
                seed=self.seed,
                progress=progress,
            )
        source = self.provenance(device)
        if self.shard:
            _write_shard(self.output, measured, order, source)
        else:
            _write_table(self.output, criticality_table(measured), source)

    def _adversarial(self, model: "nn.Module", images: "Images") -> "torch.Tensor":
        """Return the adversarial examples, from the file or newly generated.

        Raises:
            RiftError: the file cannot be read, or contains examples of other images.
        """
        import torch

        if self.adversarial is None:
            return self.examples(model, images)
        arrays, _ = artifacts.read_arrays(self.adversarial, ("images",))
        examples = torch.from_numpy(arrays["images"])
        if examples.shape != (len(images), *images.shape):
            raise RiftError(
                f"{self.adversarial}: contains examples of other images; run rift examples with the"
                " settings of this command"
            )
        return examples.to(images.device, memory_format=torch.channels_last)


class MergeCriticality(Command):
    """Merge the shards of a criticality measurement."""

    stage = "criticality"

    shards: Input[tuple[Path, ...]] = Field(
        min_length=1, description="Raw measurements (rift criticality --shard)."
    )
    output: CsvOutput[Path] = Field(description="Output: the table (.csv), one row per module.")

    def run(self) -> None:
        from rift.criticality import criticality_table, join

        shards = [_read_shard(path) for path in self.shards]
        check_equal(self.shards, [(order, source) for _, order, source in shards])
        _, order, source = shards[0]
        table = criticality_table(join([part for part, _, _ in shards], order))
        _write_table(self.output, table, source)
        artifacts.forget_finished(self.shards)


def check_equal(paths: Sequence[Path], facts: Sequence[object]) -> None:
    """Check that all shards belong to the same measurement.

    Args:
        paths: files of the shards.
        facts: settings and inputs of each shard.

    Raises:
        RiftError: the facts of a shard differ from those of the first.
    """
    for path, each in zip(paths, facts, strict=True):
        if each != facts[0]:
            raise RiftError(
                f"{path}: the settings differ from those of {paths[0]}; measure all shards again"
                " with the same settings"
            )


def _write_table(
    path: Path, records: "Sequence[ModuleCriticality]", source: artifacts.Provenance
) -> None:
    """Write the criticality table, and print the least and the most critical module."""
    artifacts.write_csv(path, frame(records), source)
    by_rank = sorted(records, key=lambda record: record.rank)
    first = next(row for row in by_rank if row.settled)
    least, most = (
        f"{row.module} ({row.mrc:.3f} ± {row.mrc_error:.3f} nats)" for row in (first, by_rank[-1])
    )
    tied = ", ".join(row.module for row in by_rank if row.tied and row is not first)
    indistinguishable = f", not distinguishable from it: {tied}" if tied else ""
    roughly = "" if by_rank[-1].settled else " roughly"
    say(f"least critical: {least}{indistinguishable};{roughly} most critical: {most}")


MEASURED = ("losses", "correct", "images", "rises", "kept")
"""Names of the arrays in a raw measurement."""


def _write_shard(
    path: Path, measured: "Measurement", order: list[str], source: artifacts.Provenance
) -> None:
    arrays = {name: getattr(measured, name) for name in MEASURED}
    places = {
        name: [place.settled, _or_none(place.upper), place.at_least, place.at_most]
        for name, place in measured.places.items()
    }
    artifacts.write_arrays(
        path, arrays, source, modules=measured.modules, order=order, places=places
    )


def _or_none(number: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(number) else number


def _read_shard(path: Path) -> "tuple[Measurement, list[str], artifacts.Provenance]":
    """Return a raw measurement, the names of all modules of the network, and the provenance.

    Raises:
        RiftError: the file cannot be read.
    """
    from rift.criticality import Measurement, Place

    arrays, facts = artifacts.read_arrays(
        path, MEASURED, ("modules", "order", "places", "provenance")
    )
    modules = [(name, kind, parameters) for name, kind, parameters in facts["modules"]]
    places = {
        name: Place(settled, math.nan if upper is None else upper, *bounds)
        for name, (settled, upper, *bounds) in facts["places"].items()
    }
    return (
        Measurement(modules, **arrays, places=places),
        facts["order"],
        artifacts.without_digests(facts["provenance"]),
    )

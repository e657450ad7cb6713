"""Criticality: ``rift examples``, ``rift criticality`` and ``rift merge criticality``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from rift import artifacts, config
from rift.commands.command import (
    Command,
    Device,
    Input,
    Neutral,
    Output,
    PreparedSet,
    Seed,
    Shard,
    frame,
    opened,
    opened_device,
    read_shard,
    say,
)
from rift.errors import RiftError
from rift.progress import display

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rift.criticality import Measurement, ModuleCriticality
    from rift.data.images import Images


class _CriticalityInputs(Command):
    """Commands that need adversarial examples of a base."""

    base: Input[Path] = Field(description="Weights of the adversarially trained base.")
    data: PreparedSet
    seed: Seed = 0
    criticality: config.Criticality = config.Criticality()
    attack: config.Attack = config.Attack()
    device: Device = "auto"

    def opened(self) -> "tuple[nn.Module, Images, torch.device]":
        """Load the model and the images that it is measured on."""
        device = opened_device(self.device)
        model, images = opened(self.base, self.data, self.criticality.split, device)
        images = images.first(self.criticality.images, "criticality.images")
        return model, images, device

    def examples(self, model: "nn.Module", images: "Images") -> "torch.Tensor":
        """Attack the images."""
        from rift.criticality import adversarial_examples

        with display("examples") as progress:
            return adversarial_examples(
                model, images, attack=self.attack, seed=self.seed, progress=progress
            )


class Examples(_CriticalityInputs):
    """Make the adversarial examples that criticality is measured on, for several jobs that share them."""

    stage = "examples"
    memory = "--criticality.images"

    output: Output[Path] = Field(description="Output: adversarial examples (.safetensors).")

    def run(self) -> None:
        model, images, device = self.opened()
        examples = self.examples(model, images).contiguous().cpu().numpy()
        artifacts.write_arrays(self.output, {"images": examples}, self.provenance(device))


class Criticality(_CriticalityInputs):
    """Measure how critical each module is to robustness (MRC)."""

    stage = "criticality"
    memory = "--criticality.batch_size or --criticality.cache_mib"

    adversarial: Neutral[Path | None] = Field(
        None, description="Adversarial examples (rift examples); without it they are made."
    )
    shard: Neutral[Shard | None] = Field(
        None,
        description="2/4: the second of four jobs that share the modules; rift merge criticality"
        " merges them.",
    )
    output: Output[Path] = Field(
        description="Output: the table (.csv, one row per module), or with --shard the raw"
        " measurement (.safetensors)."
    )

    def run(self) -> None:
        from rift.criticality import criticality_table, measure, measured_modules, shard

        number, count = read_shard(self.shard)
        model, images, device = self.opened()
        order = list(measured_modules(model))
        if count > len(order):
            raise RiftError(
                f"--shard {self.shard}: the network has {len(order)} modules to measure; lower"
                " criticality.shards"
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
        """Read the examples, or make them."""
        import torch

        if self.adversarial is None:
            return self.examples(model, images)
        arrays, _ = artifacts.read_arrays(self.adversarial, ("images",))
        examples = torch.from_numpy(arrays["images"])
        if examples.shape != (len(images), *images.shape):
            raise RiftError(
                f"{self.adversarial}: contains other images; run rift examples with the same settings"
            )
        return examples.to(images.device, memory_format=torch.channels_last)


class MergeCriticality(Command):
    """Merge the shards of a criticality measurement."""

    stage = "criticality"

    shards: Input[tuple[Path, ...]] = Field(
        min_length=1, description="Raw measurements (rift criticality --shard)."
    )
    output: Output[Path] = Field(description="Output: the table (.csv), one row per module.")

    def run(self) -> None:
        from rift.criticality import criticality_table, join

        shards = [_read_shard(path) for path in self.shards]
        check_equal(self.shards, [(order, source) for _, order, source in shards])
        _, order, source = shards[0]
        table = criticality_table(join([part for part, _, _ in shards], order))
        _write_table(self.output, table, source)


def check_equal(paths: Sequence[Path], facts: Sequence[object]) -> None:
    """Make sure that shards are parts of one whole: all have the same facts.

    Raises:
        RiftError: one differs from the first.
    """
    for path, each in zip(paths, facts, strict=True):
        if each != facts[0]:
            raise RiftError(
                f"{path}: was measured with other settings than {paths[0]}; measure all of them again"
            )


def _write_table(
    path: Path, records: "Sequence[ModuleCriticality]", source: artifacts.Provenance
) -> None:
    """Write the criticality table, and say which modules are least and most critical."""
    artifacts.write_csv(path, frame(records), source)
    by_rank = sorted(records, key=lambda record: record.rank)
    least, most = (
        f"{row.module} ({row.mrc:.3f} ± {row.mrc_error:.3f} nats)"
        for row in (by_rank[0], by_rank[-1])
    )
    tied = ", ".join(row.module for row in by_rank[1:] if row.tied)
    indistinguishable = f", not distinguishable from it: {tied}" if tied else ""
    say(f"least critical: {least}{indistinguishable}; most: {most}")


MEASURED = ("losses", "correct", "images", "rises", "kept")


def _write_shard(
    path: Path, measured: "Measurement", order: list[str], source: artifacts.Provenance
) -> None:
    arrays = {name: getattr(measured, name) for name in MEASURED}
    artifacts.write_arrays(path, arrays, source, modules=measured.modules, order=order)


def _read_shard(path: Path) -> "tuple[Measurement, list[str], artifacts.Provenance]":
    """Read a raw measurement, the modules of the whole network, and the provenance."""
    from rift.criticality import Measurement

    arrays, facts = artifacts.read_arrays(path, MEASURED, ("modules", "order", "provenance"))
    modules = [(name, kind, parameters) for name, kind, parameters in facts["modules"]]
    return Measurement(modules, **arrays), facts["order"], without_content(facts["provenance"])


def without_content(source: artifacts.Provenance) -> artifacts.Provenance:
    """Return the provenance that shards have in common: without the digest of their own content."""
    return {key: value for key, value in source.items() if key != "content"}

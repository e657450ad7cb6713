"""RiFT on one checkpoint, in one command: ``rift improve``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.artifacts import resumable
from rift.commands.command import (
    OUTPUT,
    Command,
    Device,
    Neutral,
    Seed,
    opened_device,
    say,
)
from rift.commands.exchange import WeightsKey, import_checked, say_import
from rift.config import ROBUSTBENCH, Architecture, Dataset
from rift.config.normalization import FileNormalization
from rift.errors import RiftError
from rift.progress import display

if TYPE_CHECKING:
    import torch

PLAIN = "improved.pth"


class Improve(Command):
    """Improve a robust checkpoint: import, RiFT, tables, a page; an interrupted run continues."""

    stage = "improve"
    memory = "--finetune.batch_size or --criticality.batch_size"

    checkpoint: str = Field(
        description="Weights to improve: a file (.pth, .pt, .safetensors), or robustbench:NAME for"
        " a network of the RobustBench model zoo."
    )
    architecture: Architecture = Field(description="Architecture of the weights.")
    dataset: Dataset = Field(description="Data set that the network classifies.")
    data: config.Data = config.Data()
    normalization: FileNormalization = None
    key: WeightsKey = None
    attack: config.Attack = config.Attack()
    modules: config.Count = Field(
        1, description="Number of least critical modules that are fine-tuned: ≥ 1."
    )
    criticality: config.Criticality = Field(
        config.Criticality(), description="At most 1,000 images, unless images is set."
    )
    finetune: config.Finetune = config.Finetune()
    augment: config.Augment = config.Augment()
    interpolate: config.Interpolate = config.Interpolate()
    pgd: config.Pgd = config.Pgd()
    autoattack: bool = Field(
        False, description="Whether AutoAttack is run on the test images, too. It takes long."
    )
    test_images: config.ImageCount = Field(
        "all", description="Number of test images, from the first: ≥ 1, or all."
    )
    budget: config.Duration | None = Field(
        None,
        description="Time for the computation, such as 90s, 30m or 2h. The network is measured for"
        " a few seconds, and numbers of images and epochs are chosen that fit; those of the other"
        " flags are the largest ones. Reading the data and the import come before.",
    )
    seed: Seed = 0
    device: Device = "auto"
    output: Neutral[Path] = Field(
        description="Output: folder for the weights, tables, figures and summary.html. While the"
        " command runs, summary.html.state contains its state."
    )

    @property
    def base(self) -> config.ImportedBase:
        """Return the source of the weights in the form of a configuration."""
        return config.ImportedBase(
            weights=self.checkpoint, normalization=self.normalization, key=self.key
        )

    @model_validator(mode="after")
    def _as_in_a_configuration(self) -> "Improve":
        # The model of the configuration checks which settings the weights allow.
        _ = self.base
        return self

    def paths(self, role: str) -> Iterator[tuple[str, Path]]:
        """Yield the names and paths of the files in the output folder."""
        if role == OUTPUT:
            from rift.api.result import FILES

            yield from ((f"output.{name}", self.output / name) for name in (*FILES, PLAIN))

    def files_read(self) -> list[Path]:
        """Return the path of the weight file."""
        return [Path(path) for path in self.base.files]

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return the settings; the digest of a weight file replaces its name."""
        settings = super().settings_for_provenance()
        if not self.checkpoint.startswith(ROBUSTBENCH):
            del settings["checkpoint"]
        if self.budget is None:
            del settings["budget"]
        return settings

    def inputs(self) -> dict[str, str]:
        """Return the digest of the weight file.

        Raises:
            RiftError: it cannot be read.
        """
        digests = [artifacts.content_digest(path) for path in self.files_read()]
        return {**super().inputs(), **({"checkpoint": digests[0]} if digests else {})}

    def run(self) -> None:
        from rift.api.result import SUMMARY

        device = opened_device(self.device)
        source = self.provenance(device)
        # Most steps take long and save at their end alone, so waiting for it would save nothing.
        with resumable(
            self.output / SUMMARY, self.begun_with(source), at_once=True, tell=say
        ) as work:
            if self._is_finished(source):
                say(f"{self.output}: is finished, with the same settings and checkpoint")
                return
            if work.state:
                say(f"continuing: the interrupted run had reached {list(work.state)[-1]}")
            self._improve(device, source, work)
        say(f"{self.output / SUMMARY} shows it; {PLAIN} has the names of your checkpoint")

    def _improve(
        self, device: "torch.device", source: artifacts.Provenance, work: artifacts.Work
    ) -> None:
        """Import and improve the network, and write the result."""
        from rift.api import improve
        from rift.data import prepare
        from rift.models import checkpoint, export

        with display("download") as progress:
            prepared = prepare(self.dataset, self.data, progress)
        found, report = import_checked(
            self.base, prepared, self.architecture, self.attack.norm, device
        )
        say_import(report, found.facts, self.normalization)
        test = prepared.split("test", device).first(self.test_images, "test_images")
        sections = ("attack", "criticality", "finetune", "augment", "interpolate", "pgd")
        result = improve(
            found.model,
            prepared.split("train", device),
            prepared.split("validation", device),
            test=test,
            modules=self.modules,
            autoattack=self.autoattack,
            budget=self.budget,
            seed=self.seed,
            work=work,
            **{name: getattr(self, name) for name in sections},
        )
        if self.budget is not None:
            source = {**source, "budget": result.settings["budget"]}
        artifacts.write_bytes(self.output / PLAIN, export.state_content(result.model, safe=False))
        result.save(self.output, source, **checkpoint.facts_of(found.spec))
        say(result.summary())

    def _is_finished(self, source: artifacts.Provenance) -> bool:
        """Return whether the folder contains the whole result of the same settings and inputs.

        Raises:
            RiftError: it contains the result of others.
        """
        from rift.api.result import TABLE

        table = self.output / TABLE
        if not table.exists():
            return False
        wanted = self.begun_with(source)
        found = artifacts.read_provenance(table)
        begun = {name: found.get(name) for name in wanted}
        if differing := artifacts.differing_flags(begun, wanted):
            raise RiftError(
                f"{self.output}: contains a result with other settings: {', '.join(differing)};"
                " choose another folder, or delete this one"
            )
        return all(path.exists() for _, path in self.paths(OUTPUT))

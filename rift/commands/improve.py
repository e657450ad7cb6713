"""RiFT on one checkpoint, in one command: ``rift improve``."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.artifacts import resumable
from rift.commands.command import Command, Device, Seed, opened_device, say
from rift.commands.exchange import WeightsKey, import_checked, say_check, say_import
from rift.commands.roles import OUTPUT, Neutral
from rift.config import ROBUSTBENCH, Architecture, Dataset
from rift.config.names import OutsideArchitecture
from rift.config.normalization import FileNormalization
from rift.config.outside import code_digest
from rift.errors import RiftError
from rift.progress import display

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rift.data import Prepared

PLAIN = "improved.pth"


class Improve(Command):
    """Improve a robust checkpoint: import, RiFT, tables, a page; an interrupted run continues."""

    stage = "improve"
    memory = "--finetune.batch_size or --criticality.batch_size"

    checkpoint: str | None = Field(
        None,
        description="Weights to improve: a file (.pth, .pt, .safetensors), or robustbench:NAME for"
        " a network of the RobustBench model zoo as one of rift's architectures.",
    )
    architecture: Architecture | None = Field(
        None, description="Architecture of the weights in --checkpoint."
    )
    model: OutsideArchitecture | None = Field(
        None,
        description="Network to improve, instead of --checkpoint: MODULE:FUNCTION, a function"
        " without arguments in a Python file of the working directory. It returns the network with"
        " its weights, for images in [0, 1].",
    )
    robustbench: str | None = Field(
        None,
        description="Network to improve, instead of --checkpoint: its name in the RobustBench model"
        " zoo. It stays the network of RobustBench, of whatever architecture.",
    )
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
    def base(self) -> config.ImportedBase | None:
        """Return the source of the weights in the form of a configuration; None without a file."""
        if self.checkpoint is None:
            return None
        return config.ImportedBase(
            weights=self.checkpoint, normalization=self.normalization, key=self.key
        )

    @model_validator(mode="after")
    def _one_network(self) -> "Improve":
        sources = ("checkpoint", "model", "robustbench")
        if sum(getattr(self, name) is not None for name in sources) != 1:
            raise ValueError(
                "one network is needed: --checkpoint with --architecture, --model MODULE:FUNCTION,"
                " or --robustbench NAME"
            )
        of_checkpoint = ("architecture", "normalization", "key")
        if self.checkpoint is None:
            for name in of_checkpoint:
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name} applies only to --checkpoint; remove it")
        elif self.architecture is None:
            raise ValueError("--checkpoint needs --architecture: the network of the weights")
        # The model of the configuration checks which settings the weights allow.
        _ = self.base
        return self

    def paths(self, role: str) -> Iterator[tuple[str, Path]]:
        """Yield the names and paths of the files in the output folder."""
        if role == OUTPUT:
            from rift.api.result import FILES

            yield from ((f"output.{name}", self.output / name) for name in (*FILES, PLAIN))

    def files_read(self) -> list[Path]:
        """Return the path of the weight file, if there is one."""
        return [] if self.base is None else [Path(path) for path in self.base.files]

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return the settings; the digest of a weight file replaces its name."""
        settings = super().settings_for_provenance()
        if self.checkpoint is not None and not self.checkpoint.startswith(ROBUSTBENCH):
            del settings["checkpoint"]
        # As before these could be set.
        for name in ("budget", "model", "robustbench"):
            if settings[name] is None:
                del settings[name]
        return settings

    def inputs(self) -> dict[str, str]:
        """Return the digest of the weight file, or those of ``model``: its file and its weights.

        Raises:
            RiftError: it cannot be read.
        """
        inputs = super().inputs()
        if self.model is not None:
            from rift.models.state import snapshot

            weights = artifacts.digest_of_arrays(snapshot(self._made_by_user))
            inputs |= {"code": code_digest(self.model), "weights": weights}
        for path in self.files_read():
            inputs["checkpoint"] = artifacts.content_digest(path)
        return inputs

    @cached_property
    def _made_by_user(self) -> "nn.Module":
        from rift.models.outside import trained_network

        assert self.model is not None
        return trained_network(self.model)

    def run(self) -> None:
        from rift.api.result import SUMMARY

        device = opened_device(self.device)
        source = self.provenance(device)
        # Most steps take long and save at their end alone, so waiting for it would save nothing.
        with resumable(
            self.output / SUMMARY, self.begun_with(source), at_once=True, tell=say
        ) as work:
            if self._is_finished(source):
                say(f"{self.output}: is finished, with the same settings and network")
                return
            if work.state:
                say(f"continuing: the interrupted run had reached {list(work.state)[-1]}")
            self._improve(device, source, work)
        say(f"{self.output / SUMMARY} shows it; {PLAIN} has the names of your network")

    def _improve(
        self, device: "torch.device", source: artifacts.Provenance, work: artifacts.Work
    ) -> None:
        """Import and improve the network, and write the result."""
        from rift.api import improve
        from rift.data import prepare
        from rift.models import export

        with display("download") as progress:
            prepared = prepare(self.dataset, self.data, progress)
        network, facts = self._network(prepared, device)
        test = prepared.split("test", device).first(self.test_images, "test_images")
        sections = ("attack", "criticality", "finetune", "augment", "interpolate", "pgd")
        result = improve(
            network,
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
        result.save(self.output, source, **facts)
        say(result.summary())

    def _network(
        self, prepared: "Prepared", device: "torch.device"
    ) -> "tuple[nn.Module, dict[str, Any]]":
        """Return the network, and the facts from which other commands build it, if they can."""
        from rift.importing import IMPORT_IMAGES, check_accuracy
        from rift.models import checkpoint
        from rift.models.outside import check_logits
        from rift.models.robustbench import load_robustbench

        if self.base is not None:
            assert self.architecture is not None
            found, report = import_checked(
                self.base, prepared, self.architecture, self.attack.norm, device
            )
            say_import(report, found.facts, self.normalization)
            return found.model, checkpoint.facts_of(found.spec)
        classes = len(prepared.classes)
        if self.robustbench is not None:
            name = self.robustbench
            network = load_robustbench(name, self.dataset, self.attack.norm)
        else:
            assert self.model is not None
            name, network = self.model, self._made_by_user
            check_logits(network, name, classes, len(prepared.mean), prepared.size)
        network.to(device)
        names = ("validation", "test")
        splits = {split: prepared.split(split, device).up_to(IMPORT_IMAGES) for split in names}
        with display("import") as progress:
            report = check_accuracy(
                network, splits, classes=classes, source=name, progress=progress
            )
        say_check(report)
        return network, {}

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

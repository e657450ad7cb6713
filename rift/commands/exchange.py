"""Exchange of weights with other programs: ``rift import`` and ``rift export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.commands.command import Command, Device, expected_spec, opened_device, say
from rift.commands.roles import Input, JsonOutput, Output, SafetensorsOutput
from rift.config import Architecture, NormName
from rift.config.names import ROBUSTBENCH, SourceName
from rift.config.normalization import FileNormalization
from rift.config.sources import SOURCES
from rift.errors import RiftError
from rift.progress import display

if TYPE_CHECKING:
    import torch

    from rift.data import Prepared
    from rift.importing import Imported, ImportReport


WeightsKey = Annotated[
    str | None, Field(description="Key of the weights, if the file contains several sets.")
]


class Import(Command):
    """Import weights of another program as a base, and report their accuracy."""

    stage = "import"

    weights: str = Field(
        description="Source of the weights: a file (.pth, .pt, .safetensors), or robustbench:NAME"
        " for a network of the RobustBench model zoo."
    )
    architecture: Architecture = Field(description="Architecture of the weights.")
    data: Input[Path | None] = Field(
        None, description="Prepared data set (rift prepare) of the weights."
    )
    source: SourceName | None = Field(
        None,
        description="Data set of the weights, instead of --data, if there are no images of it: the"
        " base is for transfers, and is not evaluated.",
    )
    normalization: FileNormalization = None
    key: WeightsKey = None
    norm: NormName = Field("linf", description="Threat model of a RobustBench network: linf or l2.")
    device: Device = "auto"
    output: SafetensorsOutput[Path] = Field(description="Output: weights (.safetensors).")
    manifest: JsonOutput[Path] = Field(
        description="Output: report of the import (.json): checksum, normalisation, accuracy."
    )

    @property
    def base(self) -> config.ImportedBase:
        """Return the source of the weights in the form of a configuration."""
        return config.ImportedBase(
            weights=self.weights, normalization=self.normalization, key=self.key
        )

    @model_validator(mode="after")
    def _as_in_a_configuration(self) -> "Import":
        # The model of the configuration checks which settings the weights allow.
        _ = self.base
        if self.norm != "linf" and not self.weights.startswith(ROBUSTBENCH):
            raise ValueError("--norm applies only to RobustBench networks; remove it")
        if (self.data is None) == (self.source is None):
            raise ValueError(
                "either --data or --source is needed; name the prepared data set, or the data set"
                " of weights for transfers"
            )
        return self

    def files_read(self) -> list[Path]:
        """Return the paths of the data set and of the weight file."""
        return [*super().files_read(), *map(Path, self.base.files)]

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return the settings; the digest of a weight file replaces its name."""
        settings = super().settings_for_provenance()
        if not self.weights.startswith(ROBUSTBENCH):
            del settings["weights"]
        # As before there was a choice.
        if self.norm == "linf":
            del settings["norm"]
        if self.source is None:
            del settings["source"]
        return settings

    def inputs(self) -> dict[str, str]:
        """Return the digests of the data set and of the weight file.

        Raises:
            RiftError: an input cannot be read.
        """
        digests = [artifacts.content_digest(Path(path)) for path in self.base.files]
        return {**super().inputs(), **({"weights": digests[0]} if digests else {})}

    def run(self) -> None:
        from rift.importing import imported_state
        from rift.models import checkpoint

        device = opened_device(self.device)
        found, report = self._found(device) if self.source is None else self._found_unseen()
        source = self.provenance(device)
        facts = {**self._file_facts(), **found.facts, **report.facts()}
        artifacts.write_json(self.manifest, facts, source)
        checkpoint.save(self.output, imported_state(found), found.spec, source)
        say_import(report, found.facts, self.normalization)

    def _found(self, device: "torch.device") -> "tuple[Imported, ImportReport]":
        """Import the weights, and evaluate them on images of their data set."""
        from rift.data import load

        assert self.data is not None
        prepared = load(self.data, ("validation", "test"))
        return import_checked(self.base, prepared, self.architecture, self.norm, device)

    def _found_unseen(self) -> "tuple[Imported, ImportReport]":
        """Import weights of a data set without images, and return them with an empty report."""
        import torch

        from rift.importing import ImportReport, import_base
        from rift.models.checkpoint import ModelSpec
        from rift.seeds import generator

        assert self.source is not None
        facts = SOURCES[self.source]
        like = ModelSpec(self.architecture, facts.classes, facts.size, facts.mean, facts.std)
        # Any images serve to compare the network with that of the model zoo.
        images = torch.rand(
            (2, len(facts.mean), facts.size, facts.size), generator=generator(0, "import")
        )
        found = import_base(self.base, like, dataset=self.source, norm=self.norm, images=images)
        return found, ImportReport({}, {}, None, False)

    def _file_facts(self) -> dict[str, Any]:
        from rift.data.sources.source import sha256

        files = [Path(file) for file in self.base.files]
        return {
            "weights": files[0].name if files else self.weights,
            "sha256": sha256(files[0]) if files else None,
        }


def import_checked(
    base: config.ImportedBase,
    prepared: "Prepared",
    architecture: Architecture,
    norm: NormName,
    device: "torch.device",
) -> "tuple[Imported, ImportReport]":
    """Import weights, and evaluate them on images of the selection and the test split.

    Raises:
        RiftError: the weights cannot be read, do not fit, or are hardly better than chance.
    """
    from rift.importing import IMPORT_IMAGES, check_imported, import_base

    names = ("validation", "test")
    like = expected_spec(architecture, prepared)
    splits = {name: prepared.split(name, device).up_to(IMPORT_IMAGES) for name in names}
    found = import_base(
        base,
        like,
        dataset=prepared.facts["dataset"],
        norm=norm,
        images=splits["validation"].up_to(32).floats().cpu(),
    )
    found.model.to(device)
    with display("import") as progress:
        report = check_imported(
            found,
            splits,
            like=like,
            asked=base.normalization,
            source=f"{base.weights}: as {architecture}",
            progress=progress,
        )
    return found, report


def say_import(report: "ImportReport", facts: dict[str, Any], asked: str | None) -> None:
    """Print the accuracy of imported weights, and what looks wrong with them.

    Args:
        report: accuracy of the weights.
        facts: facts of the import.
        asked: normalisation that the user set, or None.
    """
    under = f", from {facts['key']!r} of the file" if facts["key"] else ""
    say(f"{_accuracy_in_words(report)}; normalization: {facts['normalization']['from']}{under}")
    if facts["other_weights"]:
        others = ", ".join(facts["other_weights"])
        say(f"the file also contains other weights: {others}; --key takes one of them")
    if facts["ignored"]:
        first, *more = facts["ignored"]
        others = f" and {len(more)} more" if more else ""
        say(f"entries of the file that the network does not use: {first}{others}")
    if report.better_normalization is not None:
        better = report.better_normalization
        say(
            f"warning: with --normalization {better}, the network classifies"
            f" {report.other_normalizations[better]:.2f}% of the validation images correctly;"
            f" check --normalization {asked}"
        )
    _say_whether_trained_on_selection(report)


def say_check(report: "ImportReport") -> None:
    """Print the accuracy of a network that was not imported, and what looks wrong with it."""
    say(_accuracy_in_words(report))
    _say_whether_trained_on_selection(report)


def _accuracy_in_words(report: "ImportReport") -> str:
    from rift.evaluation.accuracy import percent

    shares = " and ".join(
        f"{percent(hits):.2f}% of {len(hits)} {name} images"
        for name, hits in report.outcomes.items()
    )
    return f"classifies {shares} correctly" if shares else "was not evaluated: no images"


def _say_whether_trained_on_selection(report: "ImportReport") -> None:
    if report.trained_on_selection:
        say(
            "warning: the network is more accurate on the validation images than on the test"
            " images, and was probably trained on them; if its training left out the last"
            " training images, set data.cut: last to select on those"
        )


class Export(Command):
    """Write a model for other programs: a state dict, and a Python module for RobustBench."""

    stage = "export"

    weights: Input[Path] = Field(
        description="Weights to export (.safetensors), for example base or selected."
    )
    output: Output[Path] = Field(
        description="Output: state dict (.pth or .safetensors), with the usual parameter names of"
        " the architecture."
    )
    module: Output[Path | None] = Field(
        None,
        description="Output: Python module (.py) in the same folder. Its load_model() returns the"
        " network for images in [0, 1].",
    )

    def run(self) -> None:
        from rift.models import checkpoint, export

        export.check_ending(self.output)
        if self.module is not None and self.module.parent != self.output.parent:
            raise RiftError(
                f"--module: {self.module} must be in the folder of {self.output}, which it loads;"
                " choose a path in that folder"
            )
        model, spec = checkpoint.load(self.weights)
        content = export.state_content(model, safe=self.output.suffix == export.SAFE)
        artifacts.write_bytes(self.output, content)
        if self.module is not None:
            source = export.module_source(spec, self.output.name)
            artifacts.write_text(self.module, source)
        pairs = (spec.mean, spec.std)
        mean, std = (", ".join(f"{value:g}" for value in values) for values in pairs)
        say(
            f"{spec.architecture}: the network takes (image - ({mean})) / ({std}), images in [0, 1]"
        )

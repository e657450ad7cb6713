"""The command ``rift``: one subcommand a stage. Each reads artifacts, calls the core, and writes artifacts.

A command is a model: its fields are its flags, and a field that is a section of the configuration takes that section's keys
(``--train.epochs 110``). What a command computes with is imported when it runs, so that ``--help`` does not wait for torch.
"""

import os
import re
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliPositionalArg,
    CliSubCommand,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    get_subcommand,
)

from rift import artifacts, config
from rift.config import (
    Architecture,
    CorruptionName,
    DatasetName,
    FigureName,
    Grid,
    RegimeName,
    Scope,
    Section,
    TableName,
)
from rift.errors import RiftError
from rift.progress import display, silent

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from _typeshed import DataclassInstance
    from torch import nn

    from rift.criticality import Measurement, ModuleCriticality
    from rift.data import Prepared
    from rift.data.split import Split
    from rift.models.checkpoint import ModelSpec
    from rift.scopes import Measured
    from rift.training.epoch import Trained
    from rift.training.loop import TrainedBase, TrainingEpoch
    from rift.training.parallel import Team

IMPORT_IMAGES = 1000  # of each split, that imported weights are tried on

Prepared_ = Annotated[Path, Field(description="Prepared set (rift prepare).")]
Seed = Annotated[config.Seed, Field(description="Seed of everything drawn at random.")]
Shard = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*/[1-9][0-9]*$")]
Device = Annotated[
    str, Field(description="auto (a GPU if there is one, else the CPU), or a torch device such as cuda:1.")
]


class Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    memory: ClassVar[str] = "what runs beside it"
    """What to lower if memory does not suffice."""

    @abstractmethod
    def run(self) -> None:
        """Read artifacts, call the core, write artifacts."""

    def check_outputs(self) -> None:
        """Make sure that what the command writes can be written, before it computes."""
        seen: set[Path] = set()
        for name in ("output", "history", "manifest", "outcomes", "sweep", "choice", "module"):
            value = getattr(self, name, None) or ()
            for path in (value,) if isinstance(value, Path) else value:
                artifacts.check_writable(path)
                if path in seen:
                    raise RiftError(f"{path}: is named for two different outputs")
                seen.add(path)

    def provenance(self, device: "torch.device | None" = None) -> artifacts.Provenance:
        """Everything that the result depends on besides the input files."""
        flags = {
            # Where data sets lie is no part of what is made of them.
            name: value.model_dump(mode="json", exclude=set(config.NO_RESULT))
            if isinstance(value, BaseModel)
            else value
            for name in type(self).model_fields
            if not isinstance(value := getattr(self, name), Path)
            and name not in ("seed", "device", "corrupted", "root", "weights", "shard", "adversarial", "outcomes")
        }
        settings = {"stage": type(self).__name__.lower(), **flags}
        data = getattr(self, "data", None)
        if "outcomes" in type(self).model_fields and isinstance(data, Path):
            from rift.data import examples

            settings["examples"] = examples(data)  # or outcomes of others could be compared in pairs with these
        return artifacts.provenance(settings, getattr(self, "seed", None), None if device is None else str(device))


class Prepare(Command):
    """Read a data set, check it, and cut it into training, validation and test split."""

    dataset: DatasetName = Field(description="Data set.")
    data: config.Data = config.Data()
    output: Path = Field(description="Prepared set to write (.safetensors).")
    manifest: Path = Field(description="Manifest to write (.json): checksums, counts, mean and deviation.")

    def run(self) -> None:
        from rift.data import prepare, save

        with display("download") as progress:
            prepared = prepare(self.dataset, self.data, progress)
        source = self.provenance()
        counts = {split: len(labels) for split, labels in prepared.labels.items()}
        facts = {"classes": prepared.classes, "mean": prepared.mean, "std": prepared.std, "images": counts}
        save(self.output, prepared, source)
        artifacts.write_json(self.manifest, {**prepared.facts, **facts}, source)
        _say(f"{self.dataset}: {', '.join(f'{count} {split}' for split, count in counts.items())} images")


class Corrupt(Command):
    """Corrupt the test split at five severities."""

    data: Prepared_
    corruption: CorruptionName = Field(description="Corruption.")
    corrupt: config.Corrupt = config.Corrupt()
    root: Path | None = Field(None, description="Folder of the data sets on disk; if not given, $RIFT_DATA, else data.")
    output: Path = Field(description="Corrupted images to write (.npy), in the published layout; labels.npy beside it.")

    def run(self) -> None:
        from rift.data import corrupted, load

        if self.output.suffix != ".npy":
            raise RiftError(f"--output: {self.output}: corrupted images are written as .npy")
        prepared = load(self.data, ("test",))
        with display("download") as progress:
            split = corrupted.corrupted_test_split(
                prepared, self.corruption, self.corrupt, config.data_root(self.root), progress
            )
        corrupted.save(self.output, split, prepared.labels["test"], self.provenance())
        _say(f"{self.corruption}, {split.source}: {split.images.shape[1]} images at {len(split.images)} severities")


class Train(Command):
    """Train a base and keep its most robust epoch; what was interrupted goes on where it was."""

    memory = "--train.batch_size, or raise --train.accumulate, which gives the same gradients in smaller parts"

    data: Prepared_
    architecture: Architecture = Field(description="Architecture: resnet18 …, or timm:NAME.")
    regime: RegimeName = Field("pgd", description="Training regime; what no flag says follows its authors' recipe.")
    seed: Seed = 0
    train: config.Train = config.Train()
    attack: config.Attack = config.Attack()
    inner: config.Inner = config.Inner()
    augment: config.Augment = config.Augment()
    trades: config.Trades = config.Trades()
    mart: config.Mart = config.Mart()
    score: config.Score = config.Score()
    awp: config.Awp = config.Awp()
    device: Device = "auto"
    output: Path = Field(description="Weights to write (.safetensors); until then, OUTPUT.state holds the state.")
    history: Path = Field(description="Training history to write (.csv), a row an epoch.")

    @model_validator(mode="before")
    @classmethod
    def _follow_the_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        regime = given.get("regime", "pgd")
        if regime not in config.RECIPES:
            return given  # which is said of the regime itself
        others = [
            f"--{flag}" for flag in _leaves({name: given[name] for name in config.foreign(regime) if name in given})
        ]
        if others:
            raise ValueError(f"{', '.join(others)}: no part of regime {regime}")
        return config.follow(regime, given)

    @model_validator(mode="after")
    def _init_says_nothing_in_vain(self) -> "Train":
        if self.train.init_normalization and not self.train.init:
            raise ValueError("--train.init_normalization is for the weights of --train.init")
        return self

    @property
    def settings(self) -> config.RunSettings:
        """The sections together."""
        return config.RunSettings(
            **{name: getattr(self, name) for name in config.RunSettings.model_fields if name in type(self).model_fields}
        )

    def provenance(self, device: "torch.device | None" = None) -> artifacts.Provenance:
        """Everything that the result depends on besides the input files; nothing of other regimes."""
        source = super().provenance(device)
        foreign = config.foreign(self.regime)
        kept = {name: value for name, value in source["settings"].items() if name not in foreign}
        return artifacts.provenance(kept, self.seed, source["device"])

    def run(self) -> None:
        from rift.data import load
        from rift.training.parallel import launch, launched, team

        if self.train.processes > 1 and not launched():
            _check_processes(self.train.processes, self.device)
            launch(self.train.processes, sys.argv[1:])
            return
        device = _device(self.device)
        prepared = load(self.data, ("train", "validation"))
        model, spec = self._network(prepared)
        with team(device) as members, ExitStack() as held:
            if members.rank == 0:
                held.enter_context(artifacts.locked(self.output.with_name(f"{self.output.name}.lock")))
            self._train(prepared, model, spec, device, members)

    def _train(
        self, prepared: "Prepared", model: "nn.Module", spec: "ModelSpec", device: "torch.device", members: "Team"
    ) -> None:
        from rift.data.split import split_of
        from rift.models import checkpoint
        from rift.training import REGIMES
        from rift.training.loop import train

        chief = members.rank == 0
        source = self.provenance(device)
        file = self.output.with_name(f"{self.output.name}.state")
        begun_with = {**source["settings"], "seed": self.seed, **self._files()}
        state = _state(file, begun_with) if file.exists() else None
        if state is not None:
            _say(f"going on in epoch {state['pass']['epoch']}, after batch {state['pass']['steps']}")
        if chief:
            artifacts.remove_leftovers(file)

        def keep(state: dict[str, Any]) -> None:
            if chief:
                artifacts.write_state(file, {"begun_with": begun_with, "run": state})

        with ExitStack() as held:
            log = held.enter_context(_tensorboard(self.output.parent)) if chief and self.train.tensorboard else None

            def after_epoch(trained: "TrainedBase") -> None:
                if chief:
                    artifacts.write_csv(self.history, _history(trained), source)
                if log is not None:
                    log(trained.history[-1])

            progress = held.enter_context(display("train")) if chief else silent
            trained = train(
                model.to(device),
                split_of(prepared, "train", device),
                split_of(prepared, "validation", device),
                REGIMES[self.regime],
                self.settings,
                self.seed,
                progress,
                team=members,
                state=state,
                keep_state=keep,
                after_epoch=after_epoch,
            )
        if chief:
            artifacts.write_csv(self.history, _history(trained), source)
            checkpoint.save(self.output, trained.state, spec, source)
            file.unlink(missing_ok=True)
            _say(f"epoch {trained.kept} kept{', averaged weights' if trained.averaged else ''}")
            if trained.collapsed is not None:
                _say(
                    f"warning: catastrophic overfitting from epoch {trained.collapsed} on: the network withstands the single"
                    " step it was trained with, but not PGD; the most robust epoch is kept"
                )

    def _network(self, prepared: "Prepared") -> "tuple[nn.Module, ModelSpec]":
        """Make the network that training begins with."""
        from rift.data.split import split_of, to_float
        from rift.models import build, checkpoint
        from rift.models.imports import import_base

        spec = checkpoint.ModelSpec(
            self.architecture, len(prepared.classes), prepared.size, prepared.mean, prepared.std
        )
        if self.train.init is None:
            return build(**asdict(spec), seed=self.seed), spec
        init = config.Base(weights=self.train.init, normalization=self.train.init_normalization)
        some = to_float(split_of(prepared, "validation").up_to(32).images)
        model, spec, _ = import_base(init, spec, prepared.facts["dataset"], some)
        return model, spec

    def _files(self) -> dict[str, str]:
        """Tell the content of what training reads."""
        from rift.data.source import sha256

        files = {"data": self.data}
        if self.train.init is not None:
            files |= {f"init {path}": Path(path) for path in config.Base(weights=self.train.init).files}
        return {name: sha256(path) for name, path in files.items()}


class Import(Command):
    """Take weights from elsewhere as a base, and say how accurate they are."""

    weights: str = Field(description="File (.pth, .pt, .safetensors), or robustbench:NAME of its model zoo.")
    architecture: Architecture = Field(description="Architecture that the weights are of.")
    data: Prepared_
    normalization: Literal["dataset", "none"] | None = Field(
        None, description="What images go through before the network, where the file does not hold it."
    )
    key: str | None = Field(None, description="What the weights stand under in the file, if it holds several.")
    device: Device = "auto"
    output: Path = Field(description="Weights to write (.safetensors).")
    manifest: Path = Field(description="Report of the import to write (.json): checksum, normalisation, accuracy.")

    @property
    def base(self) -> config.Base:
        return config.Base(weights=self.weights, normalization=self.normalization, key=self.key)

    @model_validator(mode="after")
    def _as_in_a_configuration(self) -> "Import":
        _ = self.base
        return self

    def run(self) -> None:
        from rift.data import load
        from rift.data.source import sha256
        from rift.data.split import split_of, to_float
        from rift.evaluation.accuracy import correct, percent, refuse_chance, trained_on
        from rift.models import checkpoint
        from rift.models.imports import import_base, otherwise_normalized
        from rift.models.modes import snapshot

        device = _device(self.device)
        prepared = load(self.data, ("validation", "test"))
        splits = {name: split_of(prepared, name, device).up_to(IMPORT_IMAGES) for name in ("validation", "test")}
        like = checkpoint.ModelSpec(
            self.architecture, len(prepared.classes), prepared.size, prepared.mean, prepared.std
        )
        some = to_float(splits["validation"].images[:32]).cpu()
        model, spec, found = import_base(self.base, like, prepared.facts["dataset"], some)
        model.to(device)
        with display("import") as progress:
            outcomes = {name: correct(model, split, progress) for name, split in splits.items()}
        origin = found["normalization"]["from"]
        for hits in outcomes.values():
            refuse_chance(hits, spec.classes, f"{self.weights}: as {self.architecture}, normalization {origin}")
        other = None
        if self.normalization is not None:
            other = percent(correct(otherwise_normalized(model, spec, like), splits["validation"]))
        files = [Path(file) for file in self.base.files]
        facts = {
            "weights": files[0].name if files else self.weights,
            "sha256": sha256(files[0]) if files else None,
            **found,
            "accuracy": {name: percent(hits) for name, hits in outcomes.items()},
            "images": {name: len(hits) for name, hits in outcomes.items()},
            "accuracy_with_the_other_normalization": other,
            "trained_on_selection": trained_on(outcomes["validation"], outcomes["test"]),
        }
        source = self.provenance(device)
        artifacts.write_json(self.manifest, facts, source)
        checkpoint.save(self.output, snapshot(model), spec, source)
        shares = " and ".join(f"{percent(hits):.2f}% of {len(hits)} {name} images" for name, hits in outcomes.items())
        under = f", from {found['key']!r} of the file" if found["key"] else ""
        _say(f"classifies {shares} correctly; normalization: {origin}{under}")
        if other is not None and other > percent(outcomes["validation"]):
            _say(
                f"warning: with the other normalization it classifies {other:.2f}% of the validation images correctly: are you"
                f" sure of {self.normalization}?"
            )
        if facts["trained_on_selection"]:
            _say(
                "warning: it knows the validation images better than the test images, and was probably trained on them: what is"
                " chosen on them is then chosen as on training data; data.cut: last keeps images that you left out"
            )


class Export(Command):
    """Write a model for other programs: a plain state dict, and a module around it that RobustBench can evaluate."""

    weights: Path = Field(description="Weights to export (.safetensors), such as base or selected.")
    output: Path = Field(
        description="State dict to write (.pth), with the names that the architecture has in the field."
    )
    module: Path | None = Field(
        None, description="Module to write (.py) beside it: load_model() gives the network for images in [0, 1]."
    )

    def run(self) -> None:
        import torch

        from rift.models import checkpoint, export

        if self.module is not None and self.module.parent != self.output.parent:
            raise RiftError(f"--module: {self.module} must lie beside {self.output}: it loads it from there")
        model, spec = checkpoint.load(self.weights)
        with artifacts.replacing(self.output) as beside:
            torch.save(export.plain_state(model), beside)
        if self.module is not None:
            artifacts.write_text(self.module, export.module_source(spec, self.output.name))
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
        _say(f"{spec.architecture}: the network takes (image - ({mean})) / ({std}), images in [0, 1]")


class _OnExamples(Command):
    """What takes adversarial examples of a base."""

    base: Path = Field(description="Weights of the adversarially trained base.")
    data: Prepared_
    seed: Seed = 0
    criticality: config.Criticality = config.Criticality()
    attack: config.Attack = config.Attack()
    device: Device = "auto"

    def _load(self) -> "tuple[nn.Module, Split, torch.device]":
        from rift.data import load
        from rift.data.split import split_of

        device = _device(self.device)
        prepared = load(self.data, (self.criticality.split,))
        model, _ = _model(self.base, prepared, self.data, device)
        data = split_of(prepared, self.criticality.split, device)
        return model, data.first(self.criticality.images, "criticality.images"), device

    def _attacked(self, model: "nn.Module", data: "Split") -> "torch.Tensor":
        from rift.criticality import adversarial_examples

        with display("attack") as progress:
            return adversarial_examples(model, data, self.attack, self.seed, progress)


class Attack(_OnExamples):
    """Make the adversarial examples that criticality is measured on, for several jobs that share them."""

    memory = "--criticality.images"

    output: Path = Field(description="Examples to write (.safetensors).")

    def run(self) -> None:
        model, data, device = self._load()
        examples = self._attacked(model, data).contiguous().cpu().numpy()
        artifacts.write_arrays(self.output, {"images": examples}, self.provenance(device))


class Criticality(_OnExamples):
    """Measure how critical each module is to robustness (MRC)."""

    memory = "--criticality.batch_size or --criticality.cache_mib"

    adversarial: Path | None = Field(None, description="Examples (rift attack); if not given, they are made.")
    shard: Shard | None = Field(
        None, description="2/4: the second of four jobs that share the modules; rift gather puts them together."
    )
    output: Path = Field(
        description="Table to write (.csv), a row a module; of a shard, what it measured (.safetensors)."
    )

    def run(self) -> None:
        import torch

        from rift.criticality import criticality_table, measure, measured_modules, shard

        number, count = _shard(self.shard)
        model, data, device = self._load()
        order = list(measured_modules(model))
        if count > len(order):
            raise RiftError(
                f"--shard {self.shard}: the network has {len(order)} modules to measure; lower criticality.shards"
            )
        if self.adversarial is None:
            adversarial = self._attacked(model, data)
        else:
            arrays, _ = artifacts.read_arrays(self.adversarial, ("images",))
            adversarial = torch.from_numpy(arrays["images"]).to(device, memory_format=torch.channels_last)
            if adversarial.shape != data.images.shape:
                raise RiftError(f"{self.adversarial}: holds other images; run rift attack with the same settings")
        with display("criticality") as progress:
            measured = measure(
                model, adversarial, data.labels, self.criticality, self.seed, shard(order, number, count), progress
            )
        source = self.provenance(device)
        if self.shard:
            _write_shard(self.output, measured, order, source)
        else:
            _write_criticality(self.output, criticality_table(measured), source)


class Gather(Command):
    """Put the shards of a criticality measurement, or of an evaluation under attack, together."""

    shards: tuple[Path, ...] = Field(
        min_length=1,
        description="What every shard found (rift criticality --shard, rift evaluate adversarial --shard).",
    )
    output: Path = Field(description="Of a criticality, the table (.csv), a row a module; else the results (.json).")
    outcomes: Path | None = Field(
        None, description="Per-example outcomes to write (.npz), of an evaluation under attack."
    )

    def run(self) -> None:
        if self.outcomes is None:
            self._criticality(self.output)
        else:
            self._adversarial(self.output, self.outcomes)

    def _criticality(self, output: Path) -> None:
        from rift.criticality import criticality_table, join

        shards = [_read_shard(path) for path in self.shards]
        self._check_alike([(order, source) for _, order, source in shards])
        order, source = shards[0][1:]
        _write_criticality(output, criticality_table(join([part for part, _, _ in shards], order)), source)

    def _adversarial(self, output: Path, outcomes: Path) -> None:
        import torch

        from rift.evaluation.blocks import join

        shards = [artifacts.read_arrays(path, (), ("attacked", "provenance")) for path in self.shards]
        self._check_alike([facts for _, facts in shards])
        source = shards[0][1]["provenance"]
        fates = {
            kind: join([torch.from_numpy(arrays[kind]) for arrays, _ in shards])
            for kind in source["settings"]["attacks"]
        }
        _write_adversarial(output, outcomes, fates, source)

    def _check_alike(self, shards: Sequence[object]) -> None:
        """Make sure that the shards are parts of one whole: what each of them says of itself is the same."""
        for path, facts in zip(self.shards, shards, strict=True):
            if facts != shards[0]:
                raise RiftError(
                    f"{path}: was measured with other settings than {self.shards[0]}; measure all of them again"
                )


class Finetune(Command):
    """Fine-tune one scope of the base on clean images."""

    memory = "--finetune.batch_size"

    base: Path = Field(description="Weights of the base.")
    criticality: Path = Field(description="Criticality table of the base (rift criticality).")
    data: Prepared_
    scope: Scope = Field(description="What is fine-tuned: rift, all-layers …, or module-NAME.")
    seed: Seed = 0
    finetune: config.Finetune = config.Finetune()
    augment: config.Augment = config.Augment()
    device: Device = "auto"
    output: Path = Field(description="Weights to write (.safetensors).")
    history: Path = Field(description="Fine-tuning history to write (.csv), a row an epoch.")

    def run(self) -> None:
        from rift.criticality import measured_modules
        from rift.data import load
        from rift.data.split import split_of
        from rift.finetuning import fine_tune
        from rift.models import checkpoint
        from rift.scopes import WHOLE_NETWORK, modules_of

        device = _device(self.device)
        prepared = load(self.data, ("train", "validation"))
        model, spec = _model(self.base, prepared, self.data, device)
        table = artifacts.read_csv(self.criticality, ("module", "kind", "parameters", "mrc", "rank"))
        if list(table["module"]) != list(measured_modules(model)):
            raise RiftError(f"{self.criticality}: is not the table of {self.base}; run rift criticality on it")
        modules = modules_of(self.scope, cast("list[Measured]", list(table.itertuples(index=False))), self.finetune)
        with display("finetune") as progress:
            finetuned = fine_tune(
                model,
                modules,
                split_of(prepared, "train", device).first(self.finetune.images, "finetune.images"),
                split_of(prepared, "validation", device),
                self.finetune,
                self.augment,
                self.seed,
                progress,
            )
        source = self.provenance(device)
        artifacts.write_csv(self.history, _history(finetuned), source)
        checkpoint.save(self.output, finetuned.state, spec, source, modules=modules)
        names = ", ".join("the whole network" if name == WHOLE_NETWORK else name for name in modules)
        _say(f"{names}: epoch {finetuned.kept} kept")


class Interpolate(Command):
    """Sweep from the base to the fine-tuned weights and choose the best point that is as robust as the base."""

    base: Path = Field(description="Weights of the base.")
    finetuned: Path = Field(description="Fine-tuned weights (rift finetune).")
    data: Prepared_
    seed: Seed = 0
    interpolate: config.Interpolate = config.Interpolate()
    attack: config.Attack = config.Attack()
    device: Device = "auto"
    sweep: Path = Field(description="Sweep to write (.csv), a row an alpha.")
    output: Path = Field(description="Chosen weights to write (.safetensors).")
    choice: Path = Field(description="Choice to write (.json).")

    def run(self) -> None:
        from rift.data import load
        from rift.data.split import split_of
        from rift.interpolation import interpolate, select, sweep
        from rift.models import checkpoint
        from rift.models.modes import snapshot
        from rift.training.epoch import arithmetic

        device = _device(self.device)
        split = self.interpolate.selection
        prepared = load(self.data, (split,))
        model, spec = _model(self.base, prepared, self.data, device)
        base = snapshot(model)
        other, finetuned_spec = checkpoint.load(self.finetuned, device)
        if finetuned_spec != spec:
            raise RiftError(f"{self.finetuned}: is a {finetuned_spec.architecture} that does not fit {self.base}")
        finetuned = snapshot(other)
        data = split_of(prepared, split, device).first(self.interpolate.images, "interpolate.images")
        with display("interpolate") as progress:
            points = sweep(model, base, finetuned, data, self.interpolate, self.attack, self.seed, progress)
        alpha = select(points, self.interpolate.tolerance)
        chosen = next(point for point in points if point.alpha == alpha)
        start = next(point for point in points if point.alpha == 0)
        source = self.provenance(device)
        choice = {
            "alpha": alpha,
            "selection": split,
            "images": len(data.labels),
            "tolerance": self.interpolate.tolerance,
            "restarts": self.interpolate.restarts,
            "precision": arithmetic(self.interpolate.precision, device),
            "base": {"standard_accuracy": start.standard_accuracy, "adversarial_accuracy": start.adversarial_accuracy},
            "selected": {
                "standard_accuracy": chosen.standard_accuracy,
                "adversarial_accuracy": chosen.adversarial_accuracy,
            },
        }
        artifacts.write_csv(self.sweep, _frame(points), source)
        artifacts.write_json(self.choice, choice, source)
        checkpoint.save(self.output, interpolate(base, finetuned, alpha), spec, source)
        gain = chosen.standard_accuracy - start.standard_accuracy
        _say(f"alpha {alpha:g} chosen: accuracy {gain:+.2f} points on the {split} split")


class EvaluateStandard(Command):
    """Accuracy on clean test images."""

    class Evaluate(Section):
        standard: config.Standard = config.Standard()

    weights: Path = Field(description="Weights to evaluate.")
    data: Prepared_
    evaluate: Evaluate = Evaluate()
    device: Device = "auto"
    output: Path = Field(description="Result to write (.json).")
    outcomes: Path = Field(description="Per-example outcomes to write (.npz).")

    def run(self) -> None:
        from rift.data import load
        from rift.data.split import split_of
        from rift.evaluation.accuracy import correct, finite

        device = _device(self.device)
        prepared = load(self.data, ("test",))
        model, _ = _model(self.weights, prepared, self.data, device)
        data = split_of(prepared, "test", device).first(self.evaluate.standard.images, "evaluate.standard.images")
        with display("standard") as progress, finite(model, str(self.weights)):
            outcomes = correct(model, data, progress).cpu().numpy()
        source = self.provenance(device)
        artifacts.write_outcomes(self.outcomes, {"standard": outcomes}, source)
        artifacts.write_json(self.output, {"accuracy": 100 * outcomes.mean(), "images": len(outcomes)}, source)
        _say(f"accuracy {100 * outcomes.mean():.2f}% on {len(outcomes)} test images")


class EvaluateOod(Command):
    """Accuracy on corrupted test images."""

    class Evaluate(Section):
        ood: config.Ood = config.Ood()

    weights: Path = Field(description="Weights to evaluate.")
    data: Prepared_
    corrupted: tuple[Path, ...] = Field(
        description="Corrupted images, a file for each of the corruptions (rift corrupt)."
    )
    evaluate: Evaluate = Evaluate()
    device: Device = "auto"
    output: Path = Field(description="Table to write (.csv), a row for each corruption and severity.")
    outcomes: Path = Field(description="Per-example outcomes to write (.npz): severities × images for each corruption.")

    def run(self) -> None:
        import numpy as np
        import pandas as pd
        import torch

        from rift.data import corrupted, load
        from rift.data.split import Split
        from rift.evaluation.accuracy import correct, finite

        device = _device(self.device)
        prepared = load(self.data, ("test",))
        model, _ = _model(self.weights, prepared, self.data, device)
        wanted = np.moveaxis(prepared.images["test"][:1], 1, -1).shape[1:]
        outcomes: dict[str, artifacts.Array] = {}
        sources: dict[str, str] = {}
        with display("ood") as progress, finite(model, str(self.weights)):
            for number, path in enumerate(self.corrupted, start=1):
                if path.suffix != ".npy":
                    raise RiftError(f"--corrupted: {path}: is not a .npy file of rift corrupt")
                split = corrupted.load(path, prepared.labels["test"])
                labels = torch.from_numpy(prepared.labels["test"][: split.images.shape[1]])
                if split.images.shape[2:] != wanted:
                    raise RiftError(f"{path}: was not made from the test split of {self.data}; run rift corrupt again")
                severities = [
                    Split(torch.from_numpy(np.moveaxis(np.array(images), -1, 1)), labels).first(
                        self.evaluate.ood.images, f"{path}: evaluate.ood.images"
                    )
                    for images in split.images[[level - 1 for level in self.evaluate.ood.severities]]
                ]
                correct_at = np.stack([correct(model, severity.to(device)).cpu().numpy() for severity in severities])
                outcomes[split.corruption], sources[split.corruption] = correct_at, split.source
                progress(number, len(self.corrupted), accuracy=100 * correct_at.mean())
        missing = [name for name in self.evaluate.ood.names if name not in outcomes]
        if missing:
            raise RiftError(f"--corrupted: no file holds {', '.join(missing)}, named by evaluate.ood.corruptions")
        outcomes = {name: outcomes[name] for name in self.evaluate.ood.names}
        source = self.provenance(device)
        rows = [
            {
                "corruption": name,
                "severity": severity,
                "accuracy": 100 * row.mean(),
                "images": len(row),
                "source": sources[name],
            }
            for name, correct_at in outcomes.items()
            for severity, row in zip(self.evaluate.ood.severities, correct_at, strict=True)
        ]
        artifacts.write_outcomes(self.outcomes, outcomes, source)
        artifacts.write_csv(self.output, pd.DataFrame(rows), source)
        mean = 100 * np.mean([correct_at.mean() for correct_at in outcomes.values()])
        what = f"{len(outcomes)} corruptions × {len(rows) // len(outcomes)} severities"
        _say(f"accuracy {mean:.2f}%, mean of {what} on {rows[0]['images']} test images")


class EvaluateAdversarial(Command):
    """Accuracy on attacked test images, by PGD and AutoAttack; what was interrupted goes on where it was."""

    memory = "--evaluate.autoattack.batch_size and --evaluate.pgd.batch_size, which draw other random numbers"

    class Evaluate(Section):
        pgd: config.Pgd = config.Pgd()
        autoattack: config.AutoAttack = config.AutoAttack()

    weights: Path = Field(description="Weights to evaluate.")
    data: Prepared_
    attacks: tuple[Literal["pgd", "autoattack"], ...] = Field(
        ("pgd", "autoattack"), min_length=1, description="Attacks to run."
    )
    seed: Seed = 0
    attack: config.Attack = config.Attack()
    evaluate: Evaluate = Evaluate()
    device: Device = "auto"
    shard: Shard | None = Field(
        None, description="2/4: the second of four jobs that share the images; rift gather puts them together."
    )
    output: Path = Field(
        description="Results to write (.json), of a shard what it found (.safetensors); until then, OUTPUT.state is the state."
    )
    outcomes: Path | None = Field(None, description="Per-example outcomes to write (.npz), but of a shard.")

    @model_validator(mode="after")
    def _a_shard_has_no_outcomes(self) -> "EvaluateAdversarial":
        if (self.shard is None) != (self.outcomes is not None):
            raise ValueError(
                "--outcomes: " + ("is missing" if self.shard is None else "are written by rift gather, not by a shard")
            )
        return self

    def run(self) -> None:
        from rift.data import load
        from rift.data.source import sha256
        from rift.data.split import split_of
        from rift.evaluation.accuracy import finite

        shard = _shard(self.shard)
        device = _device(self.device)
        prepared = load(self.data, ("test",))
        model, _ = _model(self.weights, prepared, self.data, device)
        source = self.provenance(device)
        attacked = {"weights": sha256(self.weights), "data": sha256(self.data)}
        begun_with = {**source["settings"], "seed": self.seed, **attacked, "shard": "{}/{}".format(*shard)}
        file = self.output.with_name(f"{self.output.name}.state")
        with artifacts.locked(file.with_suffix(".lock")):
            with finite(model, str(self.weights)):
                fates = self._attack(model, split_of(prepared, "test", device), shard, file, begun_with)
            if self.outcomes is None:
                arrays = {name: found.cpu().numpy() for name, found in fates.items()}
                artifacts.write_arrays(self.output, arrays, source, attacked=attacked)
            else:
                _write_adversarial(self.output, self.outcomes, fates, source)
            file.unlink(missing_ok=True)

    def _attack(
        self, model: "nn.Module", test: "Split", shard: tuple[int, int], file: Path, begun_with: dict[str, Any]
    ) -> "dict[str, torch.Tensor]":
        """Do what is left of the attacks, and keep in a file how far they have come."""
        from rift.evaluation import accuracy, autoattack
        from rift.evaluation.blocks import Work

        kept: dict[str, Any] = _state(file, begun_with) if file.exists() else {}
        if kept:
            _say(f"going on after {', '.join('{} steps of {}'.format(kept[name]['done'], name) for name in kept)}")
        artifacts.remove_leftovers(file)
        pgd, auto = self.evaluate.pgd, self.evaluate.autoattack
        chosen: dict[str, tuple[Split, Callable[..., torch.Tensor]]] = {
            "pgd": (
                test.first(pgd.images, "evaluate.pgd.images"),
                partial(accuracy.attack, threat=self.attack, settings=pgd),
            ),
            "autoattack": (
                test.first(auto.images, "evaluate.autoattack.images"),
                partial(autoattack.attack, settings=auto, eps=self.attack.eps),
            ),
        }

        def keep(name: str, work: Work) -> None:
            kept[name] = {"fates": work.fates.cpu(), "done": work.done}
            artifacts.write_state(file, {"begun_with": begun_with, "run": kept})

        fates: dict[str, torch.Tensor] = {}
        for name in self.attacks:
            data, attack = chosen[name]
            before = Work(kept[name]["fates"].to(test.images.device), kept[name]["done"]) if name in kept else None
            with display(name) as progress:
                fates[name] = attack(
                    model,
                    data,
                    seed=self.seed,
                    shard=shard,
                    work=before,
                    keep=partial(keep, name),
                    progress=progress,
                )
        return fates


class Evaluate(Command):
    """Measure a model on test images."""

    standard: CliSubCommand[EvaluateStandard] = Field(description=EvaluateStandard.__doc__)
    ood: CliSubCommand[EvaluateOod] = Field(description=EvaluateOod.__doc__)
    adversarial: CliSubCommand[EvaluateAdversarial] = Field(description=EvaluateAdversarial.__doc__)

    def run(self) -> None:
        _start(self)


class Crosscheck(Command):
    """Run RobustBench's benchmark on the same images, and say whether it agrees with rift on them."""

    memory = "--batch_size"

    weights: Path = Field(description="Weights to evaluate.")
    data: Prepared_
    images: Annotated[int, Field(ge=1)] = Field(100, description="How many test images, counted from the first.")
    batch_size: Annotated[int, Field(ge=1)] = Field(250, description="Images attacked at once.")
    seed: Seed = 0
    attack: config.Attack = config.Attack()
    device: Device = "auto"
    output: Path = Field(description="Comparison to write (.json).")

    def run(self) -> None:
        from rift.data import load
        from rift.data.split import split_of
        from rift.evaluation import autoattack
        from rift.evaluation.accuracy import finite, percent
        from rift.evaluation.blocks import withstood
        from rift.evaluation.crosscheck import agree, robustbench_of

        device = _device(self.device)
        prepared = load(self.data, ("test",))
        model, _ = _model(self.weights, prepared, self.data, device)
        data = split_of(prepared, "test", device).first(self.images, "--images")
        settings = config.AutoAttack(batch_size=self.batch_size)
        eps = self.attack.eps
        with finite(model, str(self.weights)):
            with display("robustbench") as progress:
                theirs = robustbench_of(
                    model, data, eps=eps, seed=self.seed, batch_size=self.batch_size, progress=progress
                )
            with display("autoattack") as progress:
                fates = autoattack.attack(model, data, settings, eps=eps, seed=self.seed, progress=progress)
        names = autoattack.stages(settings)
        ours = withstood(fates, names)
        clean, robust = ours[autoattack.CLEAN], ours[names[-1]]
        agreed = agree(clean, robust, theirs)
        found: dict[str, Any] = {
            "images": len(data.labels),
            "eps": eps,
            "rift": {"clean_accuracy": percent(clean), "robust_accuracy": percent(robust)},
            "robustbench": {"clean_accuracy": theirs.clean_accuracy, "robust_accuracy": theirs.robust_accuracy},
            "differing": {
                "clean": int((clean != theirs.clean).sum()),
                "broken_by_rift_alone": int((theirs.robust & ~robust).sum()),
                "broken_by_robustbench_alone": int((robust & ~theirs.robust).sum()),
            },
            "agree": agreed,
        }
        artifacts.write_json(self.output, found, self.provenance(device))
        for name in ("rift", "robustbench"):
            accuracies = found[name]
            _say(
                f"{name}: accuracy {accuracies['clean_accuracy']:.2f}%, under AutoAttack {accuracies['robust_accuracy']:.2f}%"
            )
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found["differing"].items())
        _say(f"{'they agree' if agreed else 'THEY DO NOT AGREE'}; of {found['images']} images differ: {counts}")
        if not agreed:
            raise SystemExit(1)


class Table(Command):
    """Make a table from evaluated runs, in every format that an output's ending asks for."""

    name: CliPositionalArg[TableName] = Field(description=f"Table: {', '.join(get_args(TableName))}.")
    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: tuple[Path, ...] = Field(min_length=1, description="Files to write: .csv, .md, .tex, .html.")

    def run(self) -> None:
        from rift.reporting.formats import write_table
        from rift.reporting.tables import TABLES

        table = TABLES[self.name](self.results, self.grid)
        for path in self.output:
            write_table(table, path)


class Compare(Command):
    """Set what was measured beside the numbers that the RiFT paper prints."""

    results: Path = Field(description="Folder of the experiment (results/NAME).")
    output: tuple[Path, ...] = Field((), description="Files to write besides: .csv, .md, .tex, .html.")

    def run(self) -> None:
        from rift.reporting.formats import markdown, write_table
        from rift.reporting.tables.reference import compare

        table = compare(self.results)
        for path in self.output:
            write_table(table, path)
        print(markdown(table), end="")


class Figure(Command):
    """Draw a figure from the runs of one grid cell, in every format that an output's ending asks for."""

    name: CliPositionalArg[FigureName] = Field(description=f"Figure: {', '.join(get_args(FigureName))}.")
    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: tuple[Path, ...] = Field(min_length=1, description="Files to write: .png, .pdf.")

    def run(self) -> None:
        from rift.reporting.figures import draw, save_figure

        figure = draw(self.name, self.results, self.grid)
        for path in self.output:
            save_figure(figure, path)


class Overview(Command):
    """Write the first page of a report: what was run, what came out, the main table and the main figure."""

    results: Path = Field(description="Folder of the experiment (results/NAME).")
    grid: Grid
    output: Path = Field(description="Page to write (.html).")

    def run(self) -> None:
        from rift.reporting.overview import write_overview

        write_overview(self.results, self.grid, self.output)


class Doctor(Command):
    """Say what this machine and installation can do, and what to do about what is missing."""

    data: config.Data = config.Data()

    def run(self) -> None:
        from rift.doctor import examine

        if not examine(self.data.folder):
            raise SystemExit(1)


class Schema(Command):
    """Print the JSON schema of an experiment file, for editors."""

    def run(self) -> None:
        import json

        sys.stdout.write(json.dumps(config.schema(), indent=2) + "\n")


def _stage(command: type[Command], alias: str | None = None) -> Any:
    """List a command in the help with the summary that its own help begins with."""
    return Field(description=command.__doc__, alias=alias)


class Rift(BaseSettings):
    """Robust critical fine-tuning: more accuracy for adversarially trained classifiers, at no cost in robustness."""

    model_config = SettingsConfigDict(
        cli_prog_name="rift", cli_avoid_json=True, cli_implicit_flags=False, cli_hide_none_type=True
    )

    prepare: CliSubCommand[Prepare] = _stage(Prepare)
    corrupt: CliSubCommand[Corrupt] = _stage(Corrupt)
    train: CliSubCommand[Train] = _stage(Train)
    import_: CliSubCommand[Import] = _stage(Import, alias="import")
    export: CliSubCommand[Export] = _stage(Export)
    attack: CliSubCommand[Attack] = _stage(Attack)
    criticality: CliSubCommand[Criticality] = _stage(Criticality)
    gather: CliSubCommand[Gather] = _stage(Gather)
    finetune: CliSubCommand[Finetune] = _stage(Finetune)
    interpolate: CliSubCommand[Interpolate] = _stage(Interpolate)
    evaluate: CliSubCommand[Evaluate] = _stage(Evaluate)
    crosscheck: CliSubCommand[Crosscheck] = _stage(Crosscheck)
    table: CliSubCommand[Table] = _stage(Table)
    compare: CliSubCommand[Compare] = _stage(Compare)
    figure: CliSubCommand[Figure] = _stage(Figure)
    overview: CliSubCommand[Overview] = _stage(Overview)
    doctor: CliSubCommand[Doctor] = _stage(Doctor)
    schema_: CliSubCommand[Schema] = _stage(Schema, alias="schema")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags only: an environment variable that happens to be called TRAIN is not meant for us."""
        return (init_settings,)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _frame(records: "Sequence[DataclassInstance]") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([asdict(record) for record in records])


def _write_criticality(path: Path, records: "Sequence[ModuleCriticality]", source: artifacts.Provenance) -> None:
    """Write the criticality table, and say what it comes to."""
    artifacts.write_csv(path, _frame(records), source)
    by_rank = sorted(records, key=lambda record: record.rank)
    least, most = (f"{row.module} ({row.mrc:.3f} ± {row.mrc_error:.3f} nats)" for row in (by_rank[0], by_rank[-1]))
    tied = ", ".join(row.module for row in by_rank[1:] if row.tied)
    _say(f"least critical: {least}{f', not told from it: {tied}' if tied else ''}; most: {most}")


def _write_shard(path: Path, measured: "Measurement", order: list[str], source: artifacts.Provenance) -> None:
    arrays = {name: getattr(measured, name) for name in ("losses", "correct", "images", "rises", "kept")}
    artifacts.write_arrays(path, arrays, source, modules=measured.modules, order=order)


def _read_shard(path: Path) -> "tuple[Measurement, list[str], artifacts.Provenance]":
    """Read what a shard has measured, the modules of the whole network, and where it comes from."""
    from rift.criticality import Measurement

    names = ("losses", "correct", "images", "rises", "kept")
    arrays, facts = artifacts.read_arrays(path, names, ("modules", "order", "provenance"))
    modules = [(name, kind, parameters) for name, kind, parameters in facts["modules"]]
    return Measurement(modules, **arrays), facts["order"], facts["provenance"]


def _shard(text: str | None) -> tuple[int, int]:
    """Read 2/4: the second of four; the only one if there is no text.

    Raises:
        RiftError: there is no such shard.
    """
    number, count = map(int, (text or "1/1").split("/"))
    if number > count:
        raise RiftError(f"--shard {text}: there is no such shard")
    return number, count


def _write_adversarial(
    output: Path, outcomes: Path, fates: "dict[str, torch.Tensor]", source: artifacts.Provenance
) -> None:
    """Write results and outcomes of attacks, and say what they come to.

    Args:
        output: results to write.
        outcomes: per-example outcomes to write.
        fates: of every image, by kind of attack.
        source: whose settings are those of the attacks.
    """
    import json

    from rift.evaluation.autoattack import CLEAN, masks_gradients, stages
    from rift.evaluation.blocks import withstood

    source = json.loads(
        json.dumps(source, sort_keys=True)
    )  # in the order of a shard's file: equal results, equal bytes
    settings = source["settings"]
    threat, auto = settings["attack"], config.AutoAttack(**settings["evaluate"]["autoattack"])
    arrays: dict[str, artifacts.Array] = {}
    results: dict[str, dict[str, Any]] = {}
    for kind, found in fates.items():
        names = stages(auto) if kind == "autoattack" else ("pgd",)
        after = withstood(found, names)
        if kind == "pgd":
            results[kind] = {**threat, "restarts": settings["evaluate"]["pgd"]["restarts"]}
        else:
            arrays |= {f"autoattack_{name}": left.cpu().numpy() for name, left in after.items()}
            fallen = {name: int((found == place).sum()) for place, name in enumerate(names)}
            results[kind] = {
                "eps": threat["eps"],
                "version": auto.version,
                "accuracy_after": {name: 100 * after[name].double().mean().item() for name in auto.attacks},
                "misclassified": fallen.pop(CLEAN),
                "broken_by": fallen,
                "withstood": int((found == len(names)).sum()),
            }
            if masks_gradients(after):
                _say(
                    "warning: Square breaks more than 0.2% of the images after attacks that follow gradients: these may be"
                    " masked, and the accuracy too high"
                )
        arrays[kind] = after[names[-1]].cpu().numpy()
        results[kind] |= {"accuracy": 100 * arrays[kind].mean(), "images": len(arrays[kind])}
    artifacts.write_outcomes(outcomes, arrays, source)
    artifacts.write_json(output, results, source)
    for kind, result in results.items():
        _say(f"{kind}: accuracy {result['accuracy']:.2f}% on {result['images']} test images")


def _history(trained: "Trained") -> "pd.DataFrame":
    frame = _frame(trained.history).dropna(axis=1).assign(kept=[row.epoch == trained.kept for row in trained.history])
    if "averaged_standard_accuracy" in frame:
        frame["averaged_kept"] = frame["kept"] & bool(getattr(trained, "averaged", False))
    return frame


def _check_processes(processes: int, device: str) -> None:
    """Make sure that every process gets a GPU of its own, if they compute on GPUs.

    Raises:
        RiftError: there are fewer, or one was named.
    """
    import torch

    if device not in ("auto", "cuda", "cpu"):
        raise RiftError(f"--train.processes {processes}: each takes a GPU of its own: leave --device {device} away")
    there = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if there and processes > there:
        raise RiftError(f"--train.processes {processes}: there are {there} GPUs, and each process wants one")


def _state(file: Path, begun_with: dict[str, Any]) -> dict[str, Any]:
    """Read the state of an interrupted stage.

    Raises:
        RiftError: it cannot be read, or was begun with other settings.
    """
    content = artifacts.read_state(file, ("begun_with", "run"))
    before, now = (_leaves(settings) for settings in (content["begun_with"], begun_with))
    differing = [
        f"{key} (was {before.get(key)!r}, now {now.get(key)!r})"
        for key in dict.fromkeys((*before, *now))
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise RiftError(
            f"{file}: was begun with other settings: {', '.join(differing)}; set these back to go on, or delete it to begin"
            " anew"
        )
    state: dict[str, Any] = content["run"]
    return state


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: ``train.epochs`` and so on."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@contextmanager
def _tensorboard(folder: Path) -> "Iterator[Callable[[TrainingEpoch], None]]":
    """Log rows of a training history for TensorBoard.

    Raises:
        RiftError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RiftError("--train.tensorboard: wants TensorBoard: pip install 'rift[tensorboard]'") from error

    with SummaryWriter(folder / "tensorboard") as writer:

        def log(row: "TrainingEpoch") -> None:
            for name, value in asdict(row).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row.epoch)
            writer.flush()

        yield log


def _device(name: str) -> "torch.device":
    """Settle ``auto``, and make equal runs equal on whatever it is.

    Raises:
        RiftError: torch knows no such device, or this machine has none.
    """
    import torch

    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if chosen == "cuda":
        chosen = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"  # a GPU of its own for each of several processes
    if "LOCAL_WORLD_SIZE" in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        device = torch.device(chosen)
        torch.Generator(device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RiftError(f"--device {name}: cannot be used ({reason}); rift doctor lists what can") from error
    torch.backends.cudnn.deterministic = True
    # float32 means float32: a GPU would take 10 of its 23 bits for convolutions.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if os.environ.get("RANK", "0") == "0":
        _say(f"computing on {device}, {torch.get_num_threads()} threads")
    return device


def _model(weights: Path, prepared: "Prepared", data: Path, device: "torch.device") -> "tuple[nn.Module, ModelSpec]":
    """Load a model and make sure that it fits a prepared set.

    Raises:
        RiftError: it cannot be loaded, or is for other classes, channels or sizes than those of the set.
    """
    from rift.models import checkpoint

    model, spec = checkpoint.load(weights, device)
    theirs = _shape(len(prepared.classes), len(prepared.mean), prepared.size)
    ours = _shape(spec.classes, len(spec.mean), spec.size)
    if theirs != ours:
        raise RiftError(f"{weights}: is for {ours}, but {data} has {theirs}")
    return model, spec


def _shape(classes: int, channels: int, size: int) -> str:
    return f"{classes} classes and images of {channels}×{size}×{size}"


def _start(chosen_from: BaseModel) -> None:
    """Run the subcommand that was named."""
    command = cast("Command", get_subcommand(chosen_from, cli_exit_on_error=False))
    command.check_outputs()
    artifacts.commit()
    try:
        command.run()
    except (MemoryError, RuntimeError) as error:
        # Told by what it says: torch, whose class it is, may not have been imported.
        if not isinstance(error, MemoryError) and not re.search(r"out of memory|can't allocate memory", str(error)):
            raise
        raise RiftError(f"out of memory; lower {command.memory}") from error


def main() -> None:
    """Run the command line; exit with 2 for wrong flags, 1 for what else the user can mend."""
    try:
        _start(CliApp.run(Rift, cli_args=sys.argv[1:] or ["--help"]))
    except ValidationError as error:
        words = error.errors()[0]["loc"][: 2 if "evaluate" in sys.argv[1:2] else 1]
        message = config.describe(error, f"rift {' '.join(map(str, words))}", "--", len(words))
        print(message.replace("--name:", "NAME:"), file=sys.stderr)
        raise SystemExit(2) from error
    except SettingsError as error:
        print(f"rift: {error}; see --help", file=sys.stderr)
        raise SystemExit(2) from error
    except RiftError as error:
        print(f"rift: error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None

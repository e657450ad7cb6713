"""Fine-tuning and interpolation: ``rift finetune`` and ``rift interpolate``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.artifacts.resume import resumable
from rift.commands.command import (
    Command,
    Device,
    PreparedSet,
    Seed,
    following_recipe,
    following_target,
    frame,
    history,
    opened_device,
    opened_model,
    refuse_sections,
    say,
)
from rift.commands.roles import CsvOutput, Input, JsonOutput, SafetensorsOutput
from rift.commands.training import say_where_it_continues
from rift.config import MethodName, NamedScope, RegimeName, Scope
from rift.errors import RiftError
from rift.progress import display

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rift.criticality.rows import Table
    from rift.data.images import Images
    from rift.interpolation import Selection
    from rift.models.checkpoint import ModelSpec

OPTIONAL = (
    "regime",
    "method",
    "continuation",
    "mixed",
    "attack",
    "transfer",
    *(name for name in config.RegimeSettings.model_fields if name != "augment"),
)
"""Fields of ``rift finetune`` that only some scopes read."""

SPEED = ["images_per_second", "seconds"]


def _read_by(scope: str, regime: str, method: str | None) -> tuple[str, ...]:
    """Return the fields in ``OPTIONAL`` that a scope reads for a base of a regime or method."""
    read = config.sections_of_scope(scope, transfer=method is not None)
    if "regime" not in read:
        return read
    if method is not None:
        own = config.SECTIONS_OF_METHODS.get(cast("MethodName", method), ())
        return (*("method" if name == "regime" else name for name in read), *own)
    if regime not in get_args(RegimeName):
        return read
    return (*read, *config.recipe_of(cast("RegimeName", regime)).sections)


def _read_with(given: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields in ``OPTIONAL`` that are read with the given fields of a command."""
    return _read_by(given.get("scope", ""), given.get("regime", "pgd"), given.get("method"))


def _owner(given: dict[str, Any]) -> str:
    """Return what a setting does not belong to: the scope, and its training if that matters."""
    scope, read = given.get("scope", ""), _read_with(given)
    if "method" in read:
        return f"scope {scope}, method {given['method']}"
    return f"scope {scope}" + (f", regime {given.get('regime', 'pgd')}" if "regime" in read else "")


class Finetune(Command):
    """Train one scope of the base, usually on clean images; an interrupted job continues."""

    stage = "finetune"
    adoptable = True
    memory = "--finetune.batch_size"

    base: Input[Path] = Field(description="Weights of the base.")
    criticality: Input[Path] = Field(
        description="Criticality table of the base (rift criticality)."
    )
    data: PreparedSet
    scope: Scope = Field(
        description=f"Scope to fine-tune: {', '.join(get_args(NamedScope))}, or module-NAME."
    )
    seed: Seed = 0
    finetune: config.Finetune = config.Finetune()
    augment: config.Augment = config.Augment()
    regime: RegimeName = Field(
        "pgd",
        description="Training regime of the base, for the scopes more-training and mixed-training.",
    )
    method: MethodName | None = Field(
        None,
        description="Method of the transfer that made the base, instead of a regime, for the"
        " scopes more-training and mixed-training.",
    )
    continuation: config.Continuation = config.Continuation()
    mixed: config.Mixed = config.Mixed()
    train: config.Train = config.Train()
    transfer: config.Transfer = config.Transfer()
    attack: config.Attack = config.Attack()
    inner: config.Inner = config.Inner()
    trades: config.Trades = config.Trades()
    mart: config.Mart = config.Mart()
    score: config.Score = config.Score()
    awp: config.Awp = config.Awp()
    device: Device = "auto"
    output: SafetensorsOutput[Path] = Field(
        description="Output: weights (.safetensors). While the job runs, OUTPUT.state contains its"
        " state."
    )
    history: CsvOutput[Path] = Field(
        description="Output: fine-tuning history (.csv), one row per epoch."
    )

    @model_validator(mode="before")
    @classmethod
    def _settings_are_of_the_scope(cls, given: dict[str, Any]) -> dict[str, Any]:
        read = _read_with(given)
        refuse_sections(given, (name for name in OPTIONAL if name not in read), _owner(given))
        if "method" in read:
            config.check_continuation(given["method"], given["scope"])
            return following_target(given)
        return following_recipe(given) if "regime" in read else given

    @model_validator(mode="after")
    def _attack_fits(self) -> "Finetune":
        config.check_inner(self.inner, self.attack)
        return self

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return all settings that affect the result, without those of other scopes."""
        read = _read_by(self.scope, self.regime, self.method)
        settings = super().settings_for_provenance()
        return {
            name: value for name, value in settings.items() if name in read or name not in OPTIONAL
        }

    def run(self) -> None:
        from rift.criticality import WHOLE_NETWORK, train_scope
        from rift.data import load
        from rift.finetuning import Tuning, clean_gradient
        from rift.models import checkpoint

        device = opened_device(self.device)
        prepared = load(self.data, ("train", "validation"))
        model, spec = opened_model(self.base, prepared, self.data, device)
        train = prepared.split("train", device).first(*self._number_of_images())
        modules = self._modules(model, train)
        validation = prepared.split("validation", device)
        source = self.provenance(device)
        # For the table module-choice: what was known of the scope before.
        steepness = clean_gradient(model, modules, train) if modules else 0.0
        with resumable(self.output, self.begun_with(source), tell=say) as work:
            say_where_it_continues(work)
            with display("finetune") as progress:
                tuning = Tuning(
                    train,
                    validation,
                    self._settings(),
                    regime=self.regime,
                    method=self.method,
                    seed=self.seed,
                    work=work,
                    progress=progress,
                )
                finetuned = train_scope(self.scope, model, modules, tuning)
            # Equal runs give equal files, so the speed of a regime's training is omitted.
            rows = history(finetuned).drop(columns=SPEED, errors="ignore")
            facts = {"modules": modules, "clean_gradient": steepness}
            # Tables need these facts where weights are not kept.
            artifacts.write_csv(self.history, rows, {**source, **facts})
            checkpoint.save(self.output, finetuned.state, spec, source, **facts)
        names = ("the whole network" if name == WHOLE_NETWORK else name for name in modules)
        say(f"{', '.join(names) or 'no weight'}: epoch {finetuned.kept} kept")

    def _number_of_images(self) -> tuple[config.ImageCount, str]:
        """Return the number of training images, and the setting that gives it."""
        for name in config.sections_of_scope(self.scope):
            own = getattr(self, name)
            if isinstance(own, config.Continuation) and own.images is not None:
                return own.images, f"{name}.images"
        return self.finetune.images, "finetune.images"

    def _settings(self) -> config.RunSettings:
        """Return the sections that training of a scope may read."""
        names = (name for name in OPTIONAL if name in config.RunSettings.model_fields)
        sections = ("finetune", "augment", *names)
        return config.RunSettings(**{name: getattr(self, name) for name in sections})

    def _modules(self, model: "nn.Module", images: "Images") -> list[str]:
        """Return the names of the modules in the scope.

        Raises:
            RiftError: the criticality table cannot be read, or is not the table of the base.
        """
        from rift.criticality import measurable_modules, modules_of
        from rift.criticality.modules import PROBED_AGAIN

        columns = ("module", "kind", "parameters", "mrc", "rank")
        table = artifacts.read_csv(self.criticality, columns)
        modules = measurable_modules(model, images.up_to(PROBED_AGAIN).floats())
        if list(table["module"]) != list(modules.names):
            raise RiftError(
                f"{self.criticality}: is not the table of {self.base}; run rift criticality on it"
            )
        if "settled" not in table:  # a table of an earlier version; it knew no race
            table["settled"] = True
        rows = cast("Table", list(table.itertuples(index=False)))
        return modules_of(self.scope, rows, self.finetune)


class Interpolate(Command):
    """Select the most accurate mix of base and fine-tuned weights that is as robust as the base."""

    stage = "interpolate"

    base: Input[Path] = Field(description="Weights of the base.")
    finetuned: Input[Path] = Field(description="Fine-tuned weights (rift finetune).")
    earned: Input[Path | None] = Field(
        None,
        description="Weights that the fine-tuning started from, if that was not the base: the sweep"
        " then has two directions.",
    )
    data: PreparedSet
    seed: Seed = 0
    interpolate: config.Interpolate = config.Interpolate()
    spend: config.Spend = config.Spend()
    attack: config.Attack = config.Attack()
    device: Device = "auto"
    sweep: CsvOutput[Path] = Field(
        description="Output: the sweep (.csv), one row per value of alpha."
    )
    output: SafetensorsOutput[Path] = Field(
        description="Output: the selected weights (.safetensors)."
    )
    choice: JsonOutput[Path] = Field(description="Output: the selection (.json).")

    @model_validator(mode="before")
    @classmethod
    def _spend_needs_earned_weights(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("earned") is None:
            refuse_sections(given, ("spend",), "a sweep without --earned")
        return given

    def settings_for_provenance(self) -> dict[str, Any]:
        """Return all settings that affect the result."""
        settings = super().settings_for_provenance()
        if self.earned is None:
            del settings["spend"]
        return settings

    def run(self) -> None:
        from rift.data import load
        from rift.interpolation import choose, sweep
        from rift.models.state import snapshot

        device = opened_device(self.device)
        split = self.interpolate.selection
        prepared = load(self.data, (split,))
        model, spec = opened_model(self.base, prepared, self.data, device)
        base, finetuned = snapshot(model), self._fitting(self.finetuned, spec, device)
        earned = None if self.earned is None else self._fitting(self.earned, spec, device)
        images = prepared.split(split, device).first(self.interpolate.images, "interpolate.images")
        with display("interpolate") as progress:
            points = sweep(
                model,
                base,
                finetuned,
                images,
                settings=self.interpolate,
                attack=self.attack,
                seed=self.seed,
                earned=earned,
                gammas=self.spend.gammas,
                progress=progress,
            )
        found = choose(
            points,
            base,
            finetuned,
            tolerance=self.interpolate.tolerance,
            confidence=self.interpolate.confidence,
            earned=earned,
        )
        source = self.provenance(device)
        artifacts.write_csv(self.sweep, frame(points).dropna(axis=1), source)
        self._write_selection(found, self._facts(found, len(images), device.type), spec, source)

    def _fitting(
        self, path: Path, spec: "ModelSpec", device: "torch.device"
    ) -> "dict[str, Tensor]":
        """Return weights that fit the base.

        Raises:
            RiftError: they cannot be loaded, or belong to another network.
        """
        from rift.models import checkpoint
        from rift.models.state import snapshot

        model, own = checkpoint.load(path, device)
        if own != spec:
            raise RiftError(
                f"{path}: is a {own.architecture} that does not fit {self.base}; pass weights that"
                " were fine-tuned from this base"
            )
        return snapshot(model)

    def _write_selection(
        self,
        found: "Selection",
        facts: dict[str, Any],
        spec: "ModelSpec",
        source: artifacts.Provenance,
    ) -> None:
        """Write the selected weights and the facts of the selection, and print its gain."""
        from rift.models import checkpoint

        artifacts.write_json(self.choice, facts, source)
        checkpoint.save(self.output, found.state, spec, source)
        gain = found.selected.standard_accuracy - found.base.standard_accuracy
        gamma = found.selected.gamma
        say(
            f"{'' if gamma is None else f'gamma {gamma:g}, '}alpha {found.selected.alpha:g}"
            f" selected: accuracy {gain:+.2f} points on the {self.interpolate.selection} split"
        )

    def _facts(self, found: "Selection", images: int, device: str) -> dict[str, Any]:
        """Return the facts of the selection, as JSON values."""
        import torch

        from rift.device import resolve_precision

        def accuracies(point: object) -> dict[str, float]:
            values = asdict(cast("Any", point))
            return {name: values[name] for name in ("standard_accuracy", "adversarial_accuracy")}

        settings = self.interpolate
        gamma = found.selected.gamma
        return {
            "alpha": found.selected.alpha,
            **({} if gamma is None else {"gamma": gamma}),
            "selection": settings.selection,
            "images": images,
            "tolerance": settings.tolerance,
            **({} if settings.confidence is None else {"confidence": settings.confidence}),
            "restarts": settings.restarts,
            "precision": resolve_precision(settings.precision, torch.device(device)),
            "base": accuracies(found.base),
            "selected": accuracies(found.selected),
        }

"""Settings of an experiment: one strict schema for every YAML file and for every command's flags.

An experiment file holds the sections below; a command takes the sections it depends on as flags of the same name
(``train: {epochs: 110}`` in YAML is ``--train.epochs 110`` on the command line). This module does not import torch: the
Snakefile reads it at every parse.

Images are in [0, 1]; every ``eps`` and ``step`` is a pixel distance in that range, and may be written as a fraction
(``8/255``). Names that can be chosen are ``Literal`` types here, so that a file is checked and an editor completes them
without importing what they name; the dicts of functions that they index are typed by them, and a test keeps both equal.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from rift.errors import RiftError

DatasetName = Literal["digits", "cifar10", "cifar100", "tiny-imagenet"]
ArchitectureName = Literal[
    "resnet8",
    "resnet18-w16",
    "resnet18-w32",
    "resnet18",
    "resnet34",
    "preact-resnet18",
    "wrn-28-10",
    "wrn-34-10",
    "vit-small",
]
RegimeName = Literal["standard", "pgd", "trades", "mart", "awp", "trades-awp", "score"]
MethodName = Literal["pga", "published", "gradient"]
InnerName = Literal["pgd", "fgsm-rs", "n-fgsm"]
ProtocolName = Literal["paper"]
ScheduleName = Literal["step", "cosine", "one-cycle"]
NamedScope = Literal["rift", "robust-critical", "all-layers", "last-layer", "top2", "top3", "top5"]
CorruptionName = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
]
CorruptionListName = Literal["rift", "robustbench"]
AutoAttackName = Literal["apgd-ce", "apgd-t", "fab-t", "square"]
TableName = Literal["main", "regimes", "module-ablation", "top-k", "corruptions", "criticality", "cost"]
FigureName = Literal["interpolation", "criticality", "corruptions", "pareto", "training", "contact-sheet"]
DATASET_FIGURES: tuple[FigureName, ...] = ("contact-sheet",)

# The usual fifteen, and what RiFT's code averages: of these all but glass_blur, and the four extra ones.
_FIFTEEN: tuple[CorruptionName, ...] = get_args(CorruptionName)[:15]
_EXTRA: tuple[CorruptionName, ...] = get_args(CorruptionName)[15:]
CORRUPTION_LISTS: dict[CorruptionListName, tuple[CorruptionName, ...]] = {
    "rift": (*(name for name in _FIFTEEN if name != "glass_blur"), *_EXTRA),
    "robustbench": _FIFTEEN,
}

ROBUSTBENCH = "robustbench:"
SETTINGS_OF_METHODS: dict[MethodName, tuple[str, ...]] = {
    "pga": ("passes", "steps", "restarts", "trial_images"),
    "published": ("epochs", "learning_rate", "stop_at_boundary"),
}
# Settings that change no result: not part of its provenance, and no reason to compute it again.
NO_RESULT = frozenset({"root", "processes", "save_minutes", "tensorboard", "cache_mib", "shards"})

TIMM = "timm:"
TIMM_NETWORK = rf"^{TIMM}[A-Za-z0-9_.]+$"
TimmArchitecture = Annotated[str, StringConstraints(pattern=TIMM_NETWORK)]
Architecture = ArchitectureName | TimmArchitecture

MODULE_SCOPE = r"^module-[A-Za-z0-9_.]+$"
ModuleScope = Annotated[str, StringConstraints(pattern=MODULE_SCOPE)]
Scope = NamedScope | ModuleScope
Variant = Literal["base"] | Scope

# What else may stand where a name is chosen, by its pattern.
_OPEN_NAMES = {
    TIMM_NETWORK: f"{TIMM}NAME for a network of timm",
    MODULE_SCOPE: "module-NAME for a module of the network",
}


T = TypeVar("T")


def _number(value: object) -> object:
    """Read ``8/255`` and ``1e-3``, which YAML hands over as text."""
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")) if "/" in value else value)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError(f"{value!r} is neither a number nor a fraction such as 8/255") from None
    return value


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"named more than once: {', '.join(repeated)}")
    return values


def _is_list_name(value: object) -> bool:
    """Tell text from a list. A flag's value is always a list: if it is the name of one and nothing else, it counts as text."""
    return isinstance(value, str) or value in [[name] for name in CORRUPTION_LISTS]


def _list_name(value: str | list[str]) -> str:
    name = value[0] if isinstance(value, list) else value
    if name not in CORRUPTION_LISTS:
        raise ValueError(f"must be a list of corruptions, or the name of one: {' or '.join(CORRUPTION_LISTS)}")
    return name


def _alphas(values: tuple[float, ...]) -> tuple[float, ...]:
    if 0.0 not in values:
        raise ValueError("must contain 0, the base itself: it is what every other point is compared with")
    if list(values) != sorted(set(values)):
        raise ValueError("must rise strictly")
    return values


def _in_their_order(names: tuple["AutoAttackName", ...]) -> tuple["AutoAttackName", ...]:
    return tuple(name for name in get_args(AutoAttackName) if name in names)


def _part(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= limits[0] <= limits[1] <= 1:
        raise ValueError("must be two numbers between 0 (the first module) and 1 (the last) that do not fall")
    return limits


def _rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("must rise strictly")
    return values


Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float | str)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Images = Annotated[int, Field(ge=1)] | Literal["all"]
Epsilon = Annotated[Number, Field(gt=0, le=1)]
Share = Annotated[Number, Field(gt=0, lt=0.5)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Severity = Annotated[int, Field(ge=1, le=5)]
Precision = Literal["auto", "float32", "bfloat16"]
Names = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_distinct)]
Corruptions = Annotated[
    Annotated[CorruptionListName, BeforeValidator(_list_name), Tag("list-name")]
    | Annotated[Names[CorruptionName], Tag("names")],
    Discriminator(lambda value: "list-name" if _is_list_name(value) else "names"),
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def data_root(given: str | Path | None) -> Path:
    """Settle where data sets lie: as given, else ``$RIFT_DATA``, else ``data``."""
    return Path(given or os.environ.get("RIFT_DATA") or "data")


class Data(Section):
    """Where data sets lie, and how the prepared set is cut."""

    root: str | None = Field(
        None, description="Folder of the data sets on disk; if not given, $RIFT_DATA, else data. Digits do not need it."
    )
    validation: Share = Field(0.1, description="Share of the training images cut off as the selection split.")
    cut: Literal["stratified", "last"] = Field(
        "stratified",
        description="stratified: drawn at random from every class; last: the last training images, for imported bases that"
        " were trained on those before.",
    )
    test: Share = Field(0.2, description="Share cut off as test images where a data set has no official test split.")
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
    images: Images = Field("all", description="How many test images are corrupted, counted from the first.")
    seed: Seed = Field(0, description="Seed of the noise.")


class Attack(Section):
    """Threat model (Linf) and the PGD attack used for training, selection and evaluation."""

    eps: Epsilon = Field(8 / 255, description="Radius of the Linf ball.")
    step: Epsilon = Field(2 / 255, description="Length of a PGD step.")
    steps: Count = Field(10, description="Number of PGD steps.")


class Augment(Section):
    """Augmentation of training and fine-tuning images."""

    crop: int = Field(4, ge=0, description="Random crop: largest shift in pixels; what it uncovers is reflected.")
    flip: bool = Field(True, description="Flip half of the images left to right.")


class Train(Section):
    """Adversarial training (Pang et al. 2021)."""

    epochs: Count = Field(110, description="Passes over the training split.")
    batch_size: Count = Field(128, description="Images a step, of all processes together.")
    learning_rate: Positive = Field(0.1, description="Learning rate of SGD: the first, or the highest of one-cycle.")
    schedule: ScheduleName = Field(
        "step",
        description="step: divided by 10 at the milestones; cosine: down to 0; one-cycle: up from 0 and down again.",
    )
    milestones: tuple[Count, ...] = Field((100, 105), description="Epochs after which step divides by 10.")
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of SGD.")
    weight_decay: NotNegative = Field(5e-4, description="L2 penalty of SGD.")
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of every label that is spread over all classes."
    )
    averaging: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="Decay of a moving average of the weights, evaluated beside them, such as 0.999; 0 for none."
    )
    init: str | None = Field(
        None,
        description="Weights to begin with: a file (.safetensors, .pth, .pt) or robustbench:NAME; random if not given.",
    )
    init_normalization: Literal["dataset", "none"] | None = Field(
        None, description="What images go through before the network of init, where the file does not hold it."
    )
    precision: Precision = Field(
        "auto", description="Arithmetic of training; auto is bfloat16 on a GPU that has it, else float32."
    )
    keep: Literal["most-robust", "most-accurate-of-equals"] = Field(
        "most-robust",
        description="Which checkpoint is kept, by the selection split: most-robust: the one of best PGD accuracy;"
        " most-accurate-of-equals: the most accurate of those that a paired test cannot tell from the most robust one.",
    )
    keep_level: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.05, description="Level of that test (McNemar, exact, two-sided)."
    )
    measure_images: Images = Field(
        "all", description="Images of the selection split, counted from the first, that every epoch is measured on."
    )
    measure_precision: Precision = Field(
        "float32", description="Precision of that measurement; auto is bfloat16 on a GPU that has it, else float32."
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether torch.compile translates the network; auto: on a GPU."
    )
    accumulate: Count = Field(
        1, description="Parts that a batch is computed in: more take less memory. Batch norm sees a part at a time."
    )
    processes: Count = Field(
        1, description="Processes that share every batch, one a GPU. Batch norm sees the whole batch on GPUs only."
    )
    save_minutes: Positive = Field(
        10.0, description="Minutes after which the state is saved within an epoch, besides at the end of each."
    )
    tensorboard: bool = Field(False, description="Log to a folder tensorboard beside the weights.")

    @model_validator(mode="after")
    def _parts_are_no_single_images(self) -> "Train":
        parts = self.accumulate * self.processes
        if parts > 1 and self.batch_size < 2 * parts:
            raise ValueError(
                f"batch_size: {self.batch_size} images in {parts} parts (accumulate × processes) are fewer than 2 each, which"
                " batch norm cannot do with"
            )
        return self


class Inner(Section):
    """The attack that training images go through; what is not given is that of ``attack``."""

    method: InnerName = Field(
        "pgd",
        description="pgd; or in one step: fgsm-rs (Wong et al. 2020), n-fgsm (de Jorge et al. 2022, noise of twice eps).",
    )
    start: Literal["uniform", "normal"] = Field(
        "uniform",
        description="Where pgd begins: uniform in the ball, or normal: 0.001·N(0, 1) beside the image (TRADES).",
    )
    eps: Epsilon | None = Field(None, description="Radius of the Linf ball.")
    step: Epsilon | None = Field(
        None, description="Length of a step; if not given, of fgsm-rs 1.25 times eps, of n-fgsm eps."
    )
    steps: Count | None = Field(None, description="Number of steps of pgd.")


class Trades(Section):
    """TRADES (Zhang et al. 2019)."""

    beta: NotNegative = Field(6.0, description="Weight of the divergence between clean and adversarial predictions.")


class Mart(Section):
    """MART (Wang et al. 2020)."""

    beta: NotNegative = Field(5.0, description="Weight of the divergence, which counts more where the model is unsure.")


class Score(Section):
    """SCORE (Pang et al. 2022)."""

    beta: NotNegative = Field(
        6.0, description="Weight of the squared distance between clean and adversarial predictions."
    )


class Awp(Section):
    """Adversarial weight perturbation (Wu et al. 2020)."""

    gamma: Positive = Field(0.01, description="Size of the perturbation, relative to the norm of each weight.")
    warmup: Annotated[int, Field(ge=0)] = Field(0, description="Epochs before weights are perturbed.")


class Criticality(Section):
    """Module robust criticality (Zhu et al. 2023, Definition 3.1): how the largest robust loss in the ball is searched for."""

    method: MethodName = Field(
        "pga",
        description="pga (projected gradient ascent), published (the official code's search) or gradient (to first order).",
    )
    epsilon: Positive = Field(0.1, description="Radius of the weight ball, relative to the norm of the weight.")
    norm: Literal["l2", "linf"] = Field("l2", description="Norm of the weight ball; linf: of its largest entry.")
    passes: Annotated[int, Field(ge=2)] = Field(
        3, description="Passes of pga over the images; the last is one step along the gradient of all."
    )
    steps: Count = Field(16, description="Steps that pga takes in each of its other passes.")
    restarts: Annotated[int, Field(ge=0)] = Field(
        10,
        description="Starts of pga that are tried besides the ball's centre: towards one class each, then random ones.",
    )
    trial_images: Count = Field(32, description="Images that starts are tried on; the best one is searched from.")
    epochs: Count = Field(10, description="Passes of the published search; the weight is projected after each.")
    learning_rate: Positive = Field(1.0, description="Step length of the published search.")
    stop_at_boundary: bool = Field(
        False, description="End the published search when it first leaves the ball, as the paper's Algorithm 1 has it."
    )
    batch_size: Count = Field(
        512, description="Images a step of the published search; images at once, at most, of the others."
    )
    precision: Precision = Field(
        "float32", description="Arithmetic of the ascent; auto is bfloat16 on a GPU that has it, else float32."
    )
    split: Literal["train", "validation", "test"] = Field("train", description="Split that the images come from.")
    images: Images = Field("all", description="How many of its images, counted from the first.")
    cache_mib: Annotated[int, Field(ge=0)] = Field(
        2048,
        description="Memory for activations before the module measured; batches that do not fit compute them anew.",
    )
    shards: Count = Field(1, description="Jobs that the modules are divided among.")

    @model_validator(mode="after")
    def _every_setting_is_of_the_method(self) -> "Criticality":
        for method, names in SETTINGS_OF_METHODS.items():
            changed = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if changed and method != self.method:
                raise ValueError(
                    f"{changed[0]}: is a setting of the method {method}, but the method is {self.method}; leave it away or set"
                    f" method: {method}"
                )
        if self.method == "published" and self.norm != "l2":
            raise ValueError(f"norm: the method published knows l2 alone; for {self.norm} take pga or gradient")
        return self


class Finetune(Section):
    """Clean fine-tuning of one scope."""

    epochs: Count = Field(10, description="Passes; the learning rate is divided by 10 halfway.")
    batch_size: Count = Field(128, description="Images a step.")
    learning_rate: Positive = Field(1e-3, description="First learning rate of SGD.")
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of SGD.")
    weight_decay: NotNegative = Field(5e-4, description="L2 penalty of SGD.")
    batch_norm: Literal["train", "frozen"] = Field(
        "train", description="train: running statistics of the whole network move, as published; frozen: they stay."
    )
    precision: Precision = Field(
        "float32", description="Arithmetic of fine-tuning; auto is bfloat16 on a GPU that has it, else float32."
    )
    images: Images = Field("all", description="How many training images are used, counted from the first.")
    least_share: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0, description="Share of the network's measured weights that a module must have to be chosen as least critical."
    )
    part: Annotated[tuple[Number, Number], AfterValidator(_part)] = Field(
        (0, 1),
        description="Part of the network that the least critical modules are chosen from; its middle: [0.25, 0.75].",
    )


class Interpolate(Section):
    """Sweep from the base to the fine-tuned weights, and the choice of a point on it."""

    alphas: Annotated[
        tuple[Annotated[Number, Field(ge=0, le=1)], ...], Field(min_length=1), AfterValidator(_alphas)
    ] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        description="Points of the sweep: 0 is the base, 1 the fine-tuned weights.",
    )
    tolerance: NotNegative = Field(0.1, description="Adversarial accuracy that may be lost, in percentage points.")
    restarts: Count = Field(3, description="Random starts of PGD; an image counts if it withstands all.")
    precision: Precision = Field(
        "float32", description="Arithmetic of PGD; auto is bfloat16 on a GPU that has it, else float32."
    )
    selection: Literal["validation", "test"] = Field(
        "validation", description="Split that decides; test repeats the paper's protocol, and tables say so."
    )
    images: Images = Field("all", description="How many of its images, counted from the first.")


class Standard(Section):
    """Accuracy on clean test images."""

    images: Images = Field("all", description="How many test images, counted from the first.")


class Ood(Section):
    """Accuracy on corrupted test images."""

    corruptions: Corruptions = Field(
        "rift",
        description="Corruptions that are averaged: a list, or rift (18) or robustbench (15).",
    )
    severities: Annotated[tuple[Severity, ...], Field(min_length=1), AfterValidator(_rising)] = Field(
        (1, 2, 3, 4, 5), description="Severities that are averaged, of 1 to 5."
    )
    images: Images = Field("all", description="How many test images of each, counted from the first.")

    @property
    def names(self) -> tuple[CorruptionName, ...]:
        """The corruptions, whichever way they were given."""
        return CORRUPTION_LISTS[self.corruptions] if isinstance(self.corruptions, str) else self.corruptions


class Pgd(Section):
    """PGD evaluation with the attack of the threat model."""

    images: Images = Field("all", description="How many test images, counted from the first.")
    restarts: Count = Field(3, description="Random starts; an image counts if it withstands all.")
    batch_size: Count = Field(
        500, description="Images attacked at once, from random starts of their own: another number means other ones."
    )


class AutoAttack(Section):
    """AutoAttack (Croce and Hein 2020)."""

    images: Images = Field("all", description="How many test images, counted from the first.")
    attacks: Annotated[Names[AutoAttackName], AfterValidator(_in_their_order)] = Field(
        get_args(AutoAttackName),
        description="Attacks; all four are AutoAttack's standard version, fewer an upper bound of its accuracy.",
    )
    batch_size: Count = Field(
        250, description="Images attacked at once, with random numbers of their own: another number means other ones."
    )

    @property
    def version(self) -> str:
        """What this is called: standard, or custom with the names of its attacks."""
        return "standard" if self.attacks == get_args(AutoAttackName) else f"custom ({', '.join(self.attacks)})"


class Adversarial(Section):
    """How the evaluation under attack is divided."""

    shards: Count = Field(1, description="Jobs that share the test images, whole batches of them.")


class Evaluate(Section):
    """What is measured on test images."""

    standard: Standard = Standard()
    ood: Ood = Ood()
    adversarial: Adversarial = Adversarial()
    pgd: Pgd = Pgd()
    autoattack: AutoAttack = AutoAttack()


class TrainingSettings(Section):
    """The sections that training alone depends on, and augmentation."""

    augment: Augment = Augment()
    train: Train = Train()
    inner: Inner = Inner()
    trades: Trades = Trades()
    mart: Mart = Mart()
    score: Score = Score()
    awp: Awp = Awp()


class RunSettings(TrainingSettings):
    """The sections that the stages of a run depend on."""

    attack: Attack = Attack()
    criticality: Criticality = Criticality()
    finetune: Finetune = Finetune()
    interpolate: Interpolate = Interpolate()
    evaluate: Evaluate = Evaluate()


class Settings(RunSettings):
    """The sections that stages depend on, for one data set, architecture and regime."""

    data: Data = Data()
    corrupt: Corrupt = Corrupt()

    def section(self, path: str) -> Section:
        """Return the section at a dotted path such as ``evaluate.pgd``."""
        found: Section = self
        for key in path.split("."):
            found = getattr(found, key)
        return found


class Grid(Section):
    """What is run: every combination of data set, architecture, regime and seed, each with every scope."""

    datasets: Names[DatasetName] = Field(description="Data sets.")
    architectures: Names[Architecture] = Field(description="Architectures.")
    regimes: Names[RegimeName] = Field(("pgd",), description="Training regimes of the base.")
    seeds: Names[Seed] = Field((0, 1, 2), description="Seeds; each is a run of its own.")
    scopes: Names[Scope] = Field(("rift",), description="What is fine-tuned.")
    autoattack: Annotated[tuple[Variant, ...], AfterValidator(_distinct)] = Field(
        ("base", "rift"), description="Variants (base or a scope) that AutoAttack is run on, besides PGD."
    )

    @model_validator(mode="after")
    def _autoattack_is_run_on_variants(self) -> "Grid":
        foreign = [variant for variant in self.autoattack if variant not in self.variants]
        if foreign:
            raise ValueError(f"autoattack names {', '.join(foreign)}, which is not among the scopes")
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        return ("base", *self.scopes)

    def only(self, **cell: str) -> "Grid":
        """Leave of the grid what belongs to a cell: ``dataset``, ``architecture``, ``regime``, or some of them."""
        return self.model_copy(update={f"{kind}s": (name,) for kind, name in cell.items()})


class Base(Section):
    """Where the bases of some runs come from; a key that is not given stands for every value."""

    dataset: DatasetName | None = Field(None, description="Data set of these runs.")
    architecture: Architecture | None = Field(None, description="Architecture of these runs.")
    regime: RegimeName | None = Field(None, description="Training regime of these runs.")
    seed: Seed | None = Field(None, description="Seed of these runs.")
    weights: str = Field(
        min_length=1, description="train, or a file (.pth, .pt, .safetensors), or robustbench:NAME of its model zoo."
    )
    normalization: Literal["dataset", "none"] | None = Field(
        None,
        description="What images go through before the network, where the file does not hold it: dataset (its mean and"
        " standard deviation) or none (it wants [0, 1]).",
    )
    key: str | None = Field(None, description="What the weights stand under in the file, if it holds several.")

    @model_validator(mode="after")
    def _says_nothing_in_vain(self) -> "Base":
        if self.weights == "train" and (self.normalization or self.key):
            raise ValueError("normalization and key are for imported weights, not for train")
        if self.weights.startswith(ROBUSTBENCH) and (self.normalization or self.key):
            raise ValueError("RobustBench's networks bring their normalisation: leave normalization and key away")
        return self

    def holds_for(self, **run: object) -> bool:
        return all(getattr(self, key) in (None, value) for key, value in run.items())

    @property
    def files(self) -> list[str]:
        """What must be there before the import."""
        return [] if self.weights.startswith(ROBUSTBENCH) else [self.weights]

    @property
    def flags(self) -> str:
        """What ``rift import`` is told of the weights, quoted for the shell."""
        said = {"weights": self.weights, "normalization": self.normalization, "key": self.key}
        return " ".join(f"--{key} {shlex.quote(value)}" for key, value in said.items() if value is not None)


class Report(Section):
    """What the report shows."""

    tables: Names[TableName] = Field(get_args(TableName), description="Tables.")
    figures: Names[FigureName] = Field(
        get_args(FigureName), description="Figures, one of each per grid cell or data set."
    )


@dataclass(frozen=True)
class Recipe:
    """What is particular to a regime.

    Attributes:
        sections: those of its own, besides the ones that all regimes share.
        settings: its authors' settings where they are not the general ones: what a file or a command leaves open.
    """

    sections: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


_TRADES_INNER = {"start": "normal", "eps": 0.031, "step": 0.007, "steps": 10}
_TRADES_TRAIN = {"epochs": 76, "milestones": (75,), "weight_decay": 2e-4}

RECIPES: dict[RegimeName, Recipe] = {
    "standard": Recipe(),
    "pgd": Recipe(),
    "trades": Recipe(("trades",), {"train": _TRADES_TRAIN, "inner": _TRADES_INNER}),
    "mart": Recipe(
        ("mart",),
        {
            "train": {"epochs": 120, "milestones": (75, 90, 100), "learning_rate": 0.01, "weight_decay": 3.5e-3},
            "inner": _TRADES_INNER,
        },
    ),
    "awp": Recipe(("awp",)),
    "trades-awp": Recipe(
        ("trades", "awp"),
        {"train": _TRADES_TRAIN, "inner": _TRADES_INNER, "awp": {"gamma": 0.005, "warmup": 10}},
    ),
    "score": Recipe(("score",), {"train": _TRADES_TRAIN, "inner": _TRADES_INNER}),
}


@dataclass(frozen=True)
class Protocol:
    """A named choice of settings that goes beneath whatever a file states.

    Attributes:
        settings: those of all data sets.
        datasets: those that differ between data sets, and no others: a file's own settings go over them too.
    """

    settings: Mapping[str, Mapping[str, object]]
    datasets: Mapping[DatasetName, Mapping[str, Mapping[str, object]]]

    def settings_for(self, dataset: str | None) -> dict[str, Any]:
        """All that it settles for a data set."""
        return merge(self.settings, cast("Mapping[str, Any]", self.datasets).get(dataset or "", {}))


# As Zhu et al. (ICCV 2023) and their code have it. Training is the recipe of the regime, whatever the protocol.
_PAPER: dict[str, dict[str, object]] = {
    "attack": {"eps": 8 / 255, "step": 2 / 255, "steps": 10},
    "criticality": {
        "method": "published",
        "epsilon": 0.1,
        "norm": "l2",
        "epochs": 10,
        "learning_rate": 1.0,
        "stop_at_boundary": False,
        "batch_size": 512,
        "images": "all",
    },
    "finetune": {
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_norm": "train",
        "images": "all",
        "least_share": 0,
        "part": [0, 1],
    },
    "interpolate": {
        "alphas": [number / 10 for number in range(11)],
        "tolerance": 0.1,
        "restarts": 3,
        "selection": "test",
        "images": "all",
    },
    "evaluate": {
        "standard": {"images": "all"},
        "ood": {"corruptions": "rift", "images": "all"},
        "pgd": {"images": "all", "restarts": 3},
    },
}
_ON_TEST: dict[str, dict[str, object]] = {
    "criticality": {"split": "test"},
    "evaluate": {"ood": {"severities": [1, 2, 3, 4, 5]}},
}
_TINY: dict[str, dict[str, object]] = {"criticality": {"split": "train"}, "evaluate": {"ood": {"severities": [1]}}}

PROTOCOLS: dict[ProtocolName, Protocol] = {
    "paper": Protocol(_PAPER, {name: _TINY if name == "tiny-imagenet" else _ON_TEST for name in get_args(DatasetName)}),
}


def foreign(regime: RegimeName) -> list[str]:
    """Say which sections are about other regimes, and no part of this one."""
    own = {name for recipe in RECIPES.values() for name in recipe.sections}
    return sorted(own - set(RECIPES[regime].sections))


class Overrides(Section):
    """Settings for some regimes, data sets or architectures only; a later one of these three goes over an earlier."""

    regimes: Mapping[RegimeName, TrainingSettings] = Field(
        {}, description="Settings by regime; what no setting says follows the recipe of its authors."
    )

    datasets: Mapping[DatasetName, Settings] = Field({}, description="Settings by data set.")
    architectures: Mapping[Architecture, RunSettings] = Field(
        {},
        description="Settings by architecture; what data sets are made of is the same for all.",
        json_schema_extra={"propertyNames": TypeAdapter(Architecture).json_schema()},  # pydantic leaves out a union
    )


class Experiment(Settings):
    """An experiment file."""

    experiment: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="Name; all it makes lies in results/NAME."
    )
    grid: Grid
    protocol: ProtocolName | None = Field(
        None,
        description="paper: what a file leaves open is as published: criticality by the published search on its split (test;"
        " Tiny-ImageNet: train), α selected on test data, OOD of Tiny-ImageNet at severity 1. Tables say so.",
    )
    base: tuple[Base, ...] = Field(
        (), description="Bases that are imported; of several entries the first that fits holds."
    )
    report: Report = Report()
    overrides: Overrides = Overrides()

    @model_validator(mode="after")
    def _every_base_is_one_of_the_grid(self) -> "Experiment":
        for number, base in enumerate(self.base):
            if not any(base.holds_for(**run) for run in self._runs()):
                raise ValueError(f"base.{number} ({base.weights}) fits no run of the grid")
        return self

    @model_validator(mode="after")
    def _counts_fit(self) -> "Experiment":
        for dataset, architecture in product(self.grid.datasets, self.grid.architectures):
            settings = self.settings(dataset, architecture)
            corrupted, evaluated = settings.corrupt.images, settings.evaluate.ood.images
            if corrupted != "all" and evaluated != "all" and evaluated > corrupted:
                raise ValueError(f"evaluate.ood.images: {evaluated} of {dataset}, but corrupt.images makes {corrupted}")
            if settings.data.root != self.data.root:
                raise ValueError(f"overrides.datasets.{dataset}.data.root: all data sets lie under one data.root")
        return self

    def _runs(self) -> Iterator[dict[str, Any]]:
        """Every data set, architecture, regime and seed of the grid."""
        kinds = {"dataset": self.grid.datasets, "architecture": self.grid.architectures, "regime": self.grid.regimes}
        for values in product(*kinds.values(), self.grid.seeds):
            yield dict(zip((*kinds, "seed"), values, strict=True))

    def settings(
        self, dataset: str | None = None, architecture: str | None = None, regime: RegimeName | None = None
    ) -> Settings:
        """Settings that hold for a data set, an architecture and a regime.

        What the protocol says of the data set, what the file says, overrides; what all of them leave open, the regime's recipe.
        """
        merged = self.model_dump(include=set(Settings.model_fields), exclude_unset=True)
        if self.protocol is not None:
            merged = merge(PROTOCOLS[self.protocol].settings_for(dataset), merged)
        by_name: tuple[tuple[Mapping[Any, TrainingSettings], str | None], ...] = (
            (self.overrides.regimes, regime),
            (self.overrides.datasets, dataset),
            (self.overrides.architectures, architecture),
        )
        for overrides, name in by_name:
            if name in overrides:
                merged = merge(merged, overrides[name].model_dump(exclude_unset=True))
        return Settings.model_validate(merged if regime is None else follow(regime, merged))

    def imported(self, **run: object) -> Base | None:
        """Return where the base of a run comes from, None if it is trained here.

        Args:
            run: its ``dataset``, ``architecture``, ``regime`` and ``seed``.
        """
        base = next((entry for entry in self.base if entry.holds_for(**run)), None)
        return None if base is None or base.weights == "train" else base

    def initial(self, dataset: str, architecture: str, regime: RegimeName, **_seed: int) -> list[str]:
        """Files that the training of a run begins with."""
        init = self.settings(dataset, architecture, regime).train.init
        return Base(weights=init).files if init else []

    @property
    def imports(self) -> dict[tuple[str, str, str, int], Base]:
        """Every run of the grid with an imported base, by data set, architecture, regime and seed."""
        found = {tuple(run.values()): self.imported(**run) for run in self._runs()}
        return {run: base for run, base in found.items() if base is not None}

    @property
    def imported_paths(self) -> list[str]:
        """Where the runs with an imported base lie, below ``runs``."""
        return [f"{dataset}/{architecture}/{regime}/seed{seed}" for dataset, architecture, regime, seed in self.imports]

    @property
    def figures(self) -> dict[tuple[str, str, str], tuple[FigureName, ...]]:
        """Figures of every data set, architecture and regime: an imported base has no training to draw."""
        untrained = {run[:3] for run in self.imports}
        cells = product(self.grid.datasets, self.grid.architectures, self.grid.regimes)
        return {
            cell: tuple(
                name
                for name in self.report.figures
                if name not in DATASET_FIGURES and (name != "training" or cell not in untrained)
            )
            for cell in cells
        }

    @property
    def dataset_figures(self) -> tuple[FigureName, ...]:
        """Figures of every data set."""
        return tuple(name for name in self.report.figures if name in DATASET_FIGURES)

    def corruptions(self, dataset: str) -> tuple[CorruptionName, ...]:
        """Every corruption that some cell of a data set is evaluated on."""
        cells = product([dataset], self.grid.architectures)
        return tuple(dict.fromkeys(name for cell in cells for name in self.settings(*cell).evaluate.ood.names))

    def flags(self, *sections: str, **cell: str) -> str:
        """Flags that hand sections to a command, quoted for the shell; not those settings that change no result.

        Args:
            sections: dotted paths such as ``evaluate.pgd``, or ``grid``, or ``regime`` for those of the regime alone.
            cell: the ``dataset``, ``architecture`` and ``regime`` of a job, as far as it has them; overrides for them are
                applied, and ``grid`` shrinks to them.
        """
        regime = cast("RegimeName | None", cell.get("regime"))
        settings = self.settings(cell.get("dataset"), cell.get("architecture"), regime)
        own = RECIPES[regime].sections if regime else ()
        paths = [path for named in sections for path in (own if named == "regime" else (named,))]
        tree = {path: self.grid.only(**cell) if path == "grid" else settings.section(path) for path in paths}
        return " ".join(
            f"--{path}.{key} {shlex.quote(_flag(value))}"
            for path, section in tree.items()
            for key, value in section.model_dump(mode="json", exclude=set(NO_RESULT), exclude_none=True).items()
        )


def _flag(value: object) -> str:
    """Write a value as a command reads it: the entries of a list with commas between them, the rest as in YAML."""
    if isinstance(value, list):
        return ",".join(_flag(entry) for entry in value) or "[]"
    return value if isinstance(value, str) else json.dumps(value)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put nested settings over others, key by key."""
    merged = dict(below)
    for key, value in above.items():
        beneath = merged.get(key)
        nested = isinstance(value, Mapping)
        merged[key] = merge(beneath if isinstance(beneath, Mapping) else {}, value) if nested else value
    return merged


def follow(regime: RegimeName, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what settings leave open by a regime's recipe.

    Its inner attack is meant for the usual threat model, and for PGD: under another one training follows ``attack``, and a
    single-step attack takes its radius alone.
    """
    recipe = dict(RECIPES[regime].settings)
    inner, attack = given.get("inner"), given.get("attack")
    if "inner" in recipe and _is_another(attack):
        recipe["inner"] = {"start": recipe["inner"]["start"]}
    if "inner" in recipe and isinstance(inner, Mapping) and inner.get("method", "pgd") != "pgd":
        recipe["inner"] = {key: value for key, value in recipe["inner"].items() if key == "eps"}
    return merge(recipe, given)


def _is_another(attack: object) -> bool:
    """Say whether an attack, as a file or a command gives it, is not the usual one; what is wrong with it is said elsewhere."""
    try:
        return attack is not None and Attack.model_validate(attack) != Attack()
    except ValidationError:
        return False


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses a key given twice, which YAML would settle in silence for the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        RiftError: as ``load`` and ``parse``.
    """
    return parse(load(path), str(path))


def load(path: Path) -> object:
    """Read the content of a YAML file, unchecked but for keys that stand twice.

    Raises:
        RiftError: the file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise RiftError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RiftError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error


def parse(content: object, source: str) -> Experiment:
    """Check the content of an experiment file; ``source`` names it in messages.

    Raises:
        RiftError: everything that the schema does not allow, in one message with the paths.
    """
    if not isinstance(content, Mapping):
        raise RiftError(f"{source}: must be a mapping with the keys {', '.join(Experiment.model_fields)}")
    try:
        # Through JSON, where "strict" still takes a list for a tuple, but neither "10" nor 10.0 nor true for 10.
        text = json.dumps(content, default=str)
        protocol = content.get("protocol")
        if isinstance(protocol, str) and protocol in PROTOCOLS:
            # Beneath the file before it is checked: settings of the file may go with those of the protocol alone.
            text = json.dumps(
                merge(PROTOCOLS[protocol].settings, json.loads(text))
            )  # what holds itself has failed by now
        return Experiment.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RiftError(describe(error, source)) from error
    except ValueError as error:
        raise RiftError(f"{source}: holds itself as a part: {error}") from error


def describe(error: ValidationError, source: str, prefix: str = "", within: int = 0) -> str:
    """Say in one message what a validation found: a line a problem, each with its path.

    Args:
        error: what pydantic raised.
        source: file or command that was checked.
        prefix: put before each path (``--`` makes flags of them).
        within: how many first parts of every path to leave out.
    """
    problems: dict[str, str] = {}
    for path, message in _problems(error, within):
        problems[path] = f"{problems[path]}, or: {message}" if path in problems else message
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{prefix}{path}: {message}" if path else message for path, message in problems.items()]
    return "\n  ".join([f"{source}: {count}", *lines])


def _problems(error: ValidationError, within: int) -> Iterator[tuple[str, str]]:
    for problem in error.errors(include_url=False):
        found = problem["input"]
        # Members of a union are part of pydantic's path, but of no path in the file.
        path = ".".join(str(part) for part in problem["loc"][within:] if not _is_union_member(part))
        match problem["type"]:
            case "extra_forbidden":
                message = "is not a key of this section"
            case "missing":
                message = "is missing"
            case "literal_error":
                message = f"{found!r} is not available; available: {problem['ctx']['expected']}"
            case "too_short" if found:
                continue  # some of its entries were refused, which is said at each of them
            case "too_short":
                message = "must not be empty"
            case "tuple_type" | "list_type":
                message = f"must be a list (found {found!r})"
            case "model_type" | "model_attributes_type":
                message = f"must be a section of keys (found {found!r})"
            case "string_pattern_mismatch" if problem["ctx"]["pattern"] in _OPEN_NAMES:
                message = _OPEN_NAMES[problem["ctx"]["pattern"]]
            case _:
                message = problem["msg"].removeprefix("Value error, ")
                message += "" if isinstance(found, Mapping) else f" (found {found!r})"
        yield path, message


def _is_union_member(part: int | str) -> bool:
    return isinstance(part, str) and (
        part in ("int", "str", "list-name", "names") or part.startswith(("literal[", "constrained-"))
    )


def schema() -> dict[str, Any]:
    """JSON schema of an experiment file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Experiment.model_json_schema()}

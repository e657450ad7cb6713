"""Types of all names that a user can choose.

The registries of implementations use these names as keys, and a test keeps both equal. Settings can
therefore be checked, and editors can complete names, without importing the implementations.
"""

import re
from typing import Annotated, Literal, cast, get_args

from pydantic import (
    StringConstraints,
)

from rift.layout import TO

DatasetName = Literal[
    "digits",
    "cifar10",
    "cifar100",
    "tiny-imagenet",
    "caltech-256",
    "cub-200",
    "stanford-dogs",
]
ArchitectureName = Literal[
    "resnet8",
    "resnet20",
    "resnet18-w16",
    "resnet18-w16-gn",
    "resnet18-w32",
    "resnet18",
    "resnet34",
    "preact-resnet18",
    "wrn-28-10",
    "wrn-34-10",
    "vit-small",
    "vit-w96",
]
WITHOUT_BATCH_NORM: tuple[ArchitectureName, ...] = ("resnet18-w16-gn", "vit-small", "vit-w96")
"""Architectures that the methods and scopes of ``NEEDS_BATCH_NORM`` cannot be used with."""
RegimeName = Literal["standard", "pgd", "trades", "mart", "awp", "trades-awp", "score"]
MethodName = Literal["at", "trades", "twins-at", "twins-trades"]
SearchName = Literal["pga", "published", "gradient", "race"]
NormName = Literal["linf", "l2"]
InnerName = Literal["pgd", "fgsm-rs", "n-fgsm"]
CompileName = Literal["auto", "always", "graphs", "never"]
ProtocolName = Literal["paper"]
ScheduleName = Literal["step", "cosine", "one-cycle"]
NamedScope = Literal[
    "rift",
    "robust-critical",
    "all-layers",
    "last-layer",
    "top2",
    "top3",
    "top5",
    "rift-frozen",
    "norms",
    "statistics",
    "statistics-attacked",
    "more-training",
    "mixed-training",
    "earn-then-spend",
    "rift-then-spend",
]
NEEDS_BATCH_NORM: tuple[MethodName | NamedScope, ...] = (
    "twins-at",
    "twins-trades",
    "statistics",
    "statistics-attacked",
)
"""Methods and scopes that do something to batch norm, and refuse a network without it."""
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
TableName = Literal[
    "main",
    "regimes",
    "module-ablation",
    "module-choice",
    "top-k",
    "baselines",
    "controls",
    "transfer",
    "corruptions",
    "criticality",
    "cost",
]
FigureName = Literal[
    "interpolation",
    "criticality",
    "corruptions",
    "pareto",
    "training",
    "module-choice",
    "transfer-training",
    "transfer-mechanism",
    "transfer-pareto",
    "contact-sheet",
]
DATASET_FIGURES: tuple[FigureName, ...] = ("contact-sheet",)
# Figures of a transfer by TWINS, which also show its baseline.
TRANSFER_FIGURES: tuple[FigureName, ...] = (
    "transfer-training",
    "transfer-mechanism",
    "transfer-pareto",
)
# The first fifteen are the standard benchmark. The code of RiFT averages over all of them except
# glass_blur, and over the four extra ones.
_FIFTEEN: tuple[CorruptionName, ...] = get_args(CorruptionName)[:15]
_EXTRA: tuple[CorruptionName, ...] = get_args(CorruptionName)[15:]
CORRUPTION_LISTS: dict[CorruptionListName, tuple[CorruptionName, ...]] = {
    "rift": (*(name for name in _FIFTEEN if name != "glass_blur"), *_EXTRA),
    "robustbench": _FIFTEEN,
}
# Data sets of users, by the name of a folder or a file in the data root. Names without hyphens
# cannot be mistaken for a range of classes or a transfer.
IMAGE_FOLDER = "image-folder:"
ARRAYS = "arrays:"
_OWN = rf"({IMAGE_FOLDER}|{ARRAYS})[A-Za-z0-9][A-Za-z0-9_.]*"
OWN_DATASET = rf"^{_OWN}$"
OwnDataset = Annotated[str, StringConstraints(pattern=OWN_DATASET)]
# Data sets with images of any size, which are resized to data.side.
ANY_SIZE: tuple[DatasetName, ...] = ("caltech-256", "cub-200", "stanford-dogs")
# Some classes of a data set, by the first and the last label: digits-0-4.
_WHOLE = rf"{'|'.join(get_args(DatasetName))}|{_OWN}"
CLASS_RANGE = rf"^({_WHOLE})-[0-9]+-[0-9]+$"
ClassRange = Annotated[str, StringConstraints(pattern=CLASS_RANGE)]
Dataset = DatasetName | OwnDataset | ClassRange
# Source and target of a transfer: digits-0-4-to-digits-5-9. The images of some sources are not
# needed, because only weights are imported.
SourceName = Literal["imagenet"]
_NAME = rf"({_WHOLE})(-[0-9]+-[0-9]+)?"
TRANSFER_PAIR = rf"^({'|'.join(get_args(SourceName))}|{_NAME}){TO}{_NAME}$"
TransferPair = Annotated[str, StringConstraints(pattern=TRANSFER_PAIR)]
ROBUSTBENCH = "robustbench:"
TIMM = "timm:"
TIMM_NETWORK = rf"^{TIMM}[A-Za-z0-9_.]+$"
TimmArchitecture = Annotated[str, StringConstraints(pattern=TIMM_NETWORK)]
# A function in a file of the user: my_module:build.
OUTSIDE_NETWORK = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
OutsideArchitecture = Annotated[str, StringConstraints(pattern=OUTSIDE_NETWORK)]
Architecture = ArchitectureName | TimmArchitecture | OutsideArchitecture
MODULE_SCOPE = r"^module-[A-Za-z0-9_.]+$"
ModuleScope = Annotated[str, StringConstraints(pattern=MODULE_SCOPE)]
Scope = NamedScope | ModuleScope
Variant = Literal["base"] | Scope
# Error messages for names that match no pattern: the accepted form, by pattern.
OPEN_NAMES = {
    OWN_DATASET: f"{IMAGE_FOLDER}NAME or {ARRAYS}NAME for a folder or file of your own in the data"
    " root (letters, digits, dots and underscores)",
    CLASS_RANGE: "NAME-FIRST-LAST for some classes of a data set, such as digits-0-4",
    TRANSFER_PAIR: f"SOURCE{TO}TARGET, two data sets, such as cifar100{TO}cifar10",
    TIMM_NETWORK: f"{TIMM}NAME for a network of timm",
    OUTSIDE_NETWORK: "MODULE:FUNCTION for a function in a Python file of yours",
    MODULE_SCOPE: "module-NAME for a module of the network",
}


def whole_dataset(name: str) -> DatasetName:
    """Return the data set that a range of classes belongs to; a whole data set is itself.

    Args:
        name: name of a data set, or of a range of its classes (``digits-0-4``).
    """
    match = re.match(CLASS_RANGE, name)
    return cast("DatasetName", match.group(1) if match else name)


def has_any_size(name: str) -> bool:
    """Return whether the images of a data set, or of a range of its classes, are resized."""
    whole = whole_dataset(name)
    return whole in ANY_SIZE or whole.startswith(IMAGE_FOLDER)


def class_range(name: str) -> tuple[int, int] | None:
    """Return the first and the last label of a range of classes; None for a whole data set."""
    if not re.match(CLASS_RANGE, name):
        return None
    first, last = name.rsplit("-", 2)[1:]
    return int(first), int(last)

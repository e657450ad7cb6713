"""Settings of an experiment: one strict schema for all YAML files and all command-line flags.

An experiment file contains sections. A command accepts the sections it depends on as flags of the
same name: ``train: {epochs: 110}`` in YAML is ``--train.epochs 110`` on the command line.

Images are in [0, 1]. Every ``eps`` and ``step`` is a distance in pixel values of that range, and
can be written as a fraction (``8/255``).

These modules do not import torch, because the Snakefile imports them every time it is parsed.
"""

from rift.config.criticality import SETTINGS_OF_SEARCHES, Criticality
from rift.config.data import Corrupt, Data, data_root
from rift.config.evaluation import Adversarial, AutoAttack, Evaluate, Ood, Pgd, Standard
from rift.config.experiment import Experiment, Overrides
from rift.config.finetuning import Finetune
from rift.config.grid import Grid, ImportedBase, Report
from rift.config.interpolation import Interpolate
from rift.config.names import (
    CORRUPTION_LISTS,
    DATASET_FIGURES,
    MODULE_SCOPE,
    OPEN_NAMES,
    ROBUSTBENCH,
    TIMM,
    TIMM_NETWORK,
    Architecture,
    ArchitectureName,
    AutoAttackName,
    CorruptionListName,
    CorruptionName,
    DatasetName,
    FigureName,
    InnerName,
    ModuleScope,
    NamedScope,
    ProtocolName,
    RegimeName,
    ScheduleName,
    Scope,
    SearchName,
    TableName,
    TimmArchitecture,
    Variant,
)
from rift.config.protocols import PROTOCOLS, Protocol
from rift.config.reading import describe, load, parse, read, schema
from rift.config.regimes import (
    RECIPES,
    Awp,
    Mart,
    Recipe,
    Score,
    Trades,
    fill_from_recipe,
    recipe_of,
    sections_of_other_regimes,
)
from rift.config.settings import (
    RESULT_NEUTRAL,
    RegimeSettings,
    RunSettings,
    Settings,
    TrainingSettings,
)
from rift.config.threat import Attack
from rift.config.training import Augment, Inner, Train
from rift.config.values import (
    Corruptions,
    Count,
    Epsilon,
    ImageCount,
    Names,
    NotNegative,
    Number,
    Positive,
    Precision,
    Section,
    Seed,
    Severity,
    Share,
    merge,
)

__all__ = [
    "CORRUPTION_LISTS",
    "DATASET_FIGURES",
    "MODULE_SCOPE",
    "OPEN_NAMES",
    "PROTOCOLS",
    "RECIPES",
    "RESULT_NEUTRAL",
    "ROBUSTBENCH",
    "SETTINGS_OF_SEARCHES",
    "TIMM",
    "TIMM_NETWORK",
    "Adversarial",
    "Architecture",
    "ArchitectureName",
    "Attack",
    "Augment",
    "AutoAttack",
    "AutoAttackName",
    "Awp",
    "Corrupt",
    "CorruptionListName",
    "CorruptionName",
    "Corruptions",
    "Count",
    "Criticality",
    "Data",
    "DatasetName",
    "Epsilon",
    "Evaluate",
    "Experiment",
    "FigureName",
    "Finetune",
    "Grid",
    "ImageCount",
    "ImportedBase",
    "Inner",
    "InnerName",
    "Interpolate",
    "Mart",
    "ModuleScope",
    "NamedScope",
    "Names",
    "NotNegative",
    "Number",
    "Ood",
    "Overrides",
    "Pgd",
    "Positive",
    "Precision",
    "Protocol",
    "ProtocolName",
    "Recipe",
    "RegimeName",
    "RegimeSettings",
    "Report",
    "RunSettings",
    "ScheduleName",
    "Scope",
    "Score",
    "SearchName",
    "Section",
    "Seed",
    "Settings",
    "Severity",
    "Share",
    "Standard",
    "TableName",
    "TimmArchitecture",
    "Trades",
    "Train",
    "TrainingSettings",
    "Variant",
    "data_root",
    "describe",
    "fill_from_recipe",
    "load",
    "merge",
    "parse",
    "read",
    "recipe_of",
    "schema",
    "sections_of_other_regimes",
]

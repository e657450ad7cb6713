"""Protocols: named sets of default settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from rift.config.names import DatasetName, ProtocolName, whole_dataset
from rift.config.values import merge


@dataclass(frozen=True)
class Protocol:
    """Settings that apply unless an experiment file gives its own.

    Attributes:
        settings: nested settings for all data sets.
        datasets: nested settings that differ between data sets, and only those. The settings of a
            file take precedence over them, too.
    """

    settings: Mapping[str, Mapping[str, object]]
    datasets: Mapping[DatasetName, Mapping[str, Mapping[str, object]]]

    def settings_for(self, dataset: str | None) -> dict[str, Any]:
        """Return the settings of the protocol for a data set; None gives the common ones."""
        own = None if dataset is None else self.datasets.get(whole_dataset(dataset))
        return merge(self.settings, own or {})


# The values are those of Zhu et al. (ICCV 2023) and their code. Settings of training are absent,
# because the recipe of the regime gives them under every protocol.
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
_TINY: dict[str, dict[str, object]] = {
    "augment": {"crop": 8},
    "criticality": {"split": "train"},
    "evaluate": {"ood": {"severities": [1]}},
}
PROTOCOLS: dict[ProtocolName, Protocol] = {
    "paper": Protocol(
        _PAPER,
        {name: _TINY if name == "tiny-imagenet" else _ON_TEST for name in get_args(DatasetName)},
    ),
}

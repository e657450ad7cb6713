"""Networks from the RobustBench model zoo (Croce et al. 2021).

The robustbench package downloads, caches and builds them.
"""

import importlib.util
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn

from rift.config import NORMS, ROBUSTBENCH, NormName
from rift.errors import RiftError, first_line
from rift.thirdparty import environment_variable, prepare_robustbench

CACHE = Path("models")
"""Folder of the weights that RobustBench downloads, relative to the working directory."""


def load_robustbench(name: str, dataset: str, norm: NormName = "linf") -> nn.Module:
    """Return a network from the model zoo of a threat model, in eval mode.

    The network takes images in [0, 1]. Its weights are downloaded unless ``CACHE`` contains them.

    Args:
        name: name of the network in RobustBench.
        dataset: name of the data set: ``cifar10``, ``cifar100`` or ``imagenet``.
        norm: norm of the threat model; the L2 zoo has networks for ``cifar10`` alone.

    Raises:
        RiftError: RobustBench is not installed, does not contain the network, or cannot load it.
    """
    if importlib.util.find_spec("robustbench") is None:
        raise RiftError(
            f"{ROBUSTBENCH}{name}: RobustBench is not installed; run pip install"
            " 'rift[robustbench]'"
        )
    prepare_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
    from robustbench.utils import load_model

    sets = {
        "cifar10": BenchmarkDataset.cifar_10,
        "cifar100": BenchmarkDataset.cifar_100,
        "imagenet": BenchmarkDataset.imagenet,
    }
    if dataset not in sets:
        raise RiftError(
            f"{ROBUSTBENCH}{name}: RobustBench has no networks for {dataset}, only for"
            f" {', '.join(sets)}; choose another data set, or weights in a file"
        )
    threat_model = ThreatModel(NORMS[norm])
    zoo = model_dicts[sets[dataset]]
    known = zoo.get(threat_model, {})
    if name not in known:
        others = [
            other for other, label in NORMS.items() if name in zoo.get(ThreatModel(label), {})
        ]
        if others:
            raise RiftError(
                f"{ROBUSTBENCH}{name}: is a network for {NORMS[others[0]]}, and the threat model is"
                f" {NORMS[norm]}; set attack.norm to {others[0]} (rift import: --norm {others[0]}),"
                f" or choose a network for {NORMS[norm]}"
            )
        if not known:
            raise RiftError(
                f"{ROBUSTBENCH}{name}: RobustBench has no {NORMS[norm]} networks for {dataset};"
                " choose another data set or threat model"
            )
        similar = get_close_matches(name, known, n=3) or sorted(known)[:3]
        raise RiftError(
            f"{ROBUSTBENCH}{name}: is not one of RobustBench's {len(known)} {NORMS[norm]} networks"
            f" for {dataset}; choose one of them, such as {', '.join(similar)}"
        )
    cached = CACHE / sets[dataset].value / threat_model.value / f"{name}.pt"
    was_there = cached.exists()
    try:
        with _tensors_only():
            network: nn.Module = load_model(
                name, model_dir=CACHE, dataset=sets[dataset], threat_model=threat_model
            )
    # Failed downloads and damaged checkpoints can raise any exception.
    except Exception as error:
        # A file that this call created is an interrupted download or an error page.
        if not was_there:
            cached.unlink(missing_ok=True)
        reason = first_line(error)
        raise RiftError(
            f"{ROBUSTBENCH}{name}: cannot be loaded ({reason}); if this machine has no internet"
            f" access, copy the weights to {cached}; if that file is damaged, delete it"
        ) from error
    return network.eval()


def _tensors_only() -> AbstractContextManager[None]:
    """Make every call of torch.load reject files that could run code."""
    return environment_variable("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")


@torch.no_grad()
def check_same(model: nn.Module, reference: nn.Module, images: Tensor, name: str) -> None:
    """Check that a model returns the same logits as the network that its weights come from.

    Args:
        model: model with the imported weights; it is set to eval mode.
        reference: network that the weights come from, in eval mode.
        images: images for the comparison, float32 in [0, 1], N×C×H×W.
        name: name of the weights, for error messages.

    Raises:
        RiftError: a logit differs by more than 1% of the largest deviation of the reference logits
            from their mean over the images.
    """
    ours, theirs = model.eval()(images), reference(images)
    # The logits may contain a large offset that is the same for all images, so the tolerance is
    # relative to their variation between images.
    if not (ours - theirs).abs().max() <= 0.01 * (theirs - theirs.mean(dim=0)).abs().max():
        raise RiftError(
            f"{name}: the weights fit, but the logits differ from those of RobustBench by up to"
            f" {float((ours - theirs).abs().max()):.3g}; its network may use another activation or"
            " a normalisation that the weights do not contain; choose another network"
        )

"""Networks of RobustBench's model zoo (Croce et al. 2021), by its own loader, cache and normalisation."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn

from rift.config import ROBUSTBENCH
from rift.errors import RiftError, first_line
from rift.thirdparty import prepare_robustbench

CACHE = Path(
    "models"
)  # where RobustBench puts what it downloads, below the folder it is called from


def load_robustbench(name: str, dataset: str) -> nn.Module:
    """Load a network of the Linf model zoo, in eval mode: it takes images in [0, 1].

    Args:
        name: as RobustBench lists it.
        dataset: cifar10 or cifar100.

    Raises:
        RiftError: RobustBench is not installed, has no such network, or cannot load it.
    """
    if importlib.util.find_spec("robustbench") is None:
        raise RiftError(
            f"{ROBUSTBENCH}{name}: RobustBench is not installed; pip install 'rift[robustbench]'"
        )
    prepare_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
    from robustbench.utils import load_model

    sets = {"cifar10": BenchmarkDataset.cifar_10, "cifar100": BenchmarkDataset.cifar_100}
    if dataset not in sets:
        raise RiftError(
            f"{ROBUSTBENCH}{name}: RobustBench has networks for {' and '.join(sets)}, none for {dataset}"
        )
    known = model_dicts[sets[dataset]][ThreatModel.Linf]
    if name not in known:
        near = get_close_matches(name, known, n=3) or sorted(known)[:3]
        raise RiftError(
            f"{ROBUSTBENCH}{name}: is not among the {len(known)} Linf networks of its zoo for {dataset}; it has"
            f" {', '.join(near)} …"
        )
    cached = CACHE / sets[dataset].value / ThreatModel.Linf.value / f"{name}.pt"
    was_there = cached.exists()
    try:
        with _tensors_only():
            network: nn.Module = load_model(
                name, model_dir=CACHE, dataset=sets[dataset], threat_model=ThreatModel.Linf
            )
    except Exception as error:  # its downloads and checkpoints fail in all ways there are
        if not was_there:
            cached.unlink(
                missing_ok=True
            )  # a download that broke off, or a page that says why there is none
        reason = first_line(error)
        raise RiftError(
            f"{ROBUSTBENCH}{name}: cannot be loaded ({reason}); its weights belong in {cached}: put them there if this machine"
            " has no network, or delete the file if it is damaged"
        ) from error
    return network.eval()


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Make torch.load refuse whatever could run code, also where a caller does not say so."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@torch.no_grad()
def check_same(model: nn.Module, reference: nn.Module, images: Tensor, name: str) -> None:
    """Make sure that a model computes what the network computes that its weights are from.

    Raises:
        RiftError: the logits differ: the network does more than its weights and their normalisation say.
    """
    ours, theirs = model.eval()(images), reference(images)
    # Beside what the logits differ by from image to image: a network may have much in common for all.
    if not (ours - theirs).abs().max() <= 0.01 * (theirs - theirs.mean(dim=0)).abs().max():
        raise RiftError(
            f"{name}: its weights fit, but the network computes something else with them (logits differ by up to"
            f" {float((ours - theirs).abs().max()):.3g}): a normalisation outside of the weights, or another activation"
        )

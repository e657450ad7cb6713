"""The same images and network through ``robustbench.benchmark`` (Croce et al. 2021), to compare with what rift finds."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from rift.compatibility import OldAutoAttack, heard, prepare_robustbench
from rift.data.split import Split, to_float
from rift.errors import RiftError
from rift.evaluation.autoattack import PlainlyLaidOut
from rift.models.modes import inference
from rift.progress import Progress, silent
from rift.seeds import generator

TOLERANCE = 0.02
"""Share of images whose robustness may depend on random numbers, generously."""


@dataclass(frozen=True)
class Benchmark:
    """What RobustBench found.

    Attributes:
        clean_accuracy: as it says, in percent.
        robust_accuracy: likewise.
        clean: of every image whether it was classified correctly: bool, N.
        robust: likewise, of its adversarial images.
    """

    clean_accuracy: float
    robust_accuracy: float
    clean: Tensor
    robust: Tensor


def robustbench_of(
    model: nn.Module, data: Split, *, eps: float, seed: int, batch_size: int, progress: Progress = silent
) -> Benchmark:
    """Run ``robustbench.benchmark`` on images of ours, without its data sets, which it would download.

    Args:
        model: gives logits of at least 10 classes, as AutoAttack's standard version wants, for images in [0, 1].
        data: images and labels.
        eps: radius of the Linf ball, in pixel values.
        seed: of the attacks, which RobustBench seeds with the time of day otherwise. The numbers are others than those of ours.
        batch_size: images attacked at once.
        progress: told what it prints and warns of.

    Raises:
        RiftError: RobustBench is not installed, or not whole, or the model has too few classes.
    """
    theirs = _robustbench()
    images, labels = to_float(data.images).contiguous(), data.labels
    attacked: list[Tensor] = []

    class Recording(OldAutoAttack):
        """AutoAttack that is seeded, and whose images are looked at again."""

        def __init__(self, model: object, **settings: Any) -> None:
            super().__init__(model, seed=generator(seed, "crosscheck").initial_seed(), **settings)

        def run_standard_evaluation(self, images: Any, labels: Any, bs: int = 250, state_path: Any = None) -> Any:
            attacked.append(super().run_standard_evaluation(images, labels, bs, state_path))
            return attacked[-1]

    def ours(*_: object) -> tuple[Tensor, Tensor]:
        return images, labels

    def say(line: str) -> None:
        progress(0, 1, f"robustbench: {line}")

    network = PlainlyLaidOut(model)
    random = torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else [])
    with inference(model), random, torch.no_grad(), heard(say, "auto-attack"):
        if (classes := network(images[:1]).shape[1]) < 10:
            raise RiftError(f"the standard version as RobustBench runs it wants 10 classes; the model has {classes}")
        with patch.multiple(theirs, load_clean_dataset=ours, AutoAttack=Recording):
            # The data set is a name alone, and what images go through before is ours.
            clean, robust = theirs.benchmark(
                network,
                n_examples=len(labels),
                dataset="cifar10",
                threat_model="Linf",
                eps=eps,
                device=images.device,
                batch_size=batch_size,
            )
        hits = [_correct(network, some, labels, batch_size) for some in (images, *attacked)]
    return Benchmark(100 * clean, 100 * robust, *hits)


def agree(clean: Tensor, robust: Tensor, theirs: Benchmark) -> bool:
    """Say whether two evaluations find the same, but for what attacks owe to chance.

    Clean outcomes must be equal: nothing is random in them. Of the others as many may differ as are on the edge, where an
    attack finds something from one start and not from another: ``TOLERANCE`` of the images, at least one.

    Args:
        clean: our outcomes on clean images: bool, N.
        robust: our outcomes under AutoAttack.
        theirs: what RobustBench found on the same images.
    """
    allowed = max(1, int(TOLERANCE * len(robust)))
    return bool((clean == theirs.clean).all()) and int((robust != theirs.robust).sum()) <= allowed


def _robustbench() -> ModuleType:
    """Import the module that holds ``benchmark``.

    Raises:
        RiftError: it is not there.
    """
    try:
        prepare_robustbench()
        import robustbench.eval as module
    except ImportError as error:
        raise RiftError(
            f"RobustBench cannot be imported ({error}); pip install -c constraints.txt 'rift[robustbench]'"
        ) from error
    if not hasattr(module, "benchmark"):
        raise RiftError(
            "RobustBench is not whole: it has no benchmark (torchattacks 3.3, which benchmarks/training.py compares with,"
            " writes a copy of its own over it); pip install -c constraints.txt --force-reinstall --no-deps robustbench"
        )
    found: ModuleType = module
    return found


def _correct(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    return torch.cat([network(part).argmax(1) for part in images.split(batch_size)]) == labels

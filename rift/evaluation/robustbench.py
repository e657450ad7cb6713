"""The same images and network through ``robustbench.benchmark`` (Croce et al. 2021), to compare with what rift finds."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from rift.config import AutoAttack
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.accuracy import percent
from rift.evaluation.autoattack import CLEAN, ContiguousInputs, evaluate_autoattack, stages
from rift.evaluation.blocks import survived
from rift.models.modes import inference
from rift.progress import Progress, hidden, no_progress
from rift.seeds import generator
from rift.thirdparty import OldAutoAttack, prepare_robustbench, redirect_messages

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
    model: nn.Module,
    data: Images,
    *,
    eps: float,
    seed: int,
    batch_size: int,
    progress: Progress = no_progress,
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
    images, labels = data.floats().contiguous(), data.labels
    attacked: list[Tensor] = []

    class Recording(OldAutoAttack):
        """AutoAttack that is seeded, and whose images are looked at again."""

        def __init__(self, model: object, **settings: Any) -> None:
            super().__init__(model, seed=generator(seed, "crosscheck").initial_seed(), **settings)

        def run_standard_evaluation(
            self, images: Any, labels: Any, bs: int = 250, state_path: Any = None
        ) -> Any:
            attacked.append(super().run_standard_evaluation(images, labels, bs, state_path))
            return attacked[-1]

    def ours(*_: object) -> tuple[Tensor, Tensor]:
        return images, labels

    def say(line: str) -> None:
        progress(0, 1, f"robustbench: {line}")

    network = ContiguousInputs(model)
    random = torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else [])
    with inference(model), random, torch.no_grad(), redirect_messages(say, "auto-attack"):
        if (classes := network(images[:1]).shape[1]) < 10:
            raise RiftError(
                f"the standard version as RobustBench runs it wants 10 classes; the model has {classes}"
            )
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


@dataclass(frozen=True)
class Crosscheck:
    """The same images through rift and through RobustBench.

    Attributes:
        clean: whether rift finds each image classified correctly: bool, N.
        robust: likewise under AutoAttack.
        theirs: what RobustBench found.
    """

    clean: Tensor
    robust: Tensor
    theirs: Benchmark

    @property
    def agree(self) -> bool:
        """Return whether both find the same, but for what attacks owe to chance.

        Clean outcomes must be equal: nothing is random in them. Of the others as many may differ as are
        on the edge, where an attack succeeds from one start and not from another: ``TOLERANCE`` of the
        images, at least one.
        """
        allowed = max(1, int(TOLERANCE * len(self.robust)))
        differing = int((self.robust != self.theirs.robust).sum())
        return bool((self.clean == self.theirs.clean).all()) and differing <= allowed

    def facts(self) -> dict[str, Any]:
        """Return both results and their differences as JSON values; accuracies in percent."""
        theirs = self.theirs
        return {
            "images": len(self.clean),
            "rift": {
                "clean_accuracy": percent(self.clean),
                "robust_accuracy": percent(self.robust),
            },
            "robustbench": {
                "clean_accuracy": theirs.clean_accuracy,
                "robust_accuracy": theirs.robust_accuracy,
            },
            "differing": {
                "clean": int((self.clean != theirs.clean).sum()),
                "broken_by_rift_alone": int((theirs.robust & ~self.robust).sum()),
                "broken_by_robustbench_alone": int((self.robust & ~theirs.robust).sum()),
            },
            "agree": self.agree,
        }


def crosscheck(
    model: nn.Module,
    data: Images,
    *,
    eps: float,
    seed: int,
    batch_size: int,
    show: Callable[[str], AbstractContextManager[Progress]] = hidden,
) -> Crosscheck:
    """Evaluate a model by RobustBench's benchmark and by rift's AutoAttack on the same images.

    Args:
        model: returns logits of at least 10 classes for images in [0, 1].
        data: images and labels.
        eps: radius of the Linf ball, in pixel values.
        seed: of the attacks.
        batch_size: images attacked at once.
        show: function of ``robustbench`` or ``autoattack`` that shows progress within a context.

    Raises:
        RiftError: RobustBench is not installed, or the model has too few classes.
    """
    with show("robustbench") as progress:
        theirs = robustbench_of(
            model, data, eps=eps, seed=seed, batch_size=batch_size, progress=progress
        )
    settings = AutoAttack(batch_size=batch_size)
    with show("autoattack") as progress:
        broken_at = evaluate_autoattack(
            model, data, settings=settings, eps=eps, seed=seed, progress=progress
        )
    names = stages(settings)
    ours = survived(broken_at, names)
    return Crosscheck(ours[CLEAN], ours[names[-1]], theirs)


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

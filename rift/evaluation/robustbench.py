"""Evaluation by ``robustbench.benchmark`` (Croce et al. 2021), for comparison with rift's own."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from rift.config import NORMS, AutoAttack, NormName
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.accuracy import percent
from rift.evaluation.autoattack import ContiguousInputs, evaluate_autoattack
from rift.evaluation.stages import CLEAN, stages, survived
from rift.models.modes import inference
from rift.progress import Progress, hidden, no_progress
from rift.seeds import generator, global_numbers_kept
from rift.thirdparty import OldAutoAttack, prepare_robustbench, redirect_messages

TOLERANCE = 0.02
"""Share of the images whose outcome under attack may differ because of random numbers."""


@dataclass(frozen=True)
class Benchmark:
    """The result of RobustBench.

    Attributes:
        clean_accuracy: accuracy that it reports for clean images, in percent.
        robust_accuracy: accuracy that it reports under attack, in percent.
        clean: whether each clean image is classified correctly: bool, N.
        robust: whether each adversarial image is classified correctly: bool, N.
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
    norm: NormName = "linf",
    seed: int,
    batch_size: int,
    progress: Progress = no_progress,
) -> Benchmark:
    """Run ``robustbench.benchmark`` on the given images instead of its own data sets.

    Args:
        model: returns logits for images in [0, 1], of at least 10 classes; AutoAttack's standard
            version needs these.
        data: images and labels.
        eps: radius of the ball, in pixel values.
        norm: norm of the ball.
        seed: seed of the attacks, where RobustBench would use the time of day. The random numbers
            differ from those of rift's AutoAttack.
        batch_size: images attacked at once.
        progress: called with every message of RobustBench.

    Raises:
        RiftError: RobustBench is not installed or not complete, or the model has too few classes.
    """
    theirs = _robustbench()
    images, labels = data.floats().contiguous(), data.labels
    attacked: list[Tensor] = []

    class Recording(OldAutoAttack):
        """AutoAttack with a seed, whose adversarial images are kept for a second evaluation."""

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
    numbers = global_numbers_kept(images.device)
    with inference(model), numbers, torch.no_grad(), redirect_messages(say, "auto-attack"):
        if (classes := network(images[:1]).shape[1]) < 10:
            raise RiftError(
                "RobustBench's standard AutoAttack needs at least 10 classes, and the model has"
                f" {classes}; use a model and a data set with more classes"
            )
        with patch.multiple(theirs, load_clean_dataset=ours, AutoAttack=Recording):
            # The name of the data set only passes a check: the images are replaced above.
            clean, robust = theirs.benchmark(
                network,
                n_examples=len(labels),
                dataset="cifar10",
                threat_model=NORMS[norm],
                eps=eps,
                device=images.device,
                batch_size=batch_size,
            )
        hits = [_correct(network, some, labels, batch_size) for some in (images, *attacked)]
    return Benchmark(100 * clean, 100 * robust, *hits)


@dataclass(frozen=True)
class Crosscheck:
    """The results of rift and of RobustBench on the same images.

    Attributes:
        clean: whether each clean image is classified correctly according to rift: bool, N.
        robust: likewise under rift's AutoAttack: bool, N.
        theirs: result of RobustBench.
    """

    clean: Tensor
    robust: Tensor
    theirs: Benchmark

    @property
    def agree(self) -> bool:
        """Return whether both results agree up to the random numbers of the attacks.

        Clean outcomes must be equal, because they are deterministic. Under attack, some images are
        borderline: an attack succeeds from one random start and not from another. Up to
            ``TOLERANCE`` of
        the images, and always one, may therefore differ.
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
    norm: NormName = "linf",
    seed: int,
    batch_size: int,
    show: Callable[[str], AbstractContextManager[Progress]] = hidden,
) -> Crosscheck:
    """Evaluate a model on the same images by RobustBench's benchmark and by rift's AutoAttack.

    Args:
        model: returns logits of at least 10 classes for images in [0, 1].
        data: images and labels.
        eps: radius of the ball, in pixel values.
        norm: norm of the ball.
        seed: seed of the attacks.
        batch_size: images attacked at once.
        show: function of ``robustbench`` or ``autoattack`` that returns a context, which shows the
            progress.

    Raises:
        RiftError: RobustBench is not installed or not complete, or the model has too few classes.
    """
    with show("robustbench") as progress:
        theirs = robustbench_of(
            model, data, eps=eps, norm=norm, seed=seed, batch_size=batch_size, progress=progress
        )
    settings = AutoAttack(batch_size=batch_size)
    with show("autoattack") as progress:
        broken_at = evaluate_autoattack(
            model, data, settings=settings, eps=eps, norm=norm, seed=seed, progress=progress
        )
    names = stages("autoattack", settings)
    after = survived(broken_at.cpu().numpy(), names)
    clean, robust = (torch.from_numpy(after[name]) for name in (CLEAN, names[-1]))
    return Crosscheck(clean, robust, theirs)


def _robustbench() -> ModuleType:
    """Return the module that contains ``benchmark``.

    Raises:
        RiftError: RobustBench cannot be imported or is not complete.
    """
    try:
        prepare_robustbench()
        import robustbench.eval as module
    except ImportError as error:
        raise RiftError(
            f"RobustBench cannot be imported ({error}); run pip install -c constraints.txt"
            " 'rift[robustbench]'"
        ) from error
    if not hasattr(module, "benchmark"):
        raise RiftError(
            "RobustBench is not complete: it contains no benchmark (torchattacks 3.3, which"
            " benchmarks/training.py needs, overwrites some of its files); run pip install"
            " -c constraints.txt --force-reinstall --no-deps robustbench"
        )
    evaluation: ModuleType = module
    return evaluation


def _correct(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    return torch.cat([network(part).argmax(1) for part in images.split(batch_size)]) == labels

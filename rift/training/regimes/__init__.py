"""Training regimes by name.

A regime is a loss, an objective of its inner attack, and two hooks for regimes that wrap the model.
To add one, write a file here, add a line to ``REGIMES``, and add its name to
``rift.config.names.RegimeName``. A regime with its own settings or its authors' recipe also has an
entry in ``rift.config.regimes``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rift.attacks.ascent import Objective
from rift.config import RegimeName, TrainingSettings
from rift.training.regimes import mart, pgd, score, standard, trades
from rift.training.regimes.unwrapped import state_of, unchanged
from rift.training.running_statistics import Seen


@dataclass(frozen=True)
class Regime:
    """A way to train a network.

    Attributes:
        loss: function of (model, images, adversarial images, labels, settings) that returns the
            mean loss of the batch and the logits from which accuracy is computed. Images are
            float32 in [0, 1], N×C×H×W.
        objective: function of (model, images, labels) that returns the quantity that the inner
            attack raises. None means that there is no attack, and the
            adversarial images are the clean ones.
        perturbs_weights: whether the loss is computed at adversarially perturbed weights (AWP).
        attacks_in: mode of the network during the inner attack. In training mode, batch norm
            normalises by the batch.
        published_statistics: passes of the authors' code that move the running statistics of batch
            norm, in their order; None if they are those of the loss. An attack in training mode
            moves them, too.
        kept_by: kind of accuracy that decides which epoch is kept.
        prepare: function of the model that returns the model to train.
        kept: function of the trained model that returns the state dict of the plain network to
            keep.
    """

    loss: Callable[[nn.Module, Tensor, Tensor, Tensor, TrainingSettings], tuple[Tensor, Tensor]]
    objective: Callable[[nn.Module, Tensor, Tensor], Objective] | None
    perturbs_weights: bool = False
    attacks_in: Literal["eval", "training"] = "eval"
    published_statistics: Sequence[Seen] | None = None
    kept_by: Literal["adversarial", "standard"] = "adversarial"
    prepare: Callable[[nn.Module], nn.Module] = unchanged
    kept: Callable[[nn.Module], Mapping[str, Tensor]] = state_of


REGIMES: dict[RegimeName, Regime] = {
    "standard": Regime(standard.loss, None, kept_by="standard"),
    # Pang et al. (2021): the loss, then two passes of clean images.
    "pgd": Regime(pgd.loss, pgd.objective, published_statistics=("attacked", "clean", "clean")),
    "trades": Regime(
        trades.loss, trades.objective, published_statistics=("clean", "attacked", "clean")
    ),
    "mart": Regime(mart.loss, pgd.objective),
    "awp": Regime(
        pgd.loss,
        pgd.objective,
        perturbs_weights=True,
        attacks_in="training",
        published_statistics=("attacked", "clean"),
    ),
    "trades-awp": Regime(
        trades.loss,
        trades.objective,
        perturbs_weights=True,
        published_statistics=("attacked", "clean", "clean"),
    ),
    "score": Regime(score.loss, score.objective),
}

"""Training of a base: one loop for all regimes.

A regime is a loss, and what its inner attack raises. Add yours to ``REGIMES``, its name to ``rift.config.RegimeName``, and what
is particular to its settings to ``rift.config.RECIPES``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rift.attacks.ascent import Objective
from rift.config import RegimeName, TrainingSettings
from rift.training import mart, pgd, score, standard, trades


@dataclass(frozen=True)
class Regime:
    """How a base is trained.

    Attributes:
        loss: function of (model, images, adversarial images, labels, settings), images float32 in [0, 1]; returns the mean
            loss of the batch and the logits that accuracy is told from.
        objective: function of (model, images, labels), the model in eval mode, that returns what the inner attack raises;
            None: there is no attack, and the adversarial images are the clean ones.
        perturbs_weights: whether the loss is taken at adversarially perturbed weights (AWP).
        kept_by: kind of accuracy that decides which epoch is kept.
    """

    loss: Callable[[nn.Module, Tensor, Tensor, Tensor, TrainingSettings], tuple[Tensor, Tensor]]
    objective: Callable[[nn.Module, Tensor, Tensor], Objective] | None
    perturbs_weights: bool = False
    kept_by: Literal["adversarial", "standard"] = "adversarial"


REGIMES: dict[RegimeName, Regime] = {
    "standard": Regime(standard.loss, None, kept_by="standard"),
    "pgd": Regime(pgd.loss, pgd.objective),
    "trades": Regime(trades.loss, trades.objective),
    "mart": Regime(mart.loss, pgd.objective),
    "awp": Regime(pgd.loss, pgd.objective, perturbs_weights=True),
    "trades-awp": Regime(trades.loss, trades.objective, perturbs_weights=True),
    "score": Regime(score.loss, score.objective),
}

"""Training regimes by name.

A regime is a loss, an objective of its inner attack, and two hooks for regimes that wrap the model.
To add one, write a file here, add a line to ``REGIMES``, and add its name to
``rift.config.names.RegimeName``. A regime with its own settings or its authors' recipe also has an
entry in ``rift.config.regimes``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rift.attacks.ascent import Objective
from rift.config import RegimeName, TrainingSettings
from rift.training.regimes import mart, pgd, score, standard, trades
from rift.training.regimes.unwrapped import state_of, unchanged


@dataclass(frozen=True)
class Regime:
    """A way to train a network.

    Attributes:
        loss: function of (model, images, adversarial images, labels, settings) that returns the
            mean loss of the batch and the logits from which accuracy is computed. Images are
            float32 in [0, 1], N×C×H×W.
        objective: function of (model, images, labels) that returns the quantity that the inner
            attack raises. The model is in eval mode. None means that there is no attack, and the
            adversarial images are the clean ones.
        perturbs_weights: whether the loss is computed at adversarially perturbed weights (AWP).
        kept_by: kind of accuracy that decides which epoch is kept.
        prepare: function of the model that returns the model to train.
        kept: function of the trained model that returns the state dict of the plain network to
            keep.
    """

    loss: Callable[[nn.Module, Tensor, Tensor, Tensor, TrainingSettings], tuple[Tensor, Tensor]]
    objective: Callable[[nn.Module, Tensor, Tensor], Objective] | None
    perturbs_weights: bool = False
    kept_by: Literal["adversarial", "standard"] = "adversarial"
    prepare: Callable[[nn.Module], nn.Module] = unchanged
    kept: Callable[[nn.Module], Mapping[str, Tensor]] = state_of


REGIMES: dict[RegimeName, Regime] = {
    "standard": Regime(standard.loss, None, kept_by="standard"),
    "pgd": Regime(pgd.loss, pgd.objective),
    "trades": Regime(trades.loss, trades.objective),
    "mart": Regime(mart.loss, pgd.objective),
    "awp": Regime(pgd.loss, pgd.objective, perturbs_weights=True),
    "trades-awp": Regime(trades.loss, trades.objective, perturbs_weights=True),
    "score": Regime(score.loss, score.objective),
}

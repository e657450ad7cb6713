"""A training regime of your own: adversarial logit pairing (Kannan et al. 2018).

A regime is a loss, and an objective that the inner attack raises. In Python, pass it to the
trainer. To choose it by name in experiment files, docs/extending.md shows where the file, its line
and its name belong.
"""

from robust_digits import ATTACK, images, robust_network
from torch import Tensor, nn
from torch.nn import functional as F

import rift
from rift.config import TrainingSettings
from rift.training.regimes import REGIMES, Regime

PAIRING = 0.5


def loss(
    model: nn.Module, clean: Tensor, attacked: Tensor, labels: Tensor, settings: TrainingSettings
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy under attack plus the distance of the logits, and the logits."""
    logits, clean_logits = model(attacked), model(clean)
    distance = (logits - clean_logits).square().mean()
    return F.cross_entropy(logits, labels) + PAIRING * distance, logits


regimes = {"pgd": REGIMES["pgd"], "logit pairing": Regime(loss, REGIMES["pgd"].objective)}
_, _, test = images()
for name, regime in regimes.items():
    outcomes = rift.evaluate(
        robust_network(regime), test, attack=ATTACK, pgd={"restarts": 1}, progress=False
    )
    accuracy = 100 * outcomes.mean()
    print(f"{name:<14} clean {accuracy['clean']:5.1f}%   PGD {accuracy['pgd']:5.1f}%")

"""A small robust network and its images, for the other examples.

Yours would come from a file. This one is trained here, against PGD, in a few seconds.
"""

from torch import nn

from rift import config, data, models
from rift.data.images import Images
from rift.training.regimes import REGIMES, Regime
from rift.training.trainer import train as train_against_attacks

ATTACK = {"eps": 0.15, "step": 0.05}
"""Threat model: each of the 8 × 8 pixels may change by 0.15 of the range from 0 to 1."""
AUGMENT = {"crop": 1, "flip": False}


def images() -> tuple[Images, Images, Images]:
    """Return images for training, for validation and for the test."""
    digits = data.prepare("digits", config.Data(validation=0.2, test=0.3))
    return digits.split("train"), digits.split("validation"), digits.split("test")


def robust_network(regime: Regime = REGIMES["pgd"], epochs: int = 4) -> nn.Module:
    """Return a network that was trained by a regime; it takes images in [0, 1]."""
    train, validation, _ = images()
    digits = data.prepare("digits", config.Data(validation=0.2, test=0.3))
    model = models.build("resnet8", classes=10, size=8, mean=digits.mean, std=digits.std)
    settings = config.TrainingSettings(
        attack=ATTACK, augment=AUGMENT, train={"epochs": epochs, "learning_rate": 0.05}
    )
    trained = train_against_attacks(
        model, train, validation, regime=regime, settings=settings, seed=0
    )
    model.load_state_dict(trained.state)
    return model.eval()

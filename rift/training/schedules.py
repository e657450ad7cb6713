"""Learning-rate schedules by name. Add yours to ``SCHEDULES`` and its name to ``rift.config.ScheduleName``."""

import math
from collections.abc import Callable

from rift.config import ScheduleName, Train


def step(settings: Train, done: float) -> float:
    """Divide by 10 at every milestone."""
    return settings.learning_rate * 0.1 ** sum(
        done > milestone for milestone in settings.milestones
    )


def cosine(settings: Train, done: float) -> float:
    """Follow half a cosine down to 0."""
    return settings.learning_rate * (1 + math.cos(math.pi * done / settings.epochs)) / 2


def one_cycle(settings: Train, done: float) -> float:
    """Rise from 0 over the first two fifths, then fall to 0, both in a straight line (Rice et al. 2020, "cyclic")."""
    share = done / settings.epochs
    return settings.learning_rate * min(share / 0.4, (1 - share) / 0.6)


SCHEDULES: dict[ScheduleName, Callable[[Train, float], float]] = {
    "step": step,
    "cosine": cosine,
    "one-cycle": one_cycle,
}
"""Functions of the settings and of the epochs done, the half of the present step among them, that give its learning rate."""

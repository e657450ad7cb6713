"""Learning-rate schedules by name.

To add one, write its function here, add it to ``SCHEDULES``, and add its name to
``rift.config.names.ScheduleName``. A schedule is a function of the settings and of the finished
epochs. The finished epochs include half of the present step.
"""

import math
from collections.abc import Callable

from rift.config import ScheduleName, Train


def step(settings: Train, done: float) -> float:
    """Return the learning rate, divided by 10 after every milestone."""
    return settings.learning_rate * 0.1 ** sum(
        done > milestone for milestone in settings.milestones
    )


def cosine(settings: Train, done: float) -> float:
    """Return a learning rate that follows half a cosine down to 0."""
    return settings.learning_rate * (1 + math.cos(math.pi * done / settings.epochs)) / 2


def one_cycle(settings: Train, done: float) -> float:
    """Return a learning rate that rises from 0 over the first two fifths and then falls to 0.

    Both parts are linear. This is the schedule "cyclic" of Rice et al. (2020).
    """
    share = done / settings.epochs
    return settings.learning_rate * min(share / 0.4, (1 - share) / 0.6)


SCHEDULES: dict[ScheduleName, Callable[[Train, float], float]] = {
    "step": step,
    "cosine": cosine,
    "one-cycle": one_cycle,
}

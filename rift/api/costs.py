"""The time that each step of RiFT takes, from the measured speed of a network."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift import config
from rift.api.given import Sections
from rift.criticality.modules import measured_modules
from rift.data.images import Images
from rift.models.modes import eager, inference
from rift.models.requirements import as_logits

BATCHES, LONG = (8, 32, 128), 1.0
"""Sizes of the measured batches; no larger one follows a pass of ``LONG`` seconds."""

REPEATS = 3

AUTOATTACK = (1900, 5900)
"""Passes back and forward of AutoAttack per image that survives all of it.

APGD takes 100 steps once and 100 towards each of 9 classes, FAB 100 towards each of 9 classes, and
Square asks 5,000 times.
"""


@dataclass(frozen=True)
class Amounts:
    """The numbers that decide how long RiFT takes.

    Attributes:
        criticality: images for MRC.
        finetune: images for fine-tuning.
        epochs: epochs of fine-tuning.
        selection: validation images for the selection of α.
        test: test images; 0 if there are none.
    """

    criticality: int
    finetune: int
    epochs: int
    selection: int
    test: int

    def scaled(self, share: float) -> "Amounts":
        """Return a share of all numbers, but at least the smallest sensible ones.

        Fewer epochs come before fewer images for fine-tuning.
        """

        def some(name: str) -> int:
            most, least = int(getattr(self, name)), int(getattr(LEAST, name))
            return min(most, max(int(share * most), least))

        passes = share * self.epochs * self.finetune
        epochs = min(self.epochs, max(LEAST.epochs, -int(-share * self.epochs // 1)))
        images = min(self.finetune, max(LEAST.finetune, int(passes / epochs)))
        return Amounts(some("criticality"), images, epochs, some("selection"), some("test"))

    def __str__(self) -> str:
        parts = [
            f"{self.criticality:,} images for criticality",
            f"{self.epochs} epochs on {self.finetune:,} images",
            f"{self.selection:,} images for the selection",
            *([f"{self.test:,} test images"] if self.test else []),
        ]
        return ", ".join(parts)


LEAST = Amounts(criticality=100, finetune=1000, epochs=2, selection=200, test=200)
"""The smallest sensible numbers, where the sets have as many images.

With fewer images, MRC, accuracy and its changes would be within chance of each other.
"""


@dataclass(frozen=True)
class Speed:
    """The speed of a network, in seconds per image.

    Attributes:
        forward: a pass forward.
        both: a pass forward and back.
    """

    forward: float
    both: float

    def __str__(self) -> str:
        return f"{1e3 * self.forward:.3g} ms per image forward, {1e3 * self.both:.3g} ms with back"

    def of(self, back: float, forward: float) -> float:
        """Return the seconds of passes forward and back, and of others that are only forward."""
        return back * self.both + forward * self.forward


@dataclass(frozen=True)
class Costs:
    """The seconds that each step takes, as it depends on the numbers of images.

    Attributes:
        trials: criticality, for any number of images.
        criticality: criticality, per image.
        epoch: fine-tuning, per epoch.
        tuning: fine-tuning, per image and epoch.
        selection: sweep, per image.
        test: evaluation of both networks, per image.
    """

    trials: float
    criticality: float
    epoch: float
    tuning: float
    selection: float
    test: float

    def of(self, amounts: Amounts) -> float:
        """Return the seconds of all steps."""
        return (
            self.trials
            + self.criticality * amounts.criticality
            + amounts.epochs * (self.epoch + self.tuning * amounts.finetune)
            + self.selection * amounts.selection
            + self.test * amounts.test
        )


def costs_of(
    speed: Speed,
    starts: Mapping[str, float],
    sections: Sections,
    validation: int,
    *,
    autoattack: bool,
) -> Costs:
    """Return the seconds that each step takes at most, if every image survives every attack.

    Args:
        speed: measured speed of the network.
        starts: share of a pass that comes before each module.
        sections: settings of all steps.
        validation: number of validation images, on which every epoch is measured.
        autoattack: whether AutoAttack is run, too.
    """
    attack = sections.attack.steps
    trials, criticality = criticality_costs(speed, starts, sections.criticality)
    restarts = sections.interpolate.restarts
    alphas = len(sections.interpolate.alphas)
    test = speed.of(sections.pgd.restarts * attack, 2 + sections.pgd.restarts)
    if autoattack:
        test += speed.of(*AUTOATTACK)
    return Costs(
        trials=trials,
        criticality=speed.of(attack, 0) + criticality,
        epoch=validation * speed.forward,
        tuning=speed.both,
        selection=alphas * speed.of(restarts * attack, 2 + restarts),
        test=2 * test,
    )


def criticality_costs(
    speed: Speed, starts: Mapping[str, float], settings: config.Criticality
) -> tuple[float, float]:
    """Return the seconds of a search for all modules: for any number of images, and per image.

    The layers before a module are computed once per image, and the others in every pass.
    docs/criticality.md counts the passes.
    """
    once, rest = sum(starts.values()), sum(1 - start for start in starts.values())
    centre = speed.both
    if settings.method == "gradient":
        return 0.0, 2 * centre
    if settings.method == "published":
        passes = speed.of(settings.epochs, settings.epochs)
        return 0.0, centre + once * speed.forward + rest * passes
    if settings.method == "race":
        # At most, if no module can be dropped: the rounds before the last one have as many images
        # as all together.
        passes = speed.of(2 * settings.passes + 3, 4)
        return rest * _trial(speed, settings), 2 * (centre + once * speed.forward) + rest * passes
    passes = speed.of(settings.passes, 3)
    return rest * _trial(speed, settings), centre + once * speed.forward + rest * passes


def _trial(speed: Speed, settings: config.Criticality) -> float:
    """Return the seconds of a trial of starts, as if a whole pass had to be computed."""
    # A pass gives the directions of all starts; each is tried, and a third are tried again.
    tried = settings.restarts
    trial = speed.of(2 * tried + 1, -(-tried // 3) + 1 - tried) if tried else 0.0
    return trial * settings.trial_images


def measured_speed(network: nn.Module, images: Images) -> tuple[Speed, dict[str, float]]:
    """Measure a network for a few seconds, on the largest batch that does not take long.

    Args:
        network: network in any mode; it is restored.
        images: images for the passes, on the device of the network.

    Returns:
        The speed, and the share of a pass that comes before each measured module.
    """
    with inference(network), eager(network):
        forward = both = 0.0
        for size in BATCHES:
            batch = images.up_to(size)
            pixels, labels = batch.floats(), batch.labels
            forward = _seconds(partial(_pass, network, pixels)) / len(batch)
            both = _seconds(partial(_gradient, network, pixels, labels)) / len(batch)
            if both * len(batch) > LONG or len(batch) < size:
                break
        return Speed(forward, max(both, forward)), _starts(network, pixels)


@torch.no_grad()
def _pass(network: nn.Module, pixels: Tensor) -> None:
    network(pixels)


def _gradient(network: nn.Module, pixels: Tensor, labels: Tensor) -> None:
    point = pixels.detach().requires_grad_()
    torch.autograd.grad(F.cross_entropy(as_logits(network(point)), labels), point)


def _seconds(call: Callable[[], None]) -> float:
    """Return the median time of some calls; the first one prepares, unless it takes long."""
    times: list[float] = []
    for _ in range(1 + REPEATS):
        before = _now()
        call()
        times.append(_now() - before)
        if times[-1] > LONG:
            break
    return median(times[1:] or times)


def _now() -> float:
    """Return the time at which the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _starts(network: nn.Module, pixels: Tensor) -> dict[str, float]:
    """Return the share of a pass that comes before each measured module; 0 if it is not called."""
    modules = measured_modules(network)
    began: dict[str, float] = {}

    def note(name: str, _module: nn.Module, _given: object) -> None:
        began.setdefault(name, _now())

    hooks = [
        module.register_forward_pre_hook(partial(note, name)) for name, module in modules.items()
    ]
    try:
        first = _now()
        _pass(network, pixels)
        whole = _now() - first
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (began.get(name, first) - first) / whole for name in modules}

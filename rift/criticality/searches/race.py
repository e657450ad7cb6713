"""A race: all modules on a few images, and ever fewer modules on ever more images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rift.config import Criticality
from rift.criticality.ascent import BEGIN, best_of_paths, distance_to_upper_end, one_path
from rift.criticality.moving import Examples, Moving, Outcome
from rift.criticality.rows import allowed
from rift.criticality.search import Ball, LossRise, check_finite
from rift.criticality.standing import Standing, errors_for, is_settled, surely_above
from rift.criticality.table import Place
from rift.progress import Progress
from rift.seeds import generator

# Measurements chose these constants; docs/criticality.md shows them.
FIRST_IMAGES = 50
"""Smallest number of images of the first round."""

LEAST_BATCH = 32
"""Smallest number of images that a step takes its gradient from."""

MISSED, MISSED_AT_THE_END, MISSED_AT_THE_TOP = 0.25, 0.02, 1.0
"""Share of its rise that a search may have missed: that of a round, that of a search to the end,
and that of a round where a module may be the most critical."""

UPPER_IMAGES = 64
"""Largest number of images for the estimate of the upper side."""


@dataclass
class Runner:
    """A module in the race.

    Attributes:
        name: name of the module.
        weight: its weight.
        ball: ball that the weight stays in.
        at: Δθ of the largest loss that was found.
        outcome: outcome there, on the images of its last round.
        standing: rises of the loss, on the same images.
        least: whether it may still be one of the least critical modules.
        most: whether it may still be one of the most critical modules.
        candidate: whether the settings allow it as one of the least critical modules.
        upper: estimate of its largest rise, in nats.
    """

    name: str
    weight: nn.Parameter
    ball: Ball
    at: Tensor
    outcome: Outcome
    standing: Standing
    least: bool
    most: bool
    candidate: bool
    upper: float = float("nan")


class Race:
    """A race of modules on nested parts of the images.

    Args:
        examples: network and adversarial examples, in an order in which every part contains the
            classes in about the shares of the whole.
        weights: weights by module.
        settings: settings of the race and of its searches.
        seed: seed of the random starts; every module has its own stream.
        progress: called after every module.

    Attributes:
        base: outcome of the network itself on the images of the present round.
        runners: all modules, in the order of the weights.
    """

    def __init__(
        self,
        examples: Examples,
        weights: Mapping[str, nn.Parameter],
        settings: Criticality,
        seed: int,
        progress: Progress,
    ) -> None:
        self._examples, self._settings, self._seed = examples, settings, seed
        self._sizes = rounds_of(examples.count, settings.first_images or FIRST_IMAGES)
        self._round, self._progress = 0, progress
        self._least, self._most = settings.least or (1,), settings.most or 0
        # Every module is compared in every round except the first.
        self._errors = errors_for(len(weights) * max(1, len(self._sizes) - 1))
        self._part, self._new = self._images()
        self.base = self._centre()
        sizes = [weight.numel() for weight in weights.values()]
        places = allowed(sizes, settings.least_share or 0, settings.part or (0, 1))
        self.runners = [
            Runner(
                name,
                weight,
                Ball.around(weight.detach(), settings),
                torch.zeros_like(weight.detach()),
                self.base,
                Standing.unknown(),
                least=place in places,
                most=self._most > 0,
                candidate=place in places,
            )
            for place, (name, weight) in enumerate(weights.items())
        ]

    @property
    def count(self) -> int:
        """Return the number of images of the present round."""
        return self._sizes[self._round]

    def run(self) -> None:
        """Run the race until the choice is settled, or all images are used."""
        self._run_round()
        while not self._is_last and not self._finished():
            self._round += 1
            self._part, self._new = self._images()
            self.base = _joined(self.base, self._centre())
            self._run_round()
        for runner in self.chosen(-1) + self.chosen(1):
            runner.upper = self._upper(runner)
        settled = "settled" if self._is_settled() else "not settled"
        rounds = len(self._sizes)
        self._progress(rounds, rounds, f"choice {settled} on {self.count} images")

    def results(self) -> tuple[Outcome, dict[str, LossRise]]:
        """Return the network's outcome, and the rise for every module, for all images.

        Losses and rises are NaN for images on which they were not measured.
        """
        base = self._of_all(self.base)
        return base, {runner.name: self._result(runner) for runner in self.runners}

    def _result(self, runner: Runner) -> LossRise:
        rises = self._of_all(Outcome(runner.standing.found, runner.outcome.correct))
        least, most = self.chosen(-1), self.chosen(1)
        # With a single round, every module was measured to the end.
        settled = len(self._sizes) == 1 or runner in least or runner in most
        place = Place(settled, runner.upper)
        if not settled and runner.candidate:
            place = replace(place, at_least=least[-1].standing.mrc)
        if not settled and most:
            place = replace(place, at_most=most[-1].standing.mrc)
        return LossRise(rises.losses, torch.ones_like(rises.losses), rises.correct, place)

    def _of_all(self, outcome: Outcome) -> Outcome:
        """Return an outcome of the first images of the race as one of all images."""
        order = self._examples.order
        losses = outcome.losses.new_full((len(order),), torch.nan)
        correct = torch.zeros_like(order, dtype=torch.bool)
        some = order[: len(outcome.losses)]
        losses[some], correct[some] = outcome.losses, outcome.correct
        return Outcome(losses, correct)

    def chosen(self, end: int) -> list[Runner]:
        """Return the modules that are chosen, from the end of the order inwards.

        Args:
            end: −1 for the least critical modules, 1 for the most critical ones.
        """
        return self._racing(end)[: max(self._least) if end < 0 else self._most]

    def _racing(self, end: int) -> list[Runner]:
        """Return the modules that may still be chosen at an end, from this end inwards."""
        racing = [each for each in self.runners if (each.least if end < 0 else each.most)]
        return sorted(racing, key=lambda each: each.standing.mrc, reverse=end > 0)

    @property
    def _is_last(self) -> bool:
        return self._round + 1 == len(self._sizes)

    def _images(self) -> tuple[Examples, range]:
        """Return the images of the present round, and the numbers of the batches of new ones."""
        before = self._sizes[self._round - 1] if self._round else 0
        size = max(LEAST_BATCH, -(-self.count // self._settings.steps))
        size = min(size, self._settings.batch_size)
        old, new = _evenly(before, size), _evenly(self.count - before, size)
        return self._examples.part(0, old + new), range(len(old), len(old) + len(new))

    def _centre(self) -> Outcome:
        """Return the outcome of the network itself on the new images of the present round.

        Raises:
            RiftError: the network returns NaN or infinity for some of them.
        """
        sizes = [len(self._part.batches[number][1]) for number in self._new]
        fresh = self._examples.part(self.count - sum(sizes), sizes)
        with torch.no_grad():
            found = fresh.outcome(fresh.whole_passes())
        check_finite(found)
        return found

    def _run_round(self) -> None:
        """Measure the modules that may still be chosen on the images of the present round.

        The modules that would be chosen now come first. A module that is surely not chosen, by the
        point of its round before, is not searched again.
        """
        racing = [each for each in self.runners if self._round == 0 or each.least or each.most]
        first = self.chosen(-1) + self.chosen(1) if self._round else []
        rest = [each for each in racing if each not in first]
        searched: list[Runner] = []
        for number, runner in enumerate(first + rest, start=1):
            with self._part.moving(runner.weight) as moving:
                if self._round:
                    self._evaluate(moving, runner)
                if self._round and runner not in first:
                    runner.least = runner.least and not self._is_beaten(runner, searched)
                if self._round == 0 or runner.least or runner.most:
                    self._search(moving, runner, to_the_end=self._is_last)
                    searched.append(runner)
            done = self._round + number / (len(racing) + 1)
            self._progress(done, len(self._sizes), self._note(runner), mrc=runner.standing.mrc)
        self._drop()

    def _is_beaten(self, runner: Runner, by: Sequence[Runner]) -> bool:
        """Return whether a module is surely more critical than as many as are chosen."""
        less = sum(surely_above(runner.standing, each.standing, self._errors) for each in by)
        return less >= max(self._least)

    def _drop(self) -> None:
        """Drop modules that are surely not chosen, by the searches of all of this round."""
        low, high = self._racing(-1), self.chosen(1)
        for runner in low[max(self._least) :]:
            runner.least = not self._is_beaten(runner, low)
        for runner in self._racing(1)[self._most :]:
            runner.most = not all(self._surely_most(each, runner) for each in high)

    def _surely_most(self, runner: Runner, other: Runner) -> bool:
        """Return whether a module is surely more critical than another, among the most critical."""
        standing = replace(other.standing, missed=MISSED_AT_THE_TOP)
        return surely_above(runner.standing, standing, self._errors)

    def _is_settled(self) -> bool:
        """Return whether no module that is not chosen can surely be excluded at either end."""
        low, high = self._racing(-1), self._racing(1)
        return is_settled(
            len(low),
            self._least,
            lambda other, first: surely_above(
                low[other].standing, low[first].standing, self._errors
            ),
        ) and is_settled(
            len(high),
            [self._most] if self._most else [],
            lambda other, first: self._surely_most(high[first], high[other]),
        )

    def _finished(self) -> bool:
        """Search the chosen modules to the end if they are settled; return whether they stay so."""
        if not self._is_settled():
            return False
        for runner in self.chosen(-1) + self.chosen(1):
            with self._part.moving(runner.weight) as moving:
                self._search(moving, runner, to_the_end=True)
        return self._is_settled()

    def _evaluate(self, moving: Moving, runner: Runner) -> None:
        """Evaluate the point of the round before on all images of the present round."""
        moving.move(runner.at)
        with torch.no_grad():
            found = [moving.evaluate(number) for number in self._new]
        losses = torch.cat([losses for losses, _ in found])
        hits = [
            logits.argmax(1) == moving.examples.batches[number][1]
            for number, (_, logits) in zip(self._new, found, strict=True)
        ]
        fresh = Outcome(losses, torch.cat(hits))
        runner.outcome = _joined(runner.outcome, fresh)
        rises = self._rises(runner.outcome)
        runner.standing = Standing(rises, rises, MISSED)

    def _search(self, moving: Moving, runner: Runner, *, to_the_end: bool) -> None:
        """Search the ball of a module on the images of the present round.

        The search goes on from the highest point so far, and to the end from other starts, too.
        """
        ball, at, settings = runner.ball, runner.at, self._settings
        begin = 1 if self._round else BEGIN
        if to_the_end:
            random = self._random("criticality of", runner)
            ends = best_of_paths(moving, ball, at, begin, settings, random)
        else:
            # From the centre the way is longer than from the point of an earlier round.
            passes = 1 if self._round else settings.passes - 1
            ends = one_path(moving, ball, at, begin, settings, passes=passes)
        known = [(self.base, torch.zeros_like(at)), (runner.outcome, at)]
        found = max([*known, *ends], key=lambda each: each[0].loss)
        runner.outcome, runner.at = found
        missed = MISSED_AT_THE_END if to_the_end else MISSED
        runner.standing = Standing(self._rises(found[0]), runner.standing.before, missed)

    def _upper(self, runner: Runner) -> float:
        """Return an estimate of the largest rise in the ball of a module, in nats."""
        part = self._examples.part(0, _evenly(min(self.count, UPPER_IMAGES), LEAST_BATCH))
        random = self._random("upper side of", runner)
        with part.moving(runner.weight) as moving:
            distance = distance_to_upper_end(moving, runner.ball, runner.at, self._settings, random)
        return runner.standing.mrc + distance

    def _random(self, purpose: str, runner: Runner) -> torch.Generator:
        return generator(self._seed, f"{purpose} {runner.name}", runner.weight.device)

    def _rises(self, outcome: Outcome) -> Tensor:
        return outcome.losses.double() - self.base.losses.double()

    def _note(self, runner: Runner) -> str:
        if self._round == 0 or runner.least or runner.most:
            return ""
        return f"{runner.name}: not among the chosen, after {self.count} images"


def race(
    examples: Examples,
    weights: Mapping[str, nn.Parameter],
    settings: Criticality,
    seed: int,
    progress: Progress,
) -> tuple[Outcome, dict[str, LossRise]]:
    """Return the network's outcome, and the rise for every module.

    All modules are searched on a few images. Those that can still be chosen are searched again on
    twice as many, from the point of the round before, and so on. The race ends when the choice is
    settled at 95%, or all images are used. The chosen modules are then searched to the end.

    Args:
        examples: network and adversarial examples.
        weights: weights by module.
        settings: numbers of chosen modules, and settings of the searches.
        seed: seed of the random starts; every module has its own stream.
        progress: called after every module of every round.
    """
    this = Race(examples, weights, settings, seed, progress)
    this.run()
    return this.results()


def rounds_of(count: int, least: int) -> list[int]:
    """Return the numbers of images of the rounds, from at least ``least`` images to all of them.

    Every round has about twice the images of the round before.
    """
    sizes = [count]
    while -(-sizes[0] // 2) >= least and sizes[0] > 1:
        sizes.insert(0, -(-sizes[0] // 2))
    return sizes


def _evenly(count: int, size: int) -> list[int]:
    """Return the sizes of batches of at most ``size`` images that differ by one at most."""
    return (
        [len(each) for each in torch.arange(count).tensor_split(-(-count // size))] if count else []
    )


def _joined(first: Outcome, second: Outcome) -> Outcome:
    return Outcome(
        torch.cat([first.losses, second.losses]), torch.cat([first.correct, second.correct])
    )

"""Compare each number with a closed form, a sum over all outcomes or a simulation."""

from itertools import combinations_with_replacement, product
from math import comb

import numpy as np
import pytest
from scipy import stats

from rift.errors import RiftError
from rift.reporting.tables.table import is_distinguishable
from rift.statistics import (
    accuracy,
    exact_test,
    least_distinguishable,
    mcnemar,
    over_seeds,
    paired_delta,
    wilson,
)


def test_accuracy_is_mean_and_deviation_over_seeds() -> None:
    found = accuracy(np.array([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=float))
    assert (found.mean, found.seeds, found.images) == (62.5, 2, 4)
    assert found.sd == pytest.approx(np.std([50, 75], ddof=1))
    assert np.isnan([found.low, found.high]).all()
    assert np.isnan(accuracy(np.ones((1, 3))).sd)


@pytest.mark.parametrize(("passed", "images"), [(0, 20), (36, 100), (9_000, 10_000), (50, 50)])
def test_wilson_is_its_closed_form(passed: int, images: int) -> None:
    share, z2 = passed / images, stats.norm.ppf(0.975) ** 2
    centre = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = np.sqrt(z2 * share * (1 - share) / images + z2**2 / (4 * images**2)) / (1 + z2 / images)
    expected = pytest.approx((100 * (centre - half), 100 * (centre + half)), abs=1e-9)
    assert wilson(passed, images) == expected
    found = accuracy((np.arange(images) < passed).astype(float)[None])
    assert (found.low, found.high) == expected


def test_a_mean_of_several_outcomes_an_image_has_a_bootstrap_instead() -> None:
    scores = np.random.default_rng(0).beta(3, 1, size=(1, 2000))
    found = accuracy(scores)
    half = 1.96 * 100 * scores.std() / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), abs=0.06
    )


def test_an_interval_is_that_of_the_binomial_where_a_variant_only_gains() -> None:
    """The sum of a resample is binomial, so its quantiles have a closed form."""
    images, gained = 400, 24
    base = np.zeros((1, images))
    variant = (np.arange(images) < gained).astype(float)[None]
    delta = paired_delta(base, variant)
    expected = tuple(
        100 * stats.binom.ppf(tail, images, gained / images) / images for tail in (0.025, 0.975)
    )
    assert delta.mean == pytest.approx(100 * gained / images)
    # With 9,999 resamples, the limits are exact to one image.
    assert (delta.low, delta.high) == pytest.approx(expected, abs=0.26)


def test_an_interval_is_that_of_the_normal_approximation_where_there_are_many_images() -> None:
    """The standard error of the mean of 4,000 independent differences has a closed form."""
    rng = np.random.default_rng(1)
    base, variant = rng.random((1, 4000)) < 0.80, rng.random((1, 4000)) < 0.83
    delta = paired_delta(base.astype(float), variant.astype(float))
    difference = 100 * (variant.astype(float) - base)
    half = 1.96 * difference.std() / np.sqrt(4000)
    assert delta.mean == pytest.approx(difference.mean())
    assert delta.low == pytest.approx(difference.mean() - half, abs=0.1)
    assert delta.high == pytest.approx(difference.mean() + half, abs=0.1)


def test_an_interval_is_that_of_scipy_up_to_what_resampling_leaves_to_chance() -> None:
    rng = np.random.default_rng(3)
    base = rng.integers(0, 46, (3, 500)) / 45
    variant = np.clip(base + rng.integers(-2, 4, (3, 500)) / 45, 0, 1)
    found = paired_delta(base, variant)
    theirs = stats.bootstrap(
        (100 * (variant - base).mean(axis=0),),
        np.mean,
        method="percentile",
        rng=np.random.default_rng(9),
    ).confidence_interval
    # The interval has a width of 0.24.
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.012)


@pytest.mark.parametrize(
    ("images", "changed", "gain"), [(300, 0.1, 0.9), (300, 0.1, 0.7), (2000, 0.02, 0.6)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    images: int, changed: float, gain: float
) -> None:
    rng = np.random.default_rng(2)
    truth = 100 * changed * (gain - 0.7)
    hits = 0
    for _ in range(400):
        base = (rng.random((2, images)) < 0.7).astype(float)
        other = (rng.random((2, images)) < gain).astype(float)
        delta = paired_delta(base, np.where(rng.random((2, images)) < changed, other, base))
        hits += delta.low <= truth <= delta.high
    # The tolerance is three standard errors, and 1% because few images change.
    assert abs(hits - 380) <= 3 * np.sqrt(400 * 0.95 * 0.05) + 4


def test_pairing_makes_equal_outcomes_differ_by_nothing() -> None:
    scores = (np.random.default_rng(0).random((2, 50)) < 0.5).astype(float)
    assert paired_delta(scores, scores) == (0, 0, 0)
    assert not paired_delta(scores, scores).excludes_zero
    assert exact_test(scores, scores) == (1.0, (1.0, 1.0), 0, 0)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 0), (3, 9), (40, 40), (120, 90)])
def test_mcnemar_is_the_sum_over_the_binomial(gained: int, lost: int) -> None:
    total, least = gained + lost, min(gained, lost)
    expected = min(1.0, 2 * sum(comb(total, number) for number in range(least + 1)) / 2**total)
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    base, variant = np.zeros((1, 400)), np.zeros((1, 400))
    variant[0, :gained] = base[0, 200 : 200 + lost] = 1
    # Images that both pass give no information.
    base[0, 350:] = variant[0, 350:] = 1
    found = exact_test(base, variant)
    assert (found.p, *found.by_seed) == pytest.approx((expected, expected), rel=1e-9)
    assert (found.gained, found.lost) == (gained, lost)


def test_the_test_of_several_seeds_goes_through_every_sign() -> None:
    """For eleven images, p is the share of the 2^11 sign choices with a sum at least as extreme."""
    rng = np.random.default_rng(4)
    base, variant = rng.random((3, 11)) < 0.3, rng.random((3, 11)) < 0.7
    found = exact_test(base.astype(float), variant.astype(float))
    net = variant.sum(axis=0) - base.sum(axis=0)
    sums = np.array([np.dot(signs, net) for signs in product((-1, 1), repeat=len(net))])
    assert found.p == pytest.approx(np.mean(np.abs(sums) >= abs(net.sum())))
    assert 0.001 < found.p < 0.5
    for seed in range(3):
        gained, lost = (variant[seed] & ~base[seed]).sum(), (base[seed] & ~variant[seed]).sum()
        assert found.by_seed[seed] == pytest.approx(mcnemar(int(gained), int(lost)))


def test_seeds_that_repeat_each_other_are_no_further_evidence() -> None:
    rng = np.random.default_rng(5)
    base, variant = ((rng.random((1, 300)) < share).astype(float) for share in (0.70, 0.76))
    once, thrice = (
        exact_test(base, variant),
        exact_test(base.repeat(3, axis=0), variant.repeat(3, axis=0)),
    )
    assert thrice.p == pytest.approx(once.p)


def test_the_test_is_right_as_often_as_it_says_where_nothing_differs() -> None:
    """The outcomes of two seeds are correlated, like those of difficult images."""
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(400):
        difficulty = rng.random(200)
        base, variant = ((rng.random((2, 200)) < difficulty).astype(float) for _ in range(2))
        wrong += exact_test(base, variant).p <= 0.05
    assert wrong <= 20 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_a_difference_is_distinguishable_by_its_interval_and_the_exact_test() -> None:
    """Four of a hundred images change, and all are gained.

    The bootstrap interval excludes zero, but chance gives such a result one time in eight.
    """
    base, variant = np.zeros((1, 100)), (np.arange(100) < 4).astype(float)[None]
    delta, test = paired_delta(base, variant), exact_test(base, variant)
    assert delta.excludes_zero
    assert test.p == pytest.approx(0.125)
    assert not is_distinguishable(delta, test.p)
    # NaN means that there is no test.
    assert is_distinguishable(delta, float("nan"))
    assert is_distinguishable(delta, 0.05)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_no_change_below_the_least_distinguishable_one_is_ever_confirmed(level: float) -> None:
    images, seeds = 6, 2
    confirmed = []
    # Every net change of six images under two seeds; their order does not matter.
    for changes in combinations_with_replacement(range(-seeds, seeds + 1), images):
        base, variant = np.zeros((2, seeds, images))
        for image, change in enumerate(changes):
            (variant if change > 0 else base)[: abs(change), image] = 1
        if exact_test(base, variant).p <= level:
            confirmed.append(100 * abs(sum(changes)) / (images * seeds))
    assert min(confirmed) == pytest.approx(least_distinguishable(images, seeds, level))


def test_the_interval_over_seeds_is_student_s() -> None:
    low, high = over_seeds(np.array([80.0, 81.0, 82.5]))
    mean, error = 81.1666667, np.std([80.0, 81.0, 82.5], ddof=1) / np.sqrt(3)
    assert (low, high) == pytest.approx(
        (mean - 4.302653 * error, mean + 4.302653 * error), abs=1e-5
    )
    assert over_seeds(np.array([80.0, 80.0])) == (80, 80)


def test_what_cannot_be_paired_or_tested_is_refused() -> None:
    for compare in (paired_delta, exact_test):
        with pytest.raises(RiftError, match="cannot be paired; evaluate both"):
            compare(np.ones((2, 50)), np.ones((2, 49)))
    with pytest.raises(RiftError, match="needs outcomes that are 0 or 1"):
        exact_test(np.full((1, 5), 0.5), np.ones((1, 5)))

from itertools import pairwise

import torch
from torch import nn

from rift.config import Attack, AutoAttack
from rift.data.split import Split
from rift.evaluation.accuracy import correct, percent, withstands_pgd
from rift.evaluation.autoattack import ATTACKS, withstands_autoattack
from rift.seeds import generator


def test_outcomes_do_not_depend_on_batches(prepared_model: nn.Module, digits: Split) -> None:
    """More images than fit a batch, against all at once."""
    assert len(digits.labels) > 500
    with torch.no_grad():
        expected = prepared_model(digits.images.float() / 255).argmax(1) == digits.labels
    assert torch.equal(correct(prepared_model, digits), expected)
    assert percent(expected) == 100 * expected.sum().item() / len(expected)


def test_autoattack_is_at_least_as_strong_as_pgd(prepared_model: nn.Module, digits: Split) -> None:
    few = Split(digits.images[:24], digits.labels[:24])
    state = torch.random.get_rng_state()
    after = withstands_autoattack(prepared_model, few, AutoAttack(), eps=0.06, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert tuple(after) == ATTACKS
    clean = correct(prepared_model, few)
    pgd = withstands_pgd(
        prepared_model, few, Attack(eps=0.06, step=0.015, steps=10), restarts=3, generator=generator(0, "test")
    )
    stages = [clean, *after.values()]
    assert all(not (later & ~earlier).any() for earlier, later in pairwise(stages))
    assert after["square"].sum() <= pgd.sum()
    assert 0 < after["square"].sum() < clean.sum()

    again = withstands_autoattack(prepared_model, few, AutoAttack(), eps=0.06, seed=0)
    assert all(torch.equal(again[name], after[name]) for name in ATTACKS)


def test_autoattack_bears_a_model_with_nothing_left_to_break(prepared_model: nn.Module, digits: Split) -> None:
    wrong = (prepared_model(digits.images[:200].float() / 255).argmax(1) + 1) % 10
    after = withstands_autoattack(prepared_model, Split(digits.images[:200], wrong), AutoAttack(), eps=0.1, seed=0)
    assert not after["square"].any()


def test_purposes_draw_different_numbers() -> None:
    def draw(seed: int, purpose: str) -> float:
        return torch.rand(1, generator=generator(seed, purpose)).item()

    assert draw(0, "sweep") == draw(0, "sweep")
    assert len({draw(seed, purpose) for seed in (0, 1) for purpose in ("sweep", "checkpoint selection")}) == 4

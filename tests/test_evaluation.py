from itertools import pairwise

import pytest
import torch
from torch import nn

from rift import models
from rift.config import Attack, AutoAttack
from rift.data.split import Split, to_float
from rift.errors import RiftError
from rift.evaluation.accuracy import correct, percent, withstands_pgd
from rift.evaluation.autoattack import ATTACKS, withstands_autoattack
from rift.models.modes import snapshot
from rift.seeds import generator


def test_outcomes_do_not_depend_on_batches(prepared_model: nn.Module, digits: Split) -> None:
    """More images than fit a batch, against all at once."""
    assert len(digits.labels) > 500
    with torch.no_grad():
        expected = prepared_model(digits.images.float() / 255).argmax(1) == digits.labels
    assert torch.equal(correct(prepared_model, digits), expected)
    assert percent(expected) == 100 * expected.sum().item() / len(expected)


def test_outcomes_do_not_depend_on_the_mode_that_the_model_is_left_in(prepared_model: nn.Module, digits: Split) -> None:
    few = Split(digits.images[:64], digits.labels[:64])
    attack = Attack(eps=0.05, step=0.02, steps=3)

    def outcomes() -> list[bool]:
        starts = generator(0, "test")
        withstood = withstands_pgd(prepared_model, few, attack, restarts=2, generator=starts)
        return [*correct(prepared_model, few).tolist(), *withstood.tolist()]

    before = snapshot(prepared_model)
    expected = outcomes()
    prepared_model.train()
    try:
        assert outcomes() == expected
        assert prepared_model.training
    finally:
        prepared_model.eval()
    assert all(torch.equal(value, before[name]) for name, value in prepared_model.state_dict().items())


class FewClasses(nn.Module):
    """The first classes of another model."""

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)[:, : self.classes]
        return logits


def test_autoattack_works_with_fewer_than_ten_classes(prepared_model: nn.Module, digits: Split) -> None:
    five = torch.nonzero(digits.labels < 5)[:12, 0]
    data = Split(digits.images[five], digits.labels[five])
    model = FewClasses(prepared_model, 5)
    after = withstands_autoattack(model, data, AutoAttack(batch_size=5), eps=0.06, seed=0)
    assert after["square"].sum() < correct(model, data).sum()
    with pytest.raises(RiftError, match="wants at least 4 classes; the model has 3"):
        withstands_autoattack(FewClasses(prepared_model, 3), data, AutoAttack(), eps=0.06, seed=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_outcomes_are_those_of_the_cpu_on_a_gpu_too(prepared_model: nn.Module, digits: Split) -> None:
    few = Split(digits.images[:32], digits.labels[:32])
    expected = correct(prepared_model, few)
    try:
        prepared_model.cuda()
        there = Split(few.images.cuda(), few.labels.cuda())
        assert torch.equal(correct(prepared_model, there).cpu(), expected)
        starts = generator(0, "test", "cuda")
        withstands_pgd(prepared_model, there, Attack(eps=0.06), restarts=2, generator=starts)
        withstands_autoattack(prepared_model, there, AutoAttack(), eps=0.06, seed=0)
    finally:
        prepared_model.cpu()


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


def test_autoattack_takes_colour_images_that_lie_channels_last() -> None:
    model = models.build("resnet8", classes=5, size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model.eval()(to_float(images)).argmax(1)
    outcomes = withstands_autoattack(model, Split(images, labels), AutoAttack(), eps=1e-4, seed=0)
    # So small a step changes no decision that is not on the edge: all four attacks have run to their end.
    assert all(withstood.sum() >= 3 for withstood in outcomes.values())


def test_autoattack_bears_a_model_with_nothing_left_to_break(prepared_model: nn.Module, digits: Split) -> None:
    wrong = (prepared_model(digits.images[:200].float() / 255).argmax(1) + 1) % 10
    after = withstands_autoattack(prepared_model, Split(digits.images[:200], wrong), AutoAttack(), eps=0.1, seed=0)
    assert not after["square"].any()


def test_purposes_draw_different_numbers() -> None:
    def draw(seed: int, purpose: str) -> float:
        return torch.rand(1, generator=generator(seed, purpose)).item()

    assert draw(0, "sweep") == draw(0, "sweep")
    assert len({draw(seed, purpose) for seed in (0, 1) for purpose in ("sweep", "checkpoint selection")}) == 4

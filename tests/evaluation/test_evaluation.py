import logging
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rift import artifacts, models
from rift.commands.evaluate import (
    Crosscheck,
    EvaluateAdversarial,
    EvaluateOod,
    EvaluateStandard,
    MergeAdversarial,
)
from rift.config import Attack, AutoAttack, Evaluate, Pgd
from rift.data.corruptions import files
from rift.data.images import Images
from rift.data.prepared import Prepared
from rift.errors import RiftError
from rift.evaluation import robustbench
from rift.evaluation.accuracy import correct, percent, refuse_non_finite, withstands_pgd
from rift.evaluation.autoattack import evaluate_autoattack
from rift.evaluation.blocks import AttackProgress, Shard, Share
from rift.evaluation.pgd import evaluate_pgd
from rift.evaluation.robustbench import Benchmark
from rift.evaluation.stages import UNKNOWN, join, stages, survived
from rift.models import checkpoint
from rift.models.state import snapshot
from rift.seeds import generator
from rift.thirdparty import prepare_robustbench, redirect_messages


def test_outcomes_do_not_depend_on_batches(prepared_model: nn.Module, digits: Images) -> None:
    """Several batches give the same result as all images at once."""
    assert len(digits.labels) > 500
    with torch.no_grad():
        expected = prepared_model(digits.floats()).argmax(1) == digits.labels
    assert torch.equal(correct(prepared_model, digits), expected)
    assert percent(expected) == 100 * expected.sum().item() / len(expected)


def test_outcomes_do_not_depend_on_the_mode_that_the_model_is_left_in(
    prepared_model: nn.Module, digits: Images
) -> None:
    few = digits.up_to(64)
    attack = Attack(eps=0.05, step=0.02, steps=3)

    def outcomes() -> list[bool]:
        starts = generator(0, "test")
        withstood = withstands_pgd(prepared_model, few, attack=attack, restarts=2, generator=starts)
        return [*correct(prepared_model, few).tolist(), *withstood.tolist()]

    before = snapshot(prepared_model)
    expected = outcomes()
    prepared_model.train()
    try:
        assert outcomes() == expected
        assert prepared_model.training
    finally:
        prepared_model.eval()
    assert all(
        torch.equal(value, before[name]) for name, value in prepared_model.state_dict().items()
    )


def withstands_autoattack(
    model: nn.Module, data: Images, settings: AutoAttack, *, eps: float, seed: int
) -> dict[str, torch.Tensor]:
    """Return by attack which images withstood this attack and all earlier ones."""
    broken_at = evaluate_autoattack(model, data, settings=settings, eps=eps, seed=seed)
    after = survived(broken_at.numpy(), stages("autoattack", settings))
    return {name: torch.from_numpy(after[name]) for name in settings.attacks}


class FewClasses(nn.Module):
    """A model that has only the first classes of another model."""

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)[:, : self.classes]
        return logits


def test_autoattack_works_with_fewer_than_ten_classes(
    prepared_model: nn.Module, digits: Images
) -> None:
    five = torch.nonzero(digits.labels < 5)[:6, 0]
    data = digits.take(five)
    model = FewClasses(prepared_model, 5)
    # At this radius, Square has little left to do: its 5,000 queries take most of the time.
    after = withstands_autoattack(model, data, AutoAttack(batch_size=3), eps=0.3, seed=0)
    assert after["square"].sum() < correct(model, data).sum()
    with pytest.raises(
        RiftError,
        match="needs at least 4 classes, and the model has 3; omit apgd-t",
    ):
        withstands_autoattack(FewClasses(prepared_model, 3), data, AutoAttack(), eps=0.06, seed=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_outcomes_are_those_of_the_cpu_on_a_gpu_too(
    prepared_model: nn.Module, digits: Images
) -> None:
    few = digits.up_to(32)
    expected = correct(prepared_model, few)
    try:
        prepared_model.cuda()
        there = few.to("cuda")
        assert torch.equal(correct(prepared_model, there).cpu(), expected)
        starts = generator(0, "test", "cuda")
        attack = Attack(eps=0.06)
        withstands_pgd(prepared_model, there, attack=attack, restarts=2, generator=starts)
        withstands_autoattack(prepared_model, there, AutoAttack(), eps=0.06, seed=0)
    finally:
        prepared_model.cpu()


def test_autoattack_is_at_least_as_strong_as_pgd(prepared_model: nn.Module, digits: Images) -> None:
    few = digits.up_to(12)
    state = torch.random.get_rng_state()
    after = withstands_autoattack(prepared_model, few, AutoAttack(), eps=0.06, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert tuple(after) == AutoAttack().attacks
    clean = correct(prepared_model, few)
    pgd = withstands_pgd(
        prepared_model,
        few,
        attack=Attack(eps=0.06, step=0.015, steps=10),
        restarts=3,
        generator=generator(0, "test"),
    )
    stages = [clean, *after.values()]
    assert all(not (later & ~earlier).any() for earlier, later in pairwise(stages))
    assert after["square"].sum() <= pgd.sum()
    assert 0 < after["square"].sum() < clean.sum()


def test_autoattack_takes_colour_images_that_lie_channels_last() -> None:
    model = models.build("resnet8", classes=5, size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    images = torch.randint(
        0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        labels = model.eval()(Images.of(images, [0] * 4).floats()).argmax(1)
    data = Images.of(images, labels)
    outcomes = withstands_autoattack(model, data, AutoAttack(), eps=1e-4, seed=0)
    # Such a small step changes only borderline decisions, so all four attacks run completely.
    assert all(withstood.sum() >= 3 for withstood in outcomes.values())


def test_autoattack_bears_a_model_with_nothing_left_to_break(
    prepared_model: nn.Module, digits: Images
) -> None:
    images = digits.up_to(200).floats()
    wrong = (prepared_model(images).argmax(1) + 1) % 10
    data = Images.of(images, wrong)
    after = withstands_autoattack(prepared_model, data, AutoAttack(), eps=0.1, seed=0)
    assert not after["square"].any()


def test_purposes_draw_different_numbers() -> None:
    def draw(seed: int, purpose: str) -> float:
        return torch.rand(1, generator=generator(seed, purpose)).item()

    assert draw(0, "sweep") == draw(0, "sweep")
    assert (
        len(
            {
                draw(seed, purpose)
                for seed in (0, 1)
                for purpose in ("sweep", "checkpoint selection")
            }
        )
        == 4
    )


THREAT = Attack(eps=0.06, step=0.02, steps=3)
APGD = AutoAttack(attacks=("apgd-ce",), batch_size=8)


def test_any_number_of_shards_gives_every_image_the_same_fate(
    prepared_model: nn.Module, digits: Images
) -> None:
    few = digits.up_to(44)

    def pgd(shard: Shard) -> torch.Tensor:
        settings = Pgd(restarts=2, batch_size=8)
        return evaluate_pgd(
            prepared_model, few, settings=settings, attack=THREAT, seed=3, share=Share(shard)
        )

    def apgd(shard: Shard) -> torch.Tensor:
        return evaluate_autoattack(
            prepared_model, few, settings=APGD, eps=THREAT.eps, seed=3, share=Share(shard)
        )

    for attack in (pgd, apgd):
        whole = attack((1, 1))
        assert len(whole.unique()) > 1
        assert not (whole == UNKNOWN).any()
        # There are six blocks, so one of seven shards is empty.
        for count in (3, 7):
            parts = [attack((number, count)).numpy() for number in range(1, count + 1)]
            assert np.array_equal(join(parts), whole.numpy())
            with pytest.raises(RiftError, match=r"(8|16) images are in no shard"):
                join(parts[1:])
            with pytest.raises(RiftError, match=r"(8|16) in more than one"):
                join([parts[0], *parts])


def test_blocks_draw_numbers_of_their_own(prepared_model: nn.Module, digits: Images) -> None:
    """Several blocks attack the same image from different starts, with different results."""
    alone = withstands_pgd(
        prepared_model,
        digits.up_to(200),
        attack=THREAT,
        restarts=1,
        generator=generator(0, "test"),
    )
    again = withstands_pgd(
        prepared_model,
        digits.up_to(200),
        attack=THREAT,
        restarts=1,
        generator=generator(1, "test"),
    )
    edge = int((alone != again).nonzero()[0, 0])
    same = digits.take(torch.full((40,), edge))
    settings = Pgd(restarts=1, batch_size=20)
    found = evaluate_pgd(prepared_model, same, settings=settings, attack=THREAT, seed=0)
    assert not torch.equal(found[:20], found[20:])


@pytest.fixture
def quick_fab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace FAB-T, which is slow, by one draw of noise that depends on the seed."""

    def perturb(self: Any, images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(self.seed))
        attacked: torch.Tensor = (images + 5 * self.eps * noise.sign()).clamp(0, 1)
        return attacked

    monkeypatch.setattr("pyautoattack.fab_pt.FABAttack_PT.perturb", perturb)


class Lifted(nn.Module):
    """A model whose logits bfloat16 cannot tell apart: their differences are lost beside 10⁴."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.lift = model, nn.Linear(10, 10)
        self.lift.weight.data, self.lift.bias.data = torch.eye(10), torch.full((10,), 1e4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.lift(self.model(images).float())
        return logits


def test_autoattack_in_bfloat16_counts_only_what_float32_confirms(
    prepared_model: nn.Module, digits: Images
) -> None:
    """In bfloat16 all these images are "misclassified", so all attacks are those of float32."""
    model = Lifted(prepared_model).eval()
    few = digits.take((digits.labels > 0).nonzero()[:12, 0])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (model(few.floats()).argmax(1) == 0).all()
    found = [
        evaluate_autoattack(
            model,
            few,
            settings=AutoAttack(attacks=("apgd-ce", "apgd-t"), batch_size=6, precision=precision),
            eps=0.06,
            seed=0,
        )
        for precision in ("float32", "bfloat16")
    ]
    assert 0 < int((found[0] == 3).sum()) < 11
    assert torch.equal(*found)


def test_autoattack_in_bfloat16_breaks_nearly_the_same_images(
    prepared_model: nn.Module, digits: Images
) -> None:
    few = digits.up_to(40)
    found = [
        evaluate_autoattack(
            prepared_model,
            few,
            settings=AutoAttack(attacks=("apgd-ce",), batch_size=20, precision=precision),
            eps=0.03,
            seed=0,
        )
        for precision in ("float32", "bfloat16")
    ]
    assert (found[0] != found[1]).sum() <= 2
    assert 0 < int((found[1] == 2).sum()) < 40


@pytest.mark.usefixtures("quick_fab")
def test_an_image_once_broken_is_not_attacked_again(
    prepared_model: nn.Module, digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attack gives the same result as a separate run with the random numbers of its block."""
    from pyautoattack import AutoAttack as Runner

    few, settings = digits.up_to(20), AutoAttack(attacks=("fab-t", "apgd-ce"), batch_size=8)
    assert settings.attacks == ("apgd-ce", "fab-t")
    whole, seen = Runner.run_standard_evaluation, []

    def watched(self: Any, images: torch.Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(images)
        return whole(self, images, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "run_standard_evaluation", watched)
        broken_at = evaluate_autoattack(prepared_model, few, settings=settings, eps=0.03, seed=5)
    after = survived(broken_at.numpy(), stages("autoattack", settings))
    clean, ce, fab = map(torch.from_numpy, after.values())
    assert torch.equal(clean, correct(prepared_model, few))
    assert clean.sum() > ce.sum() > fab.sum() > 0
    expected = [standing[first : first + 8] for first in (0, 8, 16) for standing in (clean, ce)]
    assert [len(images) for images in seen] == [int(standing.sum()) for standing in expected]

    for block, first in enumerate((0, 8, 16)):
        part = few.take(slice(first, first + 8))
        standing = clean[first : first + 8]
        seed = generator(5, f"autoattack, block {block}, apgd-ce").initial_seed()
        runner = Runner(prepared_model, norm="Linf", eps=0.03, version="standard", seed=seed)
        runner.attacks_to_run = ["apgd-ce"]
        there, labels = part.floats()[standing].contiguous(), part.labels[standing]
        with torch.random.fork_rng():
            _, predicted = runner.run_standard_evaluation(there, labels)
        assert torch.equal(predicted == labels, ce[first : first + 8][standing])
    assert bool((ce | ~fab).all())


@pytest.mark.parametrize(
    ("attacks", "version"),
    [
        (("square", "fab-t", "apgd-t", "apgd-ce"), "standard"),
        (("square", "apgd-ce"), "custom (apgd-ce, square)"),
    ],
)
def test_all_four_attacks_are_the_standard_version(attacks: Any, version: str) -> None:
    assert AutoAttack(attacks=attacks).version == version


def test_a_version_says_that_it_searched_in_bfloat16() -> None:
    assert AutoAttack(precision="bfloat16").version == "standard (searched in bfloat16)"
    few = AutoAttack(attacks=("square",), precision="bfloat16")
    assert few.version == "custom (square, searched in bfloat16)"


@pytest.mark.usefixtures("quick_fab")
def test_every_state_that_is_kept_leads_to_the_same_fates(
    prepared_model: nn.Module, digits: Images
) -> None:
    few, settings = digits.up_to(20), AutoAttack(attacks=("apgd-ce", "fab-t"), batch_size=8)
    kept: list[AttackProgress] = []

    def keep(progress: AttackProgress) -> None:
        kept.append(replace(progress, stage_broken_at=progress.stage_broken_at.clone()))

    def run(share: Share) -> torch.Tensor:
        return evaluate_autoattack(
            prepared_model, few, settings=settings, eps=0.03, seed=5, share=share
        )

    whole = run(Share(keep=keep))
    assert len(kept) == 3 * 2
    for progress in kept:
        assert torch.equal(run(Share(before=progress)), whole)


def test_what_other_packages_say_is_handed_over_once(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    logger = logging.getLogger("auto-attack")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with redirect_messages(said.append, "auto-attack"):
        for number in range(3):
            print("returning", "final\npoints", number)
            warnings.warn(f"{number} is odd", stacklevel=1)
            logger.warning("there are %d points with zero gradient!", number)
            logger.info("not worth a word")
    assert said == [
        "returning final",
        "points 0",
        "0 is odd",
        "there are 0 points with zero gradient!",
    ]
    assert capsys.readouterr() == ("", "")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


class Undecided(nn.Module):
    """A model that returns no valid logits for some images."""

    def __init__(self, model: nn.Module, where: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.where = model, where

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.where(self.where(images)[:, None], torch.nan, self.model(images))


def test_logits_that_are_not_finite_are_refused_where_they_decide(
    prepared_model: nn.Module, digits: Images
) -> None:
    few = digits.up_to(20)
    dark = few.floats().flatten(1).mean(1).median()
    model = Undecided(prepared_model, lambda images: images.flatten(1).mean(1) > dark)
    with (
        pytest.raises(RiftError, match=r"mine: .* not finite for 10 of 20 images"),
        refuse_non_finite(model, "mine"),
    ):
        correct(model, few)
    # This affects only attacked images, because their values lie between the 256 grey levels.
    model = Undecided(
        prepared_model,
        lambda images: ((images * 255 - (images * 255).round()).abs() > 0.01).flatten(1).any(1),
    )
    with refuse_non_finite(model, "mine"):
        correct(model, few)
        with pytest.raises(RiftError, match=r"mine: .* not finite"):
            evaluate_pgd(model, few, settings=Pgd(), attack=THREAT, seed=0)
        with pytest.raises(RiftError, match=r"mine: .* not finite"):
            evaluate_autoattack(model, few, settings=APGD, eps=THREAT.eps, seed=0)
    # Outside of the context, nothing checks the logits.
    correct(Undecided(prepared_model, lambda images: images.flatten(1).mean(1) > dark), few)


@pytest.fixture
def weights(prepared: Prepared, prepared_model: nn.Module, tmp_path: Path) -> Path:
    spec = checkpoint.ModelSpec("resnet8", 10, 8, prepared.mean, prepared.std)
    checkpoint.save(
        tmp_path / "base.safetensors",
        prepared_model.state_dict(),
        spec,
        artifacts.provenance("test", {}),
    )
    return tmp_path / "base.safetensors"


def test_weights_that_are_not_finite_are_refused_by_every_evaluation(
    weights: Path, prepared: Prepared, prepared_set: Path, tmp_path: Path
) -> None:
    state, facts = artifacts.read_weights(weights)
    state["linear.bias"][3] = torch.nan
    spec = checkpoint.ModelSpec(**facts["model"])
    checkpoint.save(weights, state, spec, artifacts.provenance("test", {}))
    images = np.moveaxis(prepared.images["test"][:20], 1, -1)
    severities = files.CorruptedSplit("contrast", np.stack([images] * 5), "generated")
    files.save(
        tmp_path / "contrast.npy",
        severities,
        prepared.labels["test"],
        artifacts.provenance("test", {}),
    )
    read = {"weights": weights, "data": prepared_set, "device": "cpu"}
    outcomes = {"outcomes": tmp_path / "out.npz"}
    written = {"output": tmp_path / "out.json", **outcomes}
    ood = {
        "output": tmp_path / "out.csv",
        "corrupted": (tmp_path / "contrast.npy",),
        "evaluate": {"ood": {"corruptions": ("contrast",), "images": 20}},
    }
    for command in (
        EvaluateStandard(**read, **written),
        EvaluateOod(**read, **outcomes, **ood),
        EvaluateAdversarial(**read, **written, attacks=("pgd",)),
        EvaluateAdversarial(**read, **written, attacks=("autoattack",)),
    ):
        with pytest.raises(
            RiftError,
            match=r"base\.safetensors: the network returns logits that are not finite for ",
        ):
            command.run()
    assert not list(tmp_path.glob("out*"))


def evaluation(
    weights: Path,
    data: Path,
    folder: Path,
    name: str = "adversarial.json",
    attacks: tuple[str, ...] = ("apgd-ce", "fab-t"),
    **more: Any,
) -> dict[str, Any]:
    """Return fields of a command that runs PGD and some attacks of AutoAttack."""
    autoattack = {"images": 40, "attacks": attacks, "batch_size": 8}
    chosen = {"pgd": {"images": 60, "batch_size": 20}, "autoattack": autoattack}
    outcomes = {} if "shard" in more else {"outcomes": folder / "adversarial.npz"}
    paths = {"weights": weights, "data": data, "output": folder / name, **outcomes}
    return {
        **paths,
        "device": "cpu",
        "attack": {"eps": 0.06, "step": 0.02, "steps": 3},
        "evaluate": chosen,
        **more,
    }


@pytest.mark.usefixtures("quick_fab")
def test_shards_are_gathered_into_the_bytes_of_a_single_job(
    weights: Path, prepared_set: Path, tmp_path: Path
) -> None:
    names = ("adversarial.json", "adversarial.npz")
    EvaluateAdversarial(**evaluation(weights, prepared_set, tmp_path / "1")).run()
    for count in (3, 7):
        folder = tmp_path / str(count)
        parts = [folder / f"{number}.safetensors" for number in range(1, count + 1)]
        for number, part in enumerate(parts, start=1):
            fields = evaluation(weights, prepared_set, folder, part.name, shard=f"{number}/{count}")
            EvaluateAdversarial(**fields).run()
        MergeAdversarial(
            shards=tuple(parts), output=folder / names[0], outcomes=folder / names[1]
        ).run()
        assert [(folder / name).read_bytes() for name in names] == [
            (tmp_path / "1" / name).read_bytes() for name in names
        ]
    result = artifacts.read_json(tmp_path / "1/adversarial.json")["autoattack"]
    outcomes = artifacts.read_outcomes(tmp_path / "1/adversarial.npz")
    stages = [outcomes[f"autoattack_{name}"] for name in ("clean", "apgd-ce", "fab-t")]
    assert result["version"] == "custom (apgd-ce, fab-t)"
    fallen = [40, *(int(after.sum()) for after in stages)]
    assert [result["misclassified"], *result["broken_by"].values()] == [
        a - b for a, b in pairwise(fallen)
    ]
    assert result["withstood"] == stages[-1].sum() == outcomes["autoattack"].sum()
    assert outcomes["pgd"].shape == (60,)

    written = {"output": folder / "other.json", "outcomes": folder / "other.npz"}
    with pytest.raises(
        RiftError,
        match="the shards are not complete: 20 images are in no shard, 0 in more than one",
    ):
        MergeAdversarial(shards=tuple(parts[1:]), **written).run()
    fields = evaluation(weights, prepared_set, folder, "1.safetensors", shard="1/7", seed=1)
    EvaluateAdversarial(**fields).run()
    with pytest.raises(
        RiftError, match=r"2\.safetensors: the settings differ from those of .*1\.safetensors"
    ):
        MergeAdversarial(shards=tuple(parts), **written).run()
    assert not list(folder.glob("other*"))


def words(fields: dict[str, Any]) -> list[str]:
    given = EvaluateAdversarial(**fields).arguments()
    return [sys.executable, "-m", "rift", "evaluate", "adversarial", *given]


def test_killed_at_random_moments_an_evaluation_ends_in_the_same_bytes(
    weights: Path, prepared_set: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def fields(folder: Path, **more: Any) -> dict[str, Any]:
        return evaluation(weights, prepared_set, folder, attacks=("apgd-ce",), **more)

    begun = time.monotonic()
    EvaluateAdversarial(**fields(whole)).run()
    lasts = time.monotonic() - begun
    state, moments = killed / "adversarial.json.state", random.Random(time.time_ns())
    for _ in range(2):
        before = state.stat().st_mtime_ns if state.exists() else None
        process = subprocess.Popen(words(fields(killed)), stderr=subprocess.DEVNULL)
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, lasts / 4))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert state.exists() or state.with_name(f"{state.name}.previous").exists()
    assert not (killed / "adversarial.json").exists()

    other = subprocess.run(
        words(fields(killed, seed=1)), capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert ": was saved with other settings: --seed (was 0, now 1)" in other.stderr

    done = subprocess.run(words(fields(killed)), capture_output=True, text=True, check=True)
    assert "continuing after " in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in killed.iterdir()) == ["adversarial.json", "adversarial.npz"]
    for path in killed.iterdir():
        assert path.read_bytes() == (whole / path.name).read_bytes()


def test_outcomes_are_for_a_whole_evaluation_alone(
    weights: Path, prepared_set: Path, tmp_path: Path
) -> None:
    fields = evaluation(weights, prepared_set, tmp_path)
    with pytest.raises(ValueError, match="rift merge adversarial writes it"):
        EvaluateAdversarial(**fields, shard="1/2")
    with pytest.raises(ValueError, match="is required without --shard"):
        EvaluateAdversarial(**{**fields, "outcomes": None})
    part = {**fields, "outcomes": None, "shard": "3/2"}
    with pytest.raises(ValueError, match=r"--output: the name must end in \.safetensors"):
        EvaluateAdversarial(**part)
    with pytest.raises(RiftError, match="--shard 3/2: the number of a shard must be at most 2"):
        EvaluateAdversarial(**{**part, "output": tmp_path / "part.safetensors"}).run()
    assert Evaluate().adversarial.shards == 1


def test_evaluations_agree_if_they_differ_by_no_more_than_chance() -> None:
    clean, robust = torch.arange(200) < 150, torch.arange(200) < 80
    assert robustbench.Crosscheck(clean, robust, Benchmark(75, 40, clean, robust)).agree
    for theirs, agree in (
        (Benchmark(75, 42, clean, torch.arange(200) < 84), True),
        (Benchmark(75, 42.5, clean, torch.arange(200) < 85), False),
        (Benchmark(75.5, 40, torch.arange(200) < 151, robust), False),
    ):
        assert robustbench.Crosscheck(clean, robust, theirs).agree == agree


def test_robustbench_finds_what_rift_finds(
    weights: Path,
    prepared_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To save time, both sides run only the first of the four attacks."""
    prepare_robustbench()
    import robustbench.eval as theirs

    if not hasattr(theirs, "benchmark"):
        pytest.skip("torchattacks has written its own copy over robustbench")
    for name in ("autopgd_base.APGDAttack_targeted", "fab_pt.FABAttack_PT", "square.SquareAttack"):
        monkeypatch.setattr(
            f"pyautoattack.{name}.perturb", lambda _, images, labels: images.clone()
        )
    fields = {
        "weights": weights,
        "data": prepared_set,
        "device": "cpu",
        "images": 30,
        "output": tmp_path / "check.json",
    }
    Crosscheck(**fields, attack={"eps": 0.05}).run()
    found = artifacts.read_json(tmp_path / "check.json")
    assert found["agree"]
    assert found["rift"]["clean_accuracy"] == found["robustbench"]["clean_accuracy"]
    assert 0 < found["rift"]["robust_accuracy"] < found["rift"]["clean_accuracy"]
    differing = found["differing"]
    apart = differing["broken_by_robustbench_alone"] - differing["broken_by_rift_alone"]
    assert found["rift"]["robust_accuracy"] - found["robustbench"][
        "robust_accuracy"
    ] == pytest.approx(100 * apart / 30)
    said = capsys.readouterr()
    assert said.out == ""
    assert "robustbench: Clean accuracy: " in said.err
    assert "they agree" in said.err

    monkeypatch.delattr(theirs, "benchmark")
    with pytest.raises(RiftError, match=r"RobustBench is not complete: .* --force-reinstall"):
        Crosscheck(**fields).run()

"""``rift transfer``: recipes by target, and a run between two parts of the digits."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from rift import artifacts, config, data, models
from rift.commands.finetune import Finetune
from rift.commands.transfer import Transfer
from rift.config import Data
from rift.models import checkpoint
from rift.models.checkpoint import ModelSpec

SPEC = ModelSpec("resnet8", 5, 8, (0.3,), (0.4,))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    model = models.build(**asdict(SPEC), seed=3)
    checkpoint.save(
        tmp_path / "base.safetensors", model.state_dict(), SPEC, artifacts.provenance("test", {})
    )
    return tmp_path / "base.safetensors"


def prepared(folder: Path, name: str) -> Path:
    """Return the file of a small prepared set with the name of another one."""
    found = data.prepare("digits-5-9", Data())
    images = {split: values[:64] for split, values in found.images.items()}
    labels = {split: values[:64] for split, values in found.labels.items()}
    small = replace(found, images=images, labels=labels, facts={**found.facts, "dataset": name})
    path = folder / f"{name}.safetensors"
    data.save(path, small, artifacts.provenance("test", {}))
    return path


def command(base: Path, target: Path, **values: object) -> Transfer:
    files = {"output": base.with_name("t.safetensors"), "history": base.with_name("t.csv")}
    return Transfer.model_validate({"base": base, "data": target, **files, **values})


def test_the_recipe_is_that_of_the_target_in_the_prepared_set(base: Path) -> None:
    digits, cifar = (prepared(base.parent, name) for name in ("digits-5-9", "cifar10"))
    known = command(base, cifar, method="twins-at")
    assert (known.transfer.weight_decay, known.twins.frozen_weight) == (1e-5, 1.0)
    other = command(base, digits, method="twins-at")
    assert (other.transfer.weight_decay, other.twins.frozen_weight) == (2e-4, 0.3)
    assert (other.transfer.epochs, other.transfer.milestones) == (60, (30, 50))
    given = command(base, cifar, method="twins-at", twins={"frozen_weight": 0.2})
    assert (given.transfer.weight_decay, given.twins.frozen_weight) == (1e-5, 0.2)
    # The same run as a line of flags that leave nothing to the recipe.
    assert "--transfer.weight_decay" in known.arguments()
    # Several processes get the line of flags, which must not contain those of another method.
    plain = command(base, cifar, method="at")
    assert plain.transfer.weight_decay == 1e-5
    assert not any("twins" in word for word in plain.arguments())


def test_the_continuation_of_a_transfer_follows_the_same_recipe(base: Path) -> None:
    cifar = prepared(base.parent, "cifar10")
    history = base.with_name("h.csv")
    files = {"base": base, "criticality": base, "data": cifar, "output": base, "history": history}
    found = Finetune.model_validate({**files, "scope": "more-training", "method": "at"})
    assert found.transfer.weight_decay == 1e-5


def test_settings_of_another_method_are_refused(base: Path) -> None:
    target = prepared(base.parent, "digits-5-9")
    with pytest.raises(ValidationError, match=r"--twins\.kl: not a setting of method trades"):
        command(base, target, method="trades", twins={"kl": "published"})
    assert "twins" not in command(base, target, method="at").settings_for_provenance()
    assert "twins" in command(base, target, method="twins-trades").settings_for_provenance()


def test_a_transfer_writes_the_weights_and_the_history_of_a_run(base: Path) -> None:
    target = prepared(base.parent, "digits-5-9")
    made = command(
        base,
        target,
        method="twins-trades",
        transfer={"epochs": 2, "batch_size": 32, "learning_rate": 0.05},
        attack={"eps": 0.1, "step": 0.05, "steps": 1},
        augment={"crop": 1, "flip": False},
        device="cpu",
    )
    made.run()
    model, spec = checkpoint.load(made.output)
    assert spec == SPEC
    assert not torch.equal(
        model.state_dict()["conv1.weight"],
        models.build(**asdict(SPEC), seed=3).state_dict()["conv1.weight"],
    )
    history = artifacts.read_csv(made.history, ("epoch", "adversarial_accuracy", "kept"))
    assert list(history["epoch"]) == [1, 2]
    assert (history[["weight_norm", "gradient_norm", "effective_learning_rate"]] > 0).all(axis=None)
    assert history["kept"].sum() == 1
    source = artifacts.read_facts(made.output)["provenance"]
    assert source["stage"] == "transfer"
    assert source["inputs"]["base"] == artifacts.content_digest(base)
    assert source["settings"]["twins"] == config.Twins().model_dump()

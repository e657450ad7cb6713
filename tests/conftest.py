"""Shared fixtures: parts of a small trained experiment on real digits."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch
from torch import nn

from rift import artifacts, data, models
from rift.config import Data
from rift.data.images import Images

# The time of an example depends mostly on the other load of the machine.
hypothesis.settings.register_profile("rift", deadline=None)
hypothesis.settings.load_profile("rift")

torch.set_num_threads(1)
# This also applies to commands that tests start. For small networks, a second thread costs more
# time than it saves.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the folders with the longest files begin, so that no process waits for the last one."""
    slowest = ("workflow", "training", "evaluation")
    folders = {item: item.path.parent.name for item in items}
    items.sort(key=lambda item: (*slowest, folders[item]).index(folders[item]))


@pytest.fixture(scope="session")
def prepared() -> data.Prepared:
    return data.prepare("digits", Data(validation=0.2, test=0.2))


@pytest.fixture(scope="session")
def digits(prepared: data.Prepared) -> Images:
    """Return the training split."""
    return prepared.split("train")


@pytest.fixture
def resnet8(prepared: data.Prepared) -> nn.Module:
    return models.build("resnet8", classes=10, size=8, mean=prepared.mean, std=prepared.std).eval()


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def prepared_model(prepared: data.Prepared, digits: Images) -> nn.Module:
    """Return a trained network.

    Its weights and running statistics differ from those of a new network.
    """
    model = models.build("resnet8", classes=10, size=8, mean=prepared.mean, std=prepared.std)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.train()
    for step in range(60):
        part = slice(64 * (step % 16), 64 * (step % 16) + 64)
        batch = digits.take(part)
        loss = torch.nn.functional.cross_entropy(model(batch.floats()), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def prepared_set(prepared: data.Prepared, tmp_path: Path) -> Path:
    """Return the file of a prepared data set."""
    path = tmp_path / "prepared.safetensors"
    data.save(path, prepared, artifacts.provenance("test", {}))
    return path

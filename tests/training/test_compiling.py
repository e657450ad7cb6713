"""A compiled network trains like an uncompiled one.

On a CPU torch compiles, too, but has no CUDA graphs; ``tests/gpu`` asks the same of a GPU.
"""

from typing import Any

import pytest
import torch

from rift.config import TrainingSettings
from rift.data.images import Images
from rift.models import build
from rift.training.regimes import REGIMES
from rift.training.trainer import train


@pytest.mark.long
@pytest.mark.parametrize("compiling", ["always", "graphs"])
def test_a_compiled_network_trains_alike(compiling: str) -> None:
    """TRADES needs logits of the clean images after more passes; AWP moves the weights."""
    numbers = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (128, 1, 8, 8), dtype=torch.uint8, generator=numbers)
    data = Images(images, torch.randint(0, 10, (128,), generator=numbers))
    losses = []
    for how in ("never", compiling):
        chosen: dict[str, Any] = {
            "attack": {"eps": 0.1, "step": 0.05, "steps": 2},
            "augment": {"crop": 1, "flip": False},
            "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.05, "compile": how},
            "awp": {"warmup": 1},
        }
        model = build("resnet8", classes=10, size=8, mean=(0.3,), std=(0.3,), seed=0)
        settings = TrainingSettings.model_validate(chosen)
        result = train(model, data, data, regime=REGIMES["trades-awp"], settings=settings, seed=0)
        losses.append([epoch.train_loss for epoch in result.history])
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[0][1] != losses[0][0]

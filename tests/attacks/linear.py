"""A network whose worst point in a ball is known, and images for it."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """A network with two classes and logits ±(w·x): the worst point in a ball is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_problem(seed: int) -> tuple[Linear, Tensor, Tensor]:
    """Return a network, and five images with their labels; one is black and one is white."""
    images = torch.rand((5, 1, 4, 4), generator=seeded(seed))
    images[0], images[1] = 0.0, 1.0
    model = Linear(torch.randn((1, 4, 4), generator=seeded(seed + 1)))
    return model, images, torch.tensor([0, 1, 0, 1, 0])

"""Compare PGD-10 of rift with the common form of PGD-10, on the same model, images and steps.

The common form differentiates the loss with ``backward``, which computes the gradients of the
images and of all weights, and uses the default memory layout. Rift computes the gradient of the
images only, stores channels last, and computes batch norm as part of the convolution before it.
The floor is one forward pass and one backward pass to the images for each step, of the network as
it is. Only folding batch norm can be faster.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks import pgd
from rift.config import ArchitectureName
from side_by_side import in_default_layout, network, print_rates, take_turns

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10


def common(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    adversarial = (images + torch.empty_like(images).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(STEPS):
        adversarial = adversarial.detach().requires_grad_()
        model.zero_grad()
        F.cross_entropy(model(adversarial), labels).backward()
        assert adversarial.grad is not None
        adversarial = adversarial.detach() + STEP * adversarial.grad.sign()
        adversarial = torch.min(torch.max(adversarial, images - EPS), images + EPS).clamp(0, 1)
    return adversarial


def floor(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    for _ in range(STEPS):
        point = images.detach().requires_grad_()
        torch.autograd.grad(F.cross_entropy(model(point), labels), point)


def compare(
    architecture: ArchitectureName, channels: int, side: int, batch_size: int, rounds: int
) -> None:
    ours = network(architecture, channels, side).eval()
    theirs = in_default_layout(ours)
    bare = network(architecture, channels, side).eval().requires_grad_(False)
    images = torch.rand(batch_size, channels, side, side)
    last = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))

    runs: dict[str, Callable[[], object]] = {
        "the common form": lambda: common(theirs, images, labels),
        "rift": lambda: pgd(ours, last, labels, eps=EPS, step=STEP, steps=STEPS),
        "the floor": lambda: floor(bare, last, labels),
    }
    print(
        f"{architecture}, {channels}×{side}×{side}, batch {batch_size}, "
        f"{torch.get_num_threads()} threads",
        flush=True,
    )
    print_rates(take_turns(runs, rounds), batch_size, against="the common form")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="counted rounds; the three take turns in each"
    )
    rounds = parser.parse_args().rounds
    compare("resnet8", channels=1, side=8, batch_size=128, rounds=4 * rounds)
    compare("resnet18-w16", channels=3, side=32, batch_size=64, rounds=2 * rounds)
    compare("resnet18", channels=3, side=32, batch_size=64, rounds=rounds)


if __name__ == "__main__":
    main()

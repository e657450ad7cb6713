"""PGD-10 as rift runs it against PGD-10 as it is commonly written: the same model, images and steps, side by side.

The common form differentiates the loss with ``backward``, so that gradients of all weights are computed with that of the
images, and keeps tensors in their default layout. Ours asks for the images' gradient alone, with channels last in memory. The
floor is one forward and one backward pass to the images for each step.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks import pgd
from rift.config import ArchitectureName
from rift.models import build

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


def seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def compare(architecture: ArchitectureName, channels: int, side: int, batch_size: int, rounds: int) -> None:
    ours = build(architecture, classes=10, size=side, mean=(0.5,) * channels, std=(0.25,) * channels).eval()
    theirs = build(architecture, classes=10, size=side, mean=(0.5,) * channels, std=(0.25,) * channels).eval()
    theirs.load_state_dict({name: value.contiguous() for name, value in ours.state_dict().items()}, assign=True)
    theirs.requires_grad_(True)
    bare = (
        build(architecture, classes=10, size=side, mean=(0.5,) * channels, std=(0.25,) * channels)
        .eval()
        .requires_grad_(False)
    )
    images = torch.rand(batch_size, channels, side, side)
    last = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))

    runs: dict[str, Callable[[], object]] = {
        "common": lambda: common(theirs, images, labels),
        "rift": lambda: pgd(ours, last, labels, eps=EPS, step=STEP, steps=STEPS),
        "floor": lambda: floor(bare, last, labels),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            taken = seconds(run)
            if number > 0:  # the first round warms up
                times[name].append(taken)
    print(f"{architecture}, {channels}×{side}×{side}, batch {batch_size}, {torch.get_num_threads()} threads")
    for name in runs:
        rate = batch_size / statistics.median(times[name])
        ratios = [common_time / own for common_time, own in zip(times["common"], times[name], strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"  {name:7}{rate:9.1f} images/s   {middle:.2f} times the common form ({low:.2f} to {high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; the three take turns in each")
    rounds = parser.parse_args().rounds
    compare("resnet8", channels=1, side=8, batch_size=128, rounds=4 * rounds)
    compare("resnet18", channels=3, side=32, batch_size=64, rounds=rounds)


if __name__ == "__main__":
    main()

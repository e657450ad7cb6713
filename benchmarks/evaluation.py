"""Compare the evaluation of rift with direct calls, on the same network and images.

AutoAttack: rift, which works in blocks and writes a state after every block and attack, against a
direct call of pyautoattack with the same batches. The labels are the predictions of the network,
and the ball is so small that almost all images withstand. Every attack therefore runs completely,
so both sides do the same work.

OOD: the command ``rift evaluate ood``, which reads files of corrupted images and writes files of
results, against a plain loop of forward passes over tensors in memory.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rift import artifacts, data
from rift.commands.evaluate import EvaluateOod
from rift.config import ArchitectureName, AutoAttack
from rift.data.corruptions import files as corrupted
from rift.data.images import BATCH_SIZE, Images
from rift.data.prepared import SPLITS
from rift.evaluation import autoattack
from rift.evaluation.blocks import AttackProgress, Share
from rift.evaluation.stages import stages
from rift.models import checkpoint
from side_by_side import in_default_layout, network, print_rates, take_turns

EPS = 1e-5


def compare_autoattack(images: int, batch_size: int, rounds: int, device: torch.device) -> None:
    from pyautoattack import AutoAttack as Runner

    ours = network("resnet8", 1, 8, device).eval()
    theirs = in_default_layout(ours).eval()
    pixels = torch.randint(0, 256, (images, 1, 8, 8), dtype=torch.uint8, device=device)
    with torch.no_grad():
        ready = Images(pixels, pixels.new_zeros(images).long()).floats()
        split = Images(pixels, ours(ready).argmax(1))
    ready = ready.contiguous()
    left: dict[str, float] = {}

    def directly() -> None:
        runner = Runner(theirs, norm="Linf", eps=EPS, version="standard", seed=0, device=device)
        _, predicted = runner.run_standard_evaluation(ready, split.labels, batch_size=batch_size)
        left["pyautoattack"] = (predicted == split.labels).double().mean().item()

    with tempfile.TemporaryDirectory() as folder:

        def keep(work: AttackProgress) -> None:
            artifacts.write_state(
                Path(folder) / "state", {"broken": work.stage_broken_at.cpu(), "done": work.done}
            )

        def by_rift() -> None:
            settings = AutoAttack(batch_size=batch_size)
            broken = autoattack.evaluate_autoattack(
                ours, split, settings=settings, eps=EPS, seed=0, share=Share(keep=keep)
            )
            left["rift"] = (broken == len(stages("autoattack", settings))).double().mean().item()

        times = take_turns({"pyautoattack": directly, "rift": by_rift}, rounds, device)
    print(f"AutoAttack, resnet8, {images} images, batches of {batch_size}, {device}", flush=True)
    print_rates(times, images, against="pyautoattack")
    print(
        "  "
        + ", ".join(f"{100 * share:.1f}% withstand under {name}" for name, share in left.items()),
        flush=True,
    )


def compare_ood(
    architecture: ArchitectureName, images: int, rounds: int, device: torch.device
) -> None:
    model = network(architecture, device=device).eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    pixels, labels = (
        rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8),
        rng.integers(0, 10, images),
    )
    names = ("contrast", "fog")
    severities = {
        name: rng.integers(0, 256, (5, images, 32, 32, 3), dtype=np.uint8) for name in names
    }
    spec = checkpoint.ModelSpec(architecture, 10, 32, (0.5,) * 3, (0.25,) * 3)
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), artifacts.provenance("benchmark", {})
        prepared = data.Prepared(
            images=dict.fromkeys(SPLITS, pixels),
            labels=dict.fromkeys(SPLITS, labels),
            classes=tuple(map(str, range(10))),
            mean=spec.mean,
            std=spec.std,
            facts={},
        )
        data.save(folder / "prepared.safetensors", prepared, source)
        checkpoint.save(folder / "weights.safetensors", model.state_dict(), spec, source)
        files = tuple(folder / f"{name}.npy" for name in names)
        for name, path in zip(names, files, strict=True):
            split = corrupted.CorruptedSplit(name, severities[name], "generated")
            corrupted.save(path, split, labels, source)
        command = EvaluateOod(
            weights=folder / "weights.safetensors",
            data=folder / "prepared.safetensors",
            corrupted=files,
            evaluate=EvaluateOod.Evaluate.model_validate({"ood": {"corruptions": names}}),
            device=str(device),
            output=folder / "ood.csv",
            outcomes=folder / "ood.npz",
        )
        ready = [
            Images.of(at.transpose(0, 3, 1, 2), labels, device=device).floats()
            for name in names
            for at in severities[name]
        ]

        def by_rift() -> None:
            with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
                command.run()

        runs: dict[str, Callable[[], object]] = {
            "a bare loop": lambda: bare(model, ready),
            "rift": by_rift,
        }
        times = take_turns(runs, rounds, device)
    print(f"OOD, {architecture}, {len(ready)} × {images} images, {device}", flush=True)
    print_rates(times, len(ready) * images, against="a bare loop")


@torch.no_grad()
def bare(model: nn.Module, splits: list[Tensor]) -> list[Tensor]:
    return [model(part).argmax(1) for images in splits for part in images.split(BATCH_SIZE)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("autoattack", "ood"), help="one part")
    parser.add_argument(
        "--rounds", type=int, default=3, help="counted rounds; rivals take turns in each"
    )
    parser.add_argument("--images", type=int, default=100, help="images that AutoAttack attacks")
    parser.add_argument("--batch", type=int, default=50, help="images that it attacks at once")
    parser.add_argument(
        "--ood-images", type=int, default=200, help="images at each of ten severities"
    )
    parser.add_argument("--architecture", default="resnet18", help="network of the OOD evaluation")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if chosen.only != "ood":
        compare_autoattack(chosen.images, chosen.batch, chosen.rounds, device)
    if chosen.only != "autoattack":
        compare_ood(chosen.architecture, chosen.ood_images, chosen.rounds, device)


if __name__ == "__main__":
    main()

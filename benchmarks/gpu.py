"""One table about a GPU: training, MRC, AutoAttack and OOD, and the time of the paper's cell.

It needs only torch and rift, ends within eight minutes on one GPU, and prints Markdown for
docs/performance.md. On a CPU it is a rehearsal at a tiny size, whose numbers mean nothing.

Images are random numbers: the speed of a network does not depend on them.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch

import rift
from rift import config
from rift.api.budget import written
from rift.api.costs import costs_of, measured_speed
from rift.api.given import settings_of
from rift.attacks import pgd
from rift.config import ArchitectureName, AutoAttack, CompileName, Precision
from rift.data.images import Images
from rift.device import autocast
from rift.evaluation import autoattack
from rift.evaluation.accuracy import correct
from side_by_side import network, seconds
from training import (
    EPS,
    KERNELS,
    STEP,
    STEPS,
    Plan,
    machine,
    matrix_product,
    random_images,
    rift_training,
    set_gpu_as,
    work_of_a_step,
)

CELL = Path(__file__).parent.parent / "config/cifar10.yaml"
SPLITS = (45_000, 5_000, 10_000)
"""Images of CIFAR-10 for training, selection and test."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        architecture: network of all rows.
        batch: images of a training step.
        batches: steps of a turn.
        rounds: turns that count.
        criticality: images of the MRC table.
        autoattack: images that AutoAttack attacks.
        forward: images of the evaluation of corrupted images.
    """

    architecture: ArchitectureName
    batch: int
    batches: int
    rounds: int
    criticality: int
    autoattack: int
    forward: int


SIZES = {
    "cuda": Sizes("resnet18", 128, 20, 3, 1000, 128, 20000),
    "cpu": Sizes("resnet8", 8, 1, 1, 16, 2, 64),
}

# The rehearsal searches for a moment.
SEARCH: dict[str, dict[str, object]] = {
    "cuda": {},
    "cpu": {"method": "pga", "passes": 2, "steps": 1, "restarts": 0},
}

FORMS: dict[str, CompileName] = {"eager": "never", "compiled": "always", "CUDA graphs": "graphs"}


def per_second(run: Callable[[], object], images: int, sizes: Sizes, device: torch.device) -> float:
    """Return images per second: the median of the turns, after one that warms up."""
    run()
    return images / median(seconds(run, device) for _ in range(sizes.rounds))


def training_rows(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Print the rows of training steps, and return their images per second."""
    plan = Plan(device, sizes.batch, sizes.batches, sizes.rounds, 0, compile=False)
    data = random_images(sizes.batch * sizes.batches, device)
    side, _, repeats = KERNELS[device.type] if device.type == "cuda" else (256, 0, 1)
    forms = FORMS if device.type == "cuda" else {"eager": FORMS["eager"]}
    found: dict[str, float] = {}
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        kind = torch.float32 if precision == "float32" else torch.bfloat16
        product = matrix_product(device, kind, side, repeats)
        product()
        ceiling = 2 * side**3 * repeats / min(seconds(product, device) for _ in range(3))
        model = network(sizes.architecture, device=device)
        work = work_of_a_step(model, replace(plan, batches=1), precision)
        for form, how in forms.items():
            torch._dynamo.reset()
            model = network(sizes.architecture, device=device)
            step = rift_training(model, data, plan, precision, compiling=how)
            # What torch cannot compile or capture is a row, too, and the others follow.
            try:
                rate = per_second(step, sizes.batch * sizes.batches, sizes, device)
            except Exception as error:
                row(
                    f"PGD-10 training step, {precision}, {form}", "fails", str(error).split("\n")[0]
                )
                continue
            found[f"{precision}, {form}"] = rate
            share = rate * work.operations / ceiling
            row(
                f"PGD-10 training step, {precision}, {form}",
                f"{rate:,.0f} images/s",
                f"{share:.0%} of the matrix product's {ceiling / 1e12:.3g} TFLOP/s",
            )
    return found


def criticality_row(sizes: Sizes, device: torch.device) -> None:
    model = network(sizes.architecture, device=device).eval()
    images = random_images(sizes.criticality, device)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        chosen = {**SEARCH[device.type], "precision": precision}
        measure = partial(rift.mrc, model, images, criticality=chosen, progress=False)
        taken = seconds(measure, device)
        row(f"MRC of all modules, {precision}", f"{taken:,.1f} s", f"{sizes.criticality:,} images")


def evaluation_rows(sizes: Sizes, device: torch.device) -> None:
    set_gpu_as("rift")
    model = network(sizes.architecture, device=device).eval()
    images = random_images(sizes.forward, device)
    rate = per_second(partial(correct, model, images), sizes.forward, sizes, device)
    row("corrupted images (OOD), float32", f"{rate:,.0f} images/s", f"{sizes.forward:,} images")

    few = images.up_to(sizes.batch)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:

        def attack(precision: Precision = precision) -> object:
            with autocast(precision, device):
                return pgd(model, few.floats(), few.labels, eps=EPS, step=STEP, steps=STEPS)

        rate = per_second(attack, len(few), sizes, device)
        row(f"PGD-10, {precision}", f"{rate:,.0f} images/s", f"batches of {len(few)}")

    # Labels are the predictions, and the ball is tiny: no image falls, and every attack runs
    # completely.
    with torch.no_grad():
        some = images.up_to(sizes.autoattack)
        some = Images(some.floats(), model(some.floats()).argmax(1))
    chosen = AutoAttack() if device.type == "cuda" else AutoAttack(attacks=("apgd-ce",))
    taken = seconds(
        partial(autoattack.evaluate_autoattack, model, some, settings=chosen, eps=1e-5, seed=0),
        device,
    )
    version = "standard" if device.type == "cuda" else "APGD-CE alone"
    row(f"AutoAttack ({version})", f"{len(some) / taken:,.2f} images/s", "no image falls")


def project(sizes: Sizes, device: torch.device, rates: dict[str, float]) -> None:
    """Print how long each stage of the paper's cell takes at these speeds, at most.

    Evaluation is counted as if every image survived every attack.
    """
    experiment = config.read(CELL)
    sections = settings_of(
        attack=experiment.attack,
        criticality=experiment.criticality,
        finetune=experiment.finetune,
        interpolate=experiment.interpolate,
    )
    train, validation, test = SPLITS
    speed, starts = measured_speed(
        network(sizes.architecture, device=device), random_images(sizes.batch, device)
    )
    costs = costs_of(speed, starts, sections, validation, autoattack=True)
    epochs, searched = experiment.train.epochs, sections.criticality.images
    assert isinstance(searched, int)
    # Each epoch is measured on the selection split.
    measured = validation * speed.of(experiment.attack.steps, 2)
    scopes = len(experiment.grid.scopes)
    stages = {
        f"train, {epochs} epochs, {form}": epochs * (train / rate + measured)
        for form, rate in rates.items()
    }
    stages[f"criticality, {searched:,} images"] = costs.trials + costs.criticality * searched
    stages[f"fine-tune {scopes} scopes"] = scopes * (
        sections.finetune.epochs * (costs.epoch + costs.tuning * train)
    )
    stages[f"sweep {scopes} scopes"] = scopes * costs.selection * validation
    stages["evaluate base and rift, with AutoAttack"] = costs.test * test
    print(f"\n| stage of {CELL.name}, projected | at most |\n|---|---|")
    for name, taken in stages.items():
        print(f"| {name} | {written(taken)} |")


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    device = torch.device(parser.parse_args().device)
    sizes = SIZES[device.type]
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    torch._dynamo.config.recompile_limit = 256
    rehearsal = "" if device.type == "cuda" else ": a rehearsal, no measurement"
    print(
        f"{sizes.architecture}, 3×32×32, {machine(device)}, torch {torch.__version__}{rehearsal}\n"
    )
    row("what", "speed", "of")
    row("---", "---", "---")
    rates = training_rows(sizes, device)
    criticality_row(sizes, device)
    evaluation_rows(sizes, device)
    project(sizes, device, rates)


if __name__ == "__main__":
    main()

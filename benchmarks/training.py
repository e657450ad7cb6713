"""Compare adversarial training of ResNet-18 with the usual tools and with the machine's limits.

step     a PGD-10 training step against the loop of most repositories: torch's loader with worker
         processes, torchvision's transforms, PGD of torchattacks, float32 in the default layout
pgd      PGD-10 alone against torchattacks and foolbox
peak     operations and bytes of a step, against the speed of the machine in the same run
regimes  a step of every regime, against its number of forward and backward passes

The 32×32 images are random numbers: the speed of a network does not depend on them, and the
benchmark needs no download.
"""

import argparse
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import flop_registry

from rift.attacks import pgd
from rift.config import (
    CompileName,
    InnerName,
    Precision,
    RegimeName,
    TrainingSettings,
    merge,
    recipe_of,
)
from rift.data.images import Images
from rift.device import autocast, resolve_precision
from rift.progress import no_progress
from rift.seeds import generator
from rift.thirdparty import prepare_torchvision
from rift.training.compiling import compile_network
from rift.training.epoch import EpochState, Steps, run_epoch
from rift.training.parallel import ALONE
from rift.training.regimes import REGIMES
from rift.training.step import BatchGradient
from side_by_side import in_default_layout, network, print_rates, rates, ratio, take_turns

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10
# Operations per image of the measured convolution.
CONVOLUTION = 2 * 128 * 128 * 3 * 3 * 16 * 16
# The side of the matrices, the number of copied bytes, and the calls per turn.
KERNELS = {"cpu": (2048, 2**28, 4), "cuda": (8192, 2**32, 50)}
# The settings of SGD.
RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
# The paper trains on CIFAR-10; a tenth of the images is the selection split.
IMAGES, EPOCHS = 45_000, 110
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
Runs = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Plan:
    """The size of the measurement, and its device."""

    device: torch.device
    batch: int
    batches: int
    rounds: int
    workers: int
    compile: bool


@dataclass(frozen=True)
class Passes:
    """The theoretical cost of a training step, in passes of a batch through the network."""

    forward: int
    to_images: int
    full: int

    @property
    def cost(self) -> int:
        """The cost in forward passes.

        A backward pass to the images costs as much as a forward pass, one to images and weights
        twice as much.
        """
        return self.forward + self.to_images + 2 * self.full


# Passes by regime and inner attack. Forward passes belong to the steps of the attack, to its
# objective if this uses clean images, and to the loss.
PASSES: dict[tuple[RegimeName, InnerName], Passes] = {
    ("pgd", "pgd"): Passes(10 + 1, 10, 1),
    ("pgd", "fgsm-rs"): Passes(1 + 1, 1, 1),
    ("pgd", "n-fgsm"): Passes(1 + 1, 1, 1),
    ("standard", "pgd"): Passes(1, 0, 1),
    ("trades", "pgd"): Passes(1 + 10 + 2, 10, 2),
    ("mart", "pgd"): Passes(10 + 2, 10, 2),
    ("awp", "pgd"): Passes(10 + 1 + 1, 10, 1 + 1),
    ("trades-awp", "pgd"): Passes(1 + 10 + 2 + 2, 10, 2 + 2),
    ("score", "pgd"): Passes(1 + 10 + 2, 10, 2),
}


def random_images(count: int, device: torch.device) -> Images:
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return Images(images, torch.randint(0, 10, (count,))).to(device)


def set_gpu_as(whose: Literal["rift", "usual"]) -> None:
    """Set cuDNN like the commands of rift, or as usual.

    The settings of rift make runs reproducible and keep the precision of float32.
    """
    torch.backends.cudnn.deterministic = whose == "rift"
    torch.backends.cudnn.benchmark = whose == "usual"
    torch.backends.cudnn.allow_tf32 = whose == "usual"


def forms(plan: Plan) -> dict[str, CompileName]:
    """Return the ways to run networks of rift, by the suffix of their names."""
    return {"": "never", ", compiled": "always"} if plan.compile else {"": "never"}


# --- training


def settings_of(
    regime: RegimeName, inner: InnerName, precision: Precision, compiling: CompileName = "never"
) -> TrainingSettings:
    """Return the regime with the settings of its authors."""
    chosen = {"train": {"precision": precision, "compile": compiling}, "inner": {"method": inner}}
    return TrainingSettings.model_validate(merge(recipe_of(regime).settings, chosen))


def rift_training(
    model: nn.Module,
    data: Images,
    plan: Plan,
    precision: Precision,
    *,
    regime: RegimeName = "pgd",
    inner: InnerName = "pgd",
    compiling: CompileName = "never",
) -> Callable[[], None]:
    """Make the function that trains a few batches exactly like ``rift train``."""
    settings = settings_of(regime, inner, precision, compiling)
    compile_network(model, compiling, plan.device)
    stream = generator(0, "benchmark", plan.device)
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    steps = Steps(
        gradient=BatchGradient(model, REGIMES[regime], settings, stream, ALONE),
        optimizer=optimizer,
        learning_rate=lambda done: RATE,
        augmentation=settings.augment,
        generator=stream,
        batch_size=plan.batch,
        least=2,
        epochs=1,
        after_step=lambda: None,
    )
    epoch_of_perturbed_weights = settings.awp.warmup + 1

    def train() -> None:
        set_gpu_as("rift")
        model.train()
        epoch = EpochState.begin(epoch_of_perturbed_weights, len(data), stream)
        epoch.order = epoch.order[: plan.batches * plan.batch]
        run_epoch(epoch, data, steps, no_progress)

    return train


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images in memory that are converted and transformed one by one.

    The data sets of torchvision work in the same way.
    """

    def __init__(self, data: Images, transform: Callable[[object], Tensor]) -> None:
        self.data = (
            (255 * data.floats()).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        )
        self.targets: list[int] = data.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def usual_batches(data: Images, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Load shuffled batches without end: workers start once and load batches in advance."""
    prepare_torchvision()
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    )
    loader = DataLoader(
        Pictures(data, transform),
        plan.batch,
        shuffle=True,
        num_workers=plan.workers,
        pin_memory=plan.device.type == "cuda",
        drop_last=True,
        persistent_workers=plan.workers > 0,
    )
    while True:
        yield from loader


def usual_training(model: nn.Module, data: Images, plan: Plan) -> Callable[[], None]:
    """Make the function that trains a few batches with the usual loop."""
    prepare_torchvision()
    import torchattacks

    # The attack itself sets eval mode and then restores the mode of the model.
    attack = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS)
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    source = usual_batches(data, plan)

    def train() -> None:
        set_gpu_as("usual")
        model.train()
        for _ in range(plan.batches):
            images, labels = next(source)
            images, labels = (
                images.to(plan.device, non_blocking=True),
                labels.to(plan.device, non_blocking=True),
            )
            adversarial = attack(images, labels)
            loss = F.cross_entropy(model(adversarial), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


def compare_steps(plan: Plan) -> None:
    data, ours = random_images(IMAGES, plan.device), network("resnet18", device=plan.device)
    runs: Runs = {"the usual loop": usual_training(in_default_layout(ours), data, plan)}
    for (form, how), precision in product(forms(plan).items(), PRECISIONS):
        name = f"rift, {precision}{form}"
        runs[name] = rift_training(deepcopy(ours), data, plan, precision, compiling=how)
    print(
        f"PGD-10 training step, batch {plan.batch}, {plan.batches} batches a turn, "
        f"{plan.workers} loader workers"
    )
    times = take_turns(runs, plan.rounds, plan.device, pause=0.5)
    print_rates(times, plan.batches * plan.batch, against="the usual loop")
    print(
        f"  {EPOCHS} epochs of {IMAGES:,} images, without measuring accuracy after each, would take"
    )
    for name, rate in rates(times, plan.batches * plan.batch).items():
        print(f"    {EPOCHS * IMAGES / rate / 3600:9.2f} hours: {name}", flush=True)


# --- PGD alone


def rift_attack(
    model: nn.Module, images: Tensor, labels: Tensor, precision: Precision
) -> Callable[[], Tensor]:
    def attack() -> Tensor:
        set_gpu_as("rift")
        with autocast(precision, images.device):
            return pgd(model, images, labels, eps=EPS, step=STEP, steps=STEPS)

    return attack


def torchattacks_attack(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], object]:
    prepare_torchvision()
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS)

    def run() -> object:
        set_gpu_as("usual")
        return attack(images, labels)

    return run


def foolbox_attack(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], object]:
    import foolbox

    bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS)

    def run() -> object:
        set_gpu_as("usual")
        return attack(bounded, images, labels, epsilons=EPS)

    return run


def compare_attacks(plan: Plan) -> None:
    ours = network("resnet18", device=plan.device).eval()
    data = random_images(plan.batch, plan.device)
    last = data.floats()
    images = last.contiguous()
    runs: Runs = {
        "torchattacks": torchattacks_attack(in_default_layout(ours), images, data.labels),
        "foolbox": foolbox_attack(in_default_layout(ours), images, data.labels),
    }
    for form in forms(plan):
        model = deepcopy(ours)
        if form:
            model.compile()
        for precision in PRECISIONS:
            runs[f"rift, {precision}{form}"] = rift_attack(model, last, data.labels, precision)
    print(f"PGD-10 alone, batch {plan.batch}")
    print_rates(take_turns(runs, plan.rounds, plan.device), plan.batch, against="torchattacks")


# --- what the machine can do


@dataclass(frozen=True)
class Work:
    """The cost of a computation per image.

    Attributes:
        operations: of convolutions and matrix products; a multiply-add counts as two.
        bytes: inputs and outputs of all other operators; each operator counts a tensor once.
    """

    operations: float
    bytes: float


class Counter(TorchDispatchMode):
    """Counts operations and bytes of all operators except for views.

    It uses the formulas of torch's FlopCounterMode, which cannot count ``torch.autograd.grad`` of
    an image.
    """

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.operations = 0
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.operations += flop_registry[func.overloadpacket](*args, **kwargs, out_val=result)
        elif not (func.is_view or "empty" in func.__name__):
            self.bytes += sum(
                leaf.nbytes
                for leaf in tree_leaves((args, kwargs, result))
                if isinstance(leaf, Tensor)
            )
        return result


def counted(function: Callable[[], object]) -> Counter:
    counter = Counter()
    with counter:
        function()
    return counter


def work_of_a_step(model: nn.Module, plan: Plan, precision: Precision) -> Work:
    """Count a PGD-10 step from two small ones.

    One part of the cost is proportional to the number of images. The rest comes from the weights
    and is constant.
    """
    few = {}
    for images in (2, 4):
        train = rift_training(
            model,
            random_images(images, plan.device),
            replace(plan, batch=images, batches=1),
            precision,
        )
        # The first step allocates gradients and momentum, so it is not counted.
        train()
        few[images] = counted(train)
    operations = (few[4].operations - few[2].operations) / 2
    by_image = (few[4].bytes - few[2].bytes) / 2
    return Work(operations, by_image + (few[2].bytes - 2 * by_image) / plan.batch)


def matrix_product(
    device: torch.device, kind: torch.dtype, side: int, repeats: int
) -> Callable[[], None]:
    one, other = (torch.randn(side, side, device=device).to(kind) for _ in range(2))

    def run() -> None:
        for _ in range(repeats):
            one @ other

    return run


def convolution(
    device: torch.device, kind: torch.dtype, batch: int, repeats: int
) -> Callable[[], None]:
    """Make a 3×3 convolution from the middle of ResNet-18: 128 channels, 16×16, channels last."""
    images = torch.randn(batch, 128, 16, 16, device=device).to(
        kind, memory_format=torch.channels_last
    )
    weight = torch.randn(128, 128, 3, 3, device=device).to(kind, memory_format=torch.channels_last)

    def run() -> None:
        with torch.no_grad():
            for _ in range(repeats):
                F.conv2d(images, weight, padding=1)

    return run


def copying(device: torch.device, size: int, repeats: int) -> Callable[[], None]:
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def run() -> None:
        for _ in range(repeats):
            target.copy_(source)

    return run


@dataclass(frozen=True)
class Ceiling:
    """The peak speed of the machine in one precision: operations and bytes per second."""

    product: float
    convolution: float
    copying: float


def print_shares(work: Work, ceiling: Ceiling, steps: Mapping[str, float]) -> None:
    """Print the limits from the ceilings, and the shares that steps reach.

    ``steps`` contains images per second.
    """
    convolving, moving = work.operations / ceiling.convolution, work.bytes / ceiling.copying
    print(
        f"    matrix product {ceiling.product / 1e9:10.1f} GFLOP/s: "
        f"allows {ceiling.product / work.operations:.1f} images/s"
    )
    print(
        f"    convolution    {ceiling.convolution / 1e9:10.1f} GFLOP/s: "
        f"allows {1 / convolving:.1f} images/s"
    )
    print(
        "    convolutions at that speed, "
        f"then all else ({work.bytes / 1e6:.0f} MB an image) at the speed of copying:"
        f" {1 / (convolving + moving):.1f} images/s"
    )
    for name, rate in steps.items():
        reached = rate * work.operations
        print(
            f"    {name}: {rate:.1f} images/s, {reached / 1e9:.1f} GFLOP/s,"
            f" {reached / ceiling.product:.0%} of the product's,"
            f" {reached / ceiling.convolution:.0%} of the convolution's",
            flush=True,
        )


def compare_with_peak(plan: Plan) -> None:
    side, size, repeats = KERNELS[plan.device.type]
    data, model = random_images(IMAGES, plan.device), network("resnet18", device=plan.device)
    set_gpu_as("rift")
    runs: Runs = {"copy": copying(plan.device, size, repeats)}
    for precision in PRECISIONS:
        kind = getattr(torch, precision)
        runs[f"product {precision}"] = matrix_product(plan.device, kind, side, repeats)
        runs[f"convolution {precision}"] = convolution(plan.device, kind, plan.batch, repeats)
        for form, how in forms(plan).items():
            name = f"step {precision}{form}"
            runs[name] = rift_training(deepcopy(model), data, plan, precision, compiling=how)
    work = {precision: work_of_a_step(model, plan, precision) for precision in PRECISIONS}
    one_pass = counted(lambda: model(data.up_to(1).floats())).operations
    operations = work["float32"].operations
    print(
        f"Peak, batch {plan.batch}, {plan.batches} batches a turn; "
        "ceilings by their fastest turn, steps by their median"
    )
    print(
        f"  a PGD-10 step: {operations / 1e9:.2f} GFLOP an image,"
        f" {operations / one_pass:.2f} forward passes' worth"
        f" (theory: {PASSES['pgd', 'pgd'].cost})"
    )
    times = take_turns(runs, plan.rounds, plan.device)
    fastest = {name: repeats / min(taken) for name, taken in times.items()}
    speed = rates(times, plan.batches * plan.batch)
    copied = fastest["copy"] * 2 * size
    print(f"  copying: {copied / 1e9:.1f} GB/s, read and written")
    for precision in PRECISIONS:
        ceiling = Ceiling(
            fastest[f"product {precision}"] * 2 * side**3,
            fastest[f"convolution {precision}"] * CONVOLUTION * plan.batch,
            copied,
        )
        print(f"  {precision}")
        print_shares(
            work[precision],
            ceiling,
            {f"step{form}": speed[f"step {precision}{form}"] for form in forms(plan)},
        )


# --- regimes


def compare_regimes(plan: Plan) -> None:
    data, model = random_images(IMAGES, plan.device), network("resnet18", device=plan.device)
    precision: Precision = (
        "bfloat16" if resolve_precision("auto", plan.device) == "bfloat16" else "float32"
    )
    named = {
        f"{regime}{'' if inner == 'pgd' else f', {inner}'}": (regime, inner)
        for regime, inner in PASSES
    }
    runs: Runs = {
        name: rift_training(
            deepcopy(model),
            data,
            plan,
            precision,
            regime=regime,
            inner=inner,
            compiling="always" if plan.compile else "never",
        )
        for name, (regime, inner) in named.items()
    }
    form = precision + list(forms(plan))[-1]
    print(
        f"Regimes, batch {plan.batch}, {plan.batches} batches a turn, {form}: "
        "time beside that of pgd",
        flush=True,
    )
    times = take_turns(runs, plan.rounds, plan.device)
    speed = rates(times, plan.batches * plan.batch)
    for name, key in named.items():
        passes, unit = PASSES[key], PASSES["pgd", "pgd"].cost
        print(
            f"  {name:13}{speed[name]:11.1f} images/s"
            f"   {ratio(times[name], times['pgd'])} times pgd; theory"
            f" {passes.cost / unit:.2f}: {passes.forward} forward,"
            f" {passes.to_images} back to images,"
            f" {passes.full} back to weights",
            flush=True,
        )


PARTS: dict[str, Callable[[Plan], None]] = {
    "step": compare_steps,
    "pgd": compare_attacks,
    "peak": compare_with_peak,
    "regimes": compare_regimes,
}
RIVALS = {"step": ("torchattacks",), "pgd": ("torchattacks", "foolbox")}


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, help="one part; all if not given")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="counted rounds; rivals take turns in each (default: 5)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        help="images a step; several sizes one after the other (128; on a GPU 128 1024)",
    )
    parser.add_argument("--batches", type=int, help="batches a turn (2; on a GPU 20)")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="worker processes of the usual loop's loader (default: 2)",
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="measure rift with torch.compile too (on a GPU)",
    )
    asked = parser.parse_args()
    device = torch.device(asked.device)
    on_gpu = device.type == "cuda"
    sizes, batches = (
        asked.batch or ([128, 1024] if on_gpu else [128]),
        asked.batches or (20 if on_gpu else 2),
    )
    if max(sizes) * batches > IMAGES:
        parser.error(f"a turn takes {max(sizes) * batches} images, but there are {IMAGES}")
    parts = [asked.only] if asked.only else list(PARTS)
    wanted = sorted({rival for part in parts for rival in RIVALS.get(part, ())})
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(
            f"{' and '.join(missing)} not installed: "
            "pip install -c constraints.txt -e '.[benchmarks]'"
        )
    torch.manual_seed(0)
    print(f"ResNet-18, 3×32×32, {machine(device)}, torch {torch.__version__}")
    compiling = on_gpu if asked.compile is None else asked.compile
    # The benchmark compiles many networks in several modes. By default, torch stops compiling a
    # function after eight versions.
    torch._dynamo.config.recompile_limit = 256
    for size in sizes:
        for part in parts:
            # Otherwise, torch compiles the second batch size for all sizes, which is slower.
            torch._dynamo.reset()
            PARTS[part](Plan(device, size, batches, asked.rounds, asked.workers, compiling))


if __name__ == "__main__":
    main()

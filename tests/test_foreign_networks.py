"""Networks of other people: ``rift.mrc`` and ``rift.improve`` handle each, or refuse it.

docs/checkpoints.md has the same list as a table.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import rift
from rift import config
from rift.criticality import adversarial_examples
from rift.data.images import Images
from rift.errors import RiftError
from rift.thirdparty import prepare_torchvision

CLASSES, SIDE, COUNT = 4, 16, 12
EPSILON, RATE, EPOCHS = 0.1, 0.5, 2
ATTACK = config.Attack(eps=0.1, step=0.1, steps=1)
SETTINGS: dict[str, Any] = {
    "attack": ATTACK,
    "criticality": {"method": "published", "epochs": EPOCHS, "learning_rate": RATE},
}
TINY: dict[str, Any] = {
    "attack": ATTACK,
    "criticality": {"method": "gradient"},
    "finetune": {"epochs": 1, "batch_size": COUNT, "learning_rate": 0.01},
    "augment": {"crop": 1, "flip": False},
    "interpolate": {"alphas": (0, 1), "restarts": 1, "tolerance": 100},
    "pgd": {"restarts": 1},
    "progress": False,
}


def some_images(seed: int) -> Images:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.rand(COUNT, 3, SIDE, SIDE, generator=draw)
    return Images.of(pixels, torch.randint(CLASSES, (COUNT,), generator=draw))


def head(width: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def resnet18() -> nn.Module:
    prepare_torchvision()
    from torchvision.models import resnet18

    return cast("nn.Module", resnet18(num_classes=CLASSES))


def vit() -> nn.Module:
    prepare_torchvision()
    import timm

    network: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=CLASSES,
        img_size=SIDE,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
    )
    return network


def mobilenet() -> nn.Module:
    prepare_torchvision()
    import timm

    network: nn.Module = timm.create_model("mobilenetv3_small_050", num_classes=CLASSES)
    with torch.no_grad():  # with the statistics of a new network, no weight matters
        for seed in range(20):
            network(some_images(seed).floats())
    return network


def sequential() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), head(8))


def without_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), head(8))


def weight_norm() -> nn.Module:
    network = sequential()
    parametrizations.weight_norm(network.get_submodule("0"))
    return network


def plain_weight(network: nn.Module) -> nn.Module:
    # Of a copy with parametrizations, torch cannot remove them: both share a class.
    plain, state = sequential(), network.state_dict()
    weight = network.get_submodule("0").weight
    plain.load_state_dict({name: state.get(name, weight) for name in plain.state_dict()})
    return plain


class Twice(nn.Module):
    """A module is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.head = head(8)

    def forward(self, images: Tensor) -> Any:
        features = self.again(self.first(images)).relu()
        return self.head(self.again(features).relu())


class Attention(nn.Module):
    """torch's own attention, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Any:
        tokens = self.embed(images).flatten(2).mT
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head((tokens + mixed).mean(1))


class Returning(nn.Module):
    """Returns more than logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network = sequential()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.network(images))


def compiled() -> nn.Module:
    return cast("nn.Module", torch.compile(sequential(), backend="eager"))


def frozen() -> nn.Module:
    network = sequential()
    network.get_submodule("0").requires_grad_(False)
    return network


def dropout() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(0.5), head(8))


@dataclass(frozen=True)
class Case:
    """A network that is handled.

    Attributes:
        build: returns the network.
        module: name of the module that is compared with the naive search.
        weight: name of its weight.
        modules: number of modules with a criticality.
        plain: turns a copy of the network inside into one that torch differentiates directly.
    """

    build: Callable[[], nn.Module]
    module: str
    weight: str
    modules: int
    plain: Callable[[nn.Module], nn.Module] = lambda network: network


HANDLED = {
    "torchvision ResNet-18": Case(resnet18, "layer2.0.downsample.0", "weight", 21),
    "timm ViT": Case(vit, "blocks.1.attn.qkv", "weight", 10),
    "timm MobileNet": Case(mobilenet, "blocks.4.0.conv_dw", "weight", 54),
    "Sequential": Case(sequential, "0", "weight", 2),
    "weight norm": Case(weight_norm, "0", "weight", 2, plain_weight),
    "module used twice": Case(Twice, "again", "weight", 3),
    "MultiheadAttention": Case(Attention, "attention", "in_proj_weight", 4),
    "DataParallel": Case(lambda: nn.DataParallel(sequential()), "0", "weight", 2),
    "torch.compile": Case(compiled, "0", "weight", 2),
    "frozen parameters": Case(frozen, "0", "weight", 2),
    "dropout": Case(dropout, "3.2", "weight", 2),
    "no batch norm": Case(without_batch_norm, "2", "weight", 3),
}

NO_LOGITS = (
    " instead of logits (floating-point numbers, N×classes); wrap it in a module whose forward"
    " returns the logits alone"
)
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dict": (
        lambda: Returning(lambda logits: {"logits": logits, "loss": logits.sum()}),
        f"network: returns a dict with the keys logits, loss{NO_LOGITS}",
    ),
    "tuple": (
        lambda: Returning(lambda logits: (logits, logits)),
        f"network: returns a tuple of Tensor, Tensor{NO_LOGITS}",
    ),
    "bfloat16": (
        lambda: sequential().to(torch.bfloat16),
        "network: 0.weight is torch.bfloat16, but rift needs float32 weights; call float() on it"
        " first",
    ),
}


def inside(network: nn.Module) -> nn.Module:
    """Return the network within the wrapper, if there is one."""
    wrapped = {nn.DataParallel: "module", type(compiled()): "_orig_mod"}
    return cast("nn.Module", getattr(network, wrapped.get(type(network), ""), network))


def in_use(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network in the middle of some work: with gradients, a hook and mixed modes."""
    torch.manual_seed(0)
    network = build().train()
    plain = inside(network)
    first, *_, last = [each for each in plain.modules() if not list(each.children())]
    first.eval()
    last.register_forward_hook(lambda module, given, output: None)
    for weight in plain.parameters():
        if weight.requires_grad:
            weight.grad = torch.full_like(weight, 0.25)
    return network


def content(value: Tensor | None) -> bytes:
    """Return the numbers of a tensor of any type as bytes."""
    return b"" if value is None else value.detach().reshape(-1).view(torch.uint8).numpy().tobytes()


def everything(network: nn.Module) -> list[object]:
    """Return all that a caller can see of a network, in a form that can be compared."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return [
        [(name, id(value), content(value), value.requires_grad) for name, value in named],
        [(name, content(value.grad)) for name, value in named],
        [
            (name, each.training, [*each._forward_hooks], [*each._forward_pre_hooks])
            for name, each in network.named_modules()
        ],
        [name for name, _ in network.named_modules()],
    ]


def naive_mrc(network: nn.Module, weight: nn.Parameter, images: Tensor, labels: Tensor) -> float:
    """Return the largest rise of the loss that plain ascent finds in the ball ‖Δ‖ ≤ ε‖θ‖."""
    theta = weight.detach().clone()
    radius = EPSILON * theta.norm()
    weight.requires_grad_(True)

    def loss() -> Tensor:
        return F.cross_entropy(network(images), labels)

    start = largest = loss().item()
    for _ in range(EPOCHS):
        (gradient,) = torch.autograd.grad(loss(), weight)
        with torch.no_grad():
            delta = weight + RATE * gradient - theta
            weight.copy_(theta + delta * min(1.0, (radius / delta.norm()).item()))
            largest = max(largest, loss().item())
    with torch.no_grad():
        weight.copy_(theta)
    return largest - start


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # timm reads torch.jit
@pytest.mark.parametrize("kind", HANDLED)
def test_a_network_is_measured_and_improved_and_stays_as_it_was(kind: str) -> None:
    case, (train, validation, test) = HANDLED[kind], map(some_images, (1, 2, 3))
    mine = in_use(case.build)
    before = everything(mine)
    table = rift.mrc(mine, train, **SETTINGS, progress=False).set_index("module")
    assert everything(mine) == before
    assert len(table) == case.modules

    plain = case.plain(copy.deepcopy(inside(mine))).eval()
    examples = adversarial_examples(plain, train, attack=ATTACK, seed=0)
    weight = plain.get_submodule(case.module).get_parameter(case.weight)
    expected = naive_mrc(plain, weight, examples, train.labels)
    assert expected > 1e-5
    assert table.loc[case.module, "mrc"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert table.loc[case.module, "parameters"] == weight.numel()

    found = rift.improve(mine, train, validation, test=test, **TINY)
    assert everything(mine) == before
    assert list(found.mrc["module"]) == list(table.index)
    (module,) = found.modules
    state, better = inside(mine).state_dict(), found.model.state_dict()
    assert list(better) == list(state)
    parameters = dict(inside(mine).named_parameters())
    moved = [name for name in parameters if not torch.equal(better[name], state[name])]
    assert all(name.startswith(f"{module}.") for name in moved)
    assert bool(moved) == found.gained
    assert len(found.outcomes["after"]) == COUNT


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_is_refused_with_a_reason_and_stays_as_it_was(kind: str) -> None:
    build, message = REFUSED[kind]
    train, validation, test = map(some_images, (1, 2, 3))
    mine = in_use(build)
    before = everything(mine)
    calls: tuple[Callable[[], object], ...] = (
        lambda: rift.mrc(mine, train, **SETTINGS, progress=False),
        lambda: rift.improve(mine, train, validation, test=test, **TINY),
        lambda: rift.improve(mine, train, validation, test=test, **TINY, budget="2h"),
        lambda: rift.evaluate(mine, test, progress=False),
    )
    for call in calls:
        with pytest.raises(RiftError) as refused:
            call()
        assert str(refused.value) == message
        assert everything(mine) == before

"""Networks of other people: each is measured right, or refused by the name of its module."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from rift.config import Attack, Augment, Criticality, Finetune, SearchName
from rift.criticality import (
    ModuleCriticality,
    adversarial_examples,
    measurable_modules,
    measure,
    measured_weight,
    module_robust_criticality,
    modules_of,
)
from rift.data.images import Images
from rift.errors import RiftError
from rift.evaluation.accuracy import correct, withstands_pgd
from rift.finetuning import fine_tune

CLASSES = 4
PGA = Criticality(passes=2, restarts=1, trial_images=8)
ATTACK = Attack(eps=0.1, step=0.1, steps=1)
METHODS: tuple[SearchName, ...] = get_args(SearchName)


def quick(method: SearchName) -> Criticality:
    few = PGA.model_dump(include={"passes", "restarts", "trial_images"})
    return Criticality(method=method, **(few if method in ("pga", "race") else {}))


def some_images(channels: int = 1, size: int = 6, count: int = 16) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    images = torch.rand(count, channels, size, size, generator=draw)
    return images, torch.randint(CLASSES, (count,), generator=draw)


def rows_of(
    network: nn.Module, settings: Criticality = PGA, **options: Any
) -> dict[str, ModuleCriticality]:
    images, labels = some_images()
    rows = module_robust_criticality(network, images, labels, settings=settings, seed=0, **options)
    return {row.module: row for row in rows}


class Notes:
    """A progress that keeps the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, done: float, total: int, note: str = "", **figures: Any) -> None:
        self.lines += [note] if note else []

    @property
    def left_out(self) -> list[str]:
        return [line for line in self.lines if "without a row" in line]


class Net(nn.Module):
    """A small network whose parts the cases below replace."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4 * 16, CLASSES)
        for name, part in parts.items():
            self.add_module(name, part)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images).relu().flatten(1)
        return features

    def forward(self, images: Tensor) -> Any:
        return self.head(self.features(images))


# Networks with a module that decides nothing, and the reason that the log gives.


class UnusedHead(Net):
    """The auxiliary head is never called."""

    def __init__(self) -> None:
        super().__init__(auxiliary=nn.Linear(64, 3))


class DiscardedHead(UnusedHead):
    """The auxiliary head is called, and its output is not part of the logits."""

    def forward(self, images: Tensor) -> Any:
        features = self.features(images)
        self.get_submodule("auxiliary")(features)
        return self.head(features)


class SlicedHead(UnusedHead):
    """Its gradient exists, and is zero everywhere."""

    def forward(self, images: Tensor) -> Any:
        features = self.features(images)
        both = torch.cat([self.head(features), self.get_submodule("auxiliary")(features)], 1)
        return both[:, :CLASSES]


class Frozen(UnusedHead):
    """The logits depend on the module, but no gradient reaches it."""

    def forward(self, images: Tensor) -> Any:
        features = self.features(images)
        with torch.no_grad():
            gate = self.get_submodule("auxiliary")(features).sigmoid().mean(1, keepdim=True)
        return self.head(features) * gate


NO_DEPENDENCE = "auxiliary: the logits do not depend on its weight"
IDLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "unused": (UnusedHead, NO_DEPENDENCE),
    "discarded": (DiscardedHead, NO_DEPENDENCE),
    "sliced": (SlicedHead, NO_DEPENDENCE),
    "frozen": (Frozen, "auxiliary: the network computes it without gradients"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", IDLE)
def test_a_module_without_effect_has_no_row_and_a_note_names_it(
    kind: str, method: SearchName
) -> None:
    build, reason = IDLE[kind]
    network, notes = build().eval(), Notes()
    before = copy.deepcopy(network.state_dict())
    settings = quick(method)
    rows = rows_of(network, settings, progress=notes)
    assert list(rows) == ["conv", "head"]
    assert len(notes.left_out) == 1
    assert reason in notes.left_out[0]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    images, labels = some_images()
    with pytest.raises(RiftError, match=f"module {reason.split(':')[0]}: cannot be measured: "):
        measure(network, images, labels, ["head", "auxiliary"], settings=settings, seed=0)
    # The other rows are those of a network without the module.
    if kind == "unused":
        plain = rows_of(Net().eval(), settings)
        assert {name: row.mrc for name, row in rows.items()} == {
            name: row.mrc for name, row in plain.items()
        }


class Routed(Net):
    """The image chooses the module: bright images take the second one."""

    def __init__(self) -> None:
        super().__init__(second=nn.Linear(64, CLASSES))

    def forward(self, images: Tensor) -> Any:
        features, bright = self.features(images), images.mean((1, 2, 3)) > 0.75
        logits = features.new_zeros(len(images), CLASSES)
        for name, chosen in (("head", ~bright), ("second", bright)):
            if chosen.any():
                logits[chosen] = self.get_submodule(name)(features[chosen])
        return logits


def test_a_module_that_only_some_images_use_is_measured() -> None:
    images, labels = some_images()
    images[-2:] = images[-2:] / 4 + 0.75
    network = Routed().eval()
    settings = Criticality(method="published", epochs=1, batch_size=4)
    rows = module_robust_criticality(network, images, labels, settings=settings, seed=0)
    assert [row.module for row in rows] == ["conv", "head", "second"]
    # A step of plain ascent per batch moves the module in the last batch only.
    network.requires_grad_(False)
    weight = measured_weight(network.get_submodule("second"))
    theta = weight.detach().clone()
    start = F.cross_entropy(network(images), labels)
    weight.requires_grad_(True)
    (step,) = torch.autograd.grad(F.cross_entropy(network(images[-4:]), labels[-4:]), weight)
    with torch.no_grad():
        radius = 0.1 * theta.norm()
        weight.copy_(theta + step * min(1.0, float(radius / step.norm())))
        rise = F.cross_entropy(network(images), labels) - start
    assert rows[2].mrc == pytest.approx(max(0.0, rise.item()), abs=1e-6)


class Broken(Net):
    """Returns NaN for bright images."""

    def forward(self, images: Tensor) -> Any:
        logits = self.head(self.features(images))
        return torch.where(images.mean((1, 2, 3))[:, None] > 0.75, torch.nan, logits)


def test_logits_that_are_not_finite_are_refused() -> None:
    images, labels = some_images()
    network = Broken().eval()
    images[5] = 0.9
    for method in METHODS:
        with pytest.raises(RiftError, match="logits that are not finite for 1 of 16 images"):
            module_robust_criticality(network, images, labels, settings=quick(method), seed=0)
    infinite = Net().eval()
    infinite.head.bias.data[1] = torch.inf
    data = Images.of(images, labels)
    for call in (
        lambda: adversarial_examples(infinite, data, attack=ATTACK, seed=0),
        lambda: measure(infinite, images, labels, ["conv"], settings=PGA, seed=0),
        lambda: tuned(infinite),
    ):
        with pytest.raises(RiftError, match="logits that are not finite for 2 of 2 images"):
            call()


def tuned(network: nn.Module, modules: tuple[str, ...] = ("conv",), **settings: Any) -> Any:
    data = Images.of(*some_images())
    asked = Finetune(epochs=1, batch_size=16, learning_rate=0.1, **settings)
    crop = Augment(crop=0, flip=False)
    return fine_tune(network, data, data, modules, settings=asked, augmentation=crop, seed=0)


class Returning(Net):
    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(super().forward(images))


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "dict": (
        lambda logits: OrderedDict(logits=logits, loss=logits.sum()),
        "returns a OrderedDict with the keys logits, loss",
    ),
    "tuple": (lambda logits: (logits, logits), "returns a tuple of Tensor, Tensor"),
    "list": (lambda logits: [logits], "returns a list of Tensor"),
    "one logit": (
        lambda logits: logits[:, 0],
        r"returns a tensor of torch\.float32 and shape \(\d+,\)",
    ),
    "classes": (
        lambda logits: logits.argmax(1, keepdim=True),
        r"returns a tensor of torch\.int64 and shape",
    ),
    "nothing": (lambda logits: None, "returns a NoneType"),
}


def stages(network: nn.Module, images: Tensor, labels: Tensor) -> list[Callable[[], object]]:
    """Return calls of the stages that read the logits and labels of a network."""
    data = Images.of(images, labels)
    return [
        lambda: adversarial_examples(network, data, attack=ATTACK, seed=0),
        lambda: measure(network, images, labels, ["conv"], settings=PGA, seed=0),
        lambda: correct(network, data),
        lambda: withstands_pgd(
            network, data, attack=ATTACK, restarts=1, generator=torch.Generator()
        ),
    ]


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_that_is_no_logits_is_refused_by_every_stage(output: str) -> None:
    change, message = OUTPUTS[output]
    network = Returning(change).eval()
    images, labels = some_images()
    for call in (lambda: tuned(network), *stages(network, images, labels)):
        with pytest.raises(RiftError, match=f"network: {message}.* instead of logits.*; wrap it"):
            call()


def test_a_network_that_returns_more_in_training_mode_is_refused_there() -> None:
    class Inception(Net):
        def forward(self, images: Tensor) -> Any:
            logits = super().forward(images)
            return (logits, logits) if self.training else logits

    network = Inception()
    assert list(rows_of(network)) == ["conv", "head"]
    with pytest.raises(RiftError, match="returns a tuple of Tensor, Tensor instead of logits"):
        tuned(network)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_labels_of_any_integer_type_give_the_same_numbers(dtype: torch.dtype) -> None:
    images, labels = some_images()
    network = Net().eval()
    first, second = (
        module_robust_criticality(network, images, each, settings=PGA, seed=0)
        for each in (labels, labels.to(dtype))
    )
    assert first == second


def test_too_few_classes_and_other_labels_are_refused() -> None:
    images, labels = some_images()
    labels[3] = CLASSES
    network = Net().eval()
    for call in stages(network, images, labels):
        with pytest.raises(RiftError, match=r"labels: contain 4, but the network has 4 logits"):
            call()
    with pytest.raises(RiftError, match=r"labels: are torch\.float32"):
        measure(network, images, labels.float(), ["conv"], settings=PGA, seed=0)
    with pytest.raises(RiftError, match="labels: contain -1"):
        measure(network, images, labels - 1 - labels, ["conv"], settings=PGA, seed=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_type_are_refused(dtype: torch.dtype) -> None:
    network = Net().eval().to(dtype)
    for call in (lambda: rows_of(network), lambda: tuned(network)):
        with pytest.raises(RiftError, match=rf"conv\.weight is {dtype}, .*; call float\(\) on it"):
            call()


# Networks whose weights are computed from other tensors.

WEIGHT_NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "old weight norm": nn.utils.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "pruning": lambda module: prune.l1_unstructured(module, "weight", 0.3),
}


@pytest.mark.parametrize("kind", WEIGHT_NORMS)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_computed_weight_is_measured_as_a_plain_one(kind: str) -> None:
    """The ball surrounds the weight that the network computes with."""
    network = Net()
    WEIGHT_NORMS[kind](network.conv)
    if "spectral" in kind:  # its vectors move in training mode
        network.train()
        network(some_images()[0])
    plain = Net()
    plain.eval()
    network.eval()
    with torch.no_grad():
        network(some_images()[0])
        plain.conv.weight.copy_(network.conv.weight)
        plain.get_parameter("conv.bias").copy_(network.get_parameter("conv.bias"))
        plain.head.load_state_dict(network.head.state_dict())
    network.train()
    before = copy.deepcopy(dict(network.state_dict()))
    found, expected = rows_of(network), rows_of(plain)
    assert list(found) == ["conv", "head"]
    for name, row in found.items():
        assert row.mrc == pytest.approx(expected[name].mrc, rel=1e-5), name
        assert row.parameters == expected[name].parameters
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    result = tuned(network, ("conv",))
    moved = {name for name, value in result.state.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("conv") for name in moved)


def test_a_weight_that_nothing_known_computes_is_left_out() -> None:
    network = Net()
    del network.conv._parameters["weight"]
    vars(network.conv)["weight"] = torch.rand(4, 1, 3, 3)
    notes = Notes()
    assert list(rows_of(network.eval(), progress=notes)) == ["head"]
    assert "conv: its weight is not a parameter of it" in notes.left_out[0]


class Tied(Net):
    def __init__(self) -> None:
        super().__init__(one=nn.Linear(64, 64), two=nn.Linear(64, 64))
        self.get_submodule("two").weight = self.get_submodule("one").weight

    def forward(self, images: Tensor) -> Any:
        features = self.get_submodule("one")(self.features(images)).relu()
        return self.head(self.get_submodule("two")(features))


def test_a_shared_weight_has_one_row_and_moves_once_per_step() -> None:
    network, notes = Tied().eval(), Notes()
    assert list(rows_of(network, progress=notes)) == ["conv", "head", "one"]
    assert "two: it shares the weight of one" in notes.left_out[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = tuned(network, ("one", "two")).state
    alone = tuned(network, ("one",)).state
    assert torch.equal(both["one.weight"], alone["one.weight"])
    assert not torch.equal(alone["one.weight"], network.state_dict()["one.weight"])


# Networks that skip or wrap the calls of their modules.


class Transformer(nn.Module):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(1, 8, 3, 3)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Any:
        return self.head(self.encoder(self.embed(images).flatten(2).mT).mean(1))


def test_pga_measures_torch_s_transformer_layers() -> None:
    """Torch computes them by one fused call if no gradient is needed."""
    network = Transformer().eval()
    found = rows_of(network)
    assert "encoder.layers.0.self_attn" in found
    uncached = rows_of(network, PGA.model_copy(update={"cache_mib": 0}))
    for name, row in found.items():
        assert row.mrc == pytest.approx(uncached[name].mrc, rel=1e-4, abs=1e-6), name
    assert torch.backends.mha.get_fastpath_enabled()


class Undecided(Net):
    """Calls other modules if no gradient is needed."""

    def __init__(self) -> None:
        super().__init__(middle=nn.Linear(64, 64))

    def forward(self, images: Tensor) -> Any:
        features, middle = self.features(images), self.get_submodule("middle")
        if torch.is_grad_enabled():
            return self.head(middle(features))
        return self.head(F.linear(features, *middle.parameters()))


def test_a_network_that_skips_calls_without_gradients_is_measured_by_whole_passes() -> None:
    network, notes = Undecided().eval(), Notes()
    found = rows_of(network, progress=notes)
    assert any(
        "whole passes: the network does not call its modules" in line for line in notes.lines
    )
    uncached = rows_of(network, PGA.model_copy(update={"cache_mib": 0}))
    assert [row.mrc for row in found.values()] == pytest.approx(
        [row.mrc for row in uncached.values()], rel=1e-4
    )


def compiled(network: nn.Module) -> nn.Module:
    wrapped: Any = torch.compile(network, backend="eager")
    return cast("nn.Module", wrapped)


def in_place(network: nn.Module) -> nn.Module:
    network.compile(backend="eager")
    return network


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": compiled,
    "compiled in place": in_place,
    "DataParallel": nn.DataParallel,
    "both": lambda network: nn.DataParallel(compiled(network)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_network_gives_the_numbers_and_names_of_the_network_inside(wrapper: str) -> None:
    network = WRAPPERS[wrapper](Net().eval()).eval()
    plain = Net().eval()
    assert rows_of(network) == rows_of(plain)
    found, expected = tuned(network, ("head",)).state, tuned(plain, ("head",)).state
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_networks_are_refused() -> None:
    scripted = torch.jit.trace(Net().eval(), some_images()[0])
    for call in (lambda: rows_of(scripted), lambda: tuned(scripted)):
        with pytest.raises(RiftError, match=r"contains TorchScript.*; pass the nn\.Module"):
            call()


# Layers of other kinds.


class Signal(nn.Module):
    """A network for sequences and volumes, with every kind of convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Conv1d(6, 8, 3)
        self.one_back = nn.ConvTranspose1d(8, 6, 3)
        self.two_back = nn.ConvTranspose2d(1, 2, 2)
        self.three = nn.Conv3d(1, 2, 2)
        self.three_back = nn.ConvTranspose3d(2, 1, 2)
        self.head = nn.LazyLinear(CLASSES)
        self(some_images()[0])

    def forward(self, images: Tensor) -> Any:
        x = self.one_back(self.one(images[:, 0]).relu())[:, None]
        x = self.two_back(x).relu()[:, None]
        x = self.three_back(self.three(x).relu())
        return self.head(x.flatten(1))


def test_every_kind_of_convolution_has_a_row() -> None:
    network = Signal().eval()
    settings = Criticality(method="published", epochs=1, batch_size=16)
    rows = rows_of(network, settings)
    assert {name: row.kind for name, row in rows.items()} == {
        **dict.fromkeys(("one", "one_back", "two_back", "three", "three_back"), "conv"),
        "head": "linear",
    }
    images, labels = some_images()
    network.requires_grad_(False)
    for name, row in rows.items():
        weight = measured_weight(network.get_submodule(name))
        theta = weight.detach().clone()
        loss = F.cross_entropy(network(images), labels)
        weight.requires_grad_(True)
        (step,) = torch.autograd.grad(F.cross_entropy(network(images), labels), weight)
        weight.requires_grad_(False)
        with torch.no_grad():
            weight.copy_(theta + step * min(1.0, float(0.1 * theta.norm() / step.norm())))
            rise = F.cross_entropy(network(images), labels) - loss
            weight.copy_(theta)
        assert row.mrc == pytest.approx(max(0.0, rise.item()), rel=1e-3, abs=1e-6), name


class OtherLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(6, 2, kdim=3, vdim=4, batch_first=True)
        self.recurrent = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Any:
        x = images[:, 0]
        x, _ = self.attention(x, x[..., :3], x[..., :4])
        return self.head(self.recurrent(x)[0][:, -1])


def test_layers_without_a_row_are_named_with_the_reason() -> None:
    network, notes = OtherLayers().eval(), Notes()
    assert list(rows_of(network, progress=notes)) == ["attention.out_proj", "head"]
    (line,) = notes.left_out
    assert "attention: its query, key and value have weights of their own (kdim, vdim)" in line
    assert "recurrent: LSTM is no convolution or linear layer" in line
    images, labels = some_images()
    with pytest.raises(RiftError, match="module recurrent: cannot be measured: LSTM is no"):
        measure(network, images, labels, ["recurrent"], settings=PGA, seed=0)
    with pytest.raises(RiftError, match="module nose: cannot be measured: the network has no such"):
        measure(network, images, labels, ["nose"], settings=PGA, seed=0)
    with pytest.raises(RiftError, match="has no module to measure"):
        measurable_modules(nn.Sequential(nn.Flatten(), nn.LayerNorm(36)), images)
    convolutional = nn.Sequential(nn.Conv2d(1, CLASSES, 6), nn.Flatten())
    with pytest.raises(RiftError, match="'last-layer': the network has no linear layer"):
        modules_of("last-layer", list(rows_of(convolutional).values()))


def test_modules_that_fine_tuning_cannot_train_are_refused() -> None:
    with pytest.raises(RiftError, match="module nose: the network has no such module"):
        tuned(Net(), ("nose",))
    with pytest.raises(RiftError, match="modules act: have no parameters to fine-tune"):
        tuned(Net(act=nn.ReLU()), ("act",))

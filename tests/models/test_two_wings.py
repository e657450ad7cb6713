"""Two wings of batch norm: equal at the start, apart in training, and plain again at the end."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift import models
from rift.errors import RiftError
from rift.models.heads import classifier_of, renew_classifier
from rift.models.two_wings import (
    adaptive_state,
    check_wings,
    frozen_wing,
    join_wings,
    split_wings,
)
from rift.thirdparty import synchronised_norms


class Tokens(nn.Module):
    """A network with BatchNorm1d and BatchNorm3d, one of them without scale and used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1))
        self.bn3 = nn.BatchNorm3d(4)
        self.inside = nn.Linear(4, 4)
        self.bn1 = nn.BatchNorm1d(4, affine=False)
        self.again = self.bn1
        self.out = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.bn3(self.conv(images[:, :1, None]))
        tokens = self.bn1(x.flatten(2).transpose(1, 2).flatten(0, 1))
        tokens = self.again(F.relu(self.inside(tokens)))
        logits: Tensor = self.out(tokens.unflatten(0, (len(images), -1)).mean(1))
        return logits


def timm_network() -> nn.Module:
    # Its batch norms compute the activation, too.
    return models.build("timm:mobilenetv3_small_050", classes=3, size=32, mean=(0.5,), std=(0.3,))


def small_network() -> nn.Module:
    return models.build("resnet8", classes=3, size=32, mean=(0.5,), std=(0.3,))


NETWORKS = {"resnet8": small_network, "timm": timm_network, "1d and 3d": Tokens}


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    """Return a network in eval mode whose batch norms are not those of a new one."""
    torch.manual_seed(0)
    model = NETWORKS[request.param]()
    for module in model.modules():
        if isinstance(module, NORMS) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(6, 1, 32, 32))
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def test_both_wings_give_the_logits_of_the_source(network: nn.Module, images: Tensor) -> None:
    """In training mode, the frozen wing still normalises by the statistics of the source."""
    with torch.no_grad():
        expected = network(images)
        split = split_wings(copy.deepcopy(network))
        assert torch.equal(split(images), expected)
        with frozen_wing(split):
            assert torch.equal(split(images), expected)
            split.train()
            assert torch.equal(split(images), expected)
        assert not torch.allclose(split(images), expected)
        network.train()
        fresh = split_wings(copy.deepcopy(network).eval()).train()
        assert torch.equal(fresh(images), network(images))


def test_all_weights_but_those_of_batch_norm_are_shared(network: nn.Module) -> None:
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    own = sum(weight.numel() for norm in norms for weight in norm.parameters())
    before = sum(weight.numel() for weight in network.parameters())
    split = split_wings(network)
    assert sum(weight.numel() for weight in split.parameters()) == before + own


def test_the_adaptive_wing_is_a_plain_network_again(network: nn.Module, images: Tensor) -> None:
    """Its state dict has the names and the order of the plain network; so has the joined network.

    The frozen wing, whose scales were changed, has no influence.
    """
    names = list(network.state_dict())
    plain = copy.deepcopy(network)
    split = split_wings(network).train()
    with torch.no_grad():
        for _ in range(2):
            split(torch.rand(6, 1, 32, 32))
        for name, weight in split.named_parameters():
            if ".frozen." in name:
                weight.zero_()
            else:
                weight.mul_(1.1)
        expected = split.eval()(images)
        state = adaptive_state(split)
        assert list(state) == names
        plain.load_state_dict(state)
        assert torch.equal(plain(images), expected)
        joined = join_wings(split)
        assert list(joined.state_dict()) == names
        assert torch.equal(joined(images), expected)


def test_norms_for_several_processes_give_the_same_logits(
    network: nn.Module, images: Tensor
) -> None:
    """The batch norms of timm keep their activation. In eval mode, one process can use them."""
    with torch.no_grad():
        expected = network(images)
        wings = synchronised_norms(split_wings(network)).eval()
        assert not any(isinstance(module, NORMS) for module in wings.modules())
        torch.testing.assert_close(wings(images), expected)
        with frozen_wing(wings):
            torch.testing.assert_close(wings(images), expected)


def test_a_network_that_cannot_have_two_wings_is_refused_with_the_reason() -> None:
    with pytest.raises(RiftError, match=r"has no batch norm.*choose the method at or trades"):
        split_wings(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(RiftError, match="batch norm 1 keeps no running statistics"):
        split_wings(network)
    assert isinstance(network[1], nn.BatchNorm1d)


HEADS = {
    "resnet8": ("linear", 8),
    "vit-small": ("head", 16),
    "timm:mobilenetv3_small_050": ("classifier", 32),
    "timm:resnetv2_50": ("head.fc", 32),  # a 1×1 convolution
}


@pytest.mark.parametrize("architecture", HEADS)
def test_the_classifier_is_found_and_renewed_alone(architecture: str) -> None:
    """The names and shapes are those of a network that was built for the new classes."""
    name, size = HEADS[architecture]
    model = models.build(architecture, classes=7, size=size, mean=(0.5,), std=(0.3,))
    like = models.build(architecture, classes=3, size=size, mean=(0.5,), std=(0.3,))
    images = torch.rand(2, 1, size, size)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert classifier_of(model, images) == name
    random = torch.get_rng_state()
    renew_classifier(model, name, 3, seed=1)
    assert torch.equal(random, torch.get_rng_state())
    after = model.state_dict()
    assert {key: value.shape for key, value in after.items()} == {
        key: value.shape for key, value in like.state_dict().items()
    }
    others = [key for key in before if not key.startswith(f"{name}.")]
    assert len(others) >= len(before) - 2
    assert all(torch.equal(after[key], before[key]) for key in others)
    assert model.eval()(images).shape == (2, 3)
    weight = after[f"{name}.weight"].clone()
    # The default of torch: uniform within one over the root of the inputs.
    bound = (weight[0].numel()) ** -0.5
    assert 0.9 * bound < float(weight.abs().max()) <= bound
    renew_classifier(model, name, 3, seed=2)
    assert not torch.equal(model.state_dict()[f"{name}.weight"], weight)
    renew_classifier(model, name, 3, seed=1)
    assert torch.equal(model.state_dict()[f"{name}.weight"], weight)


def test_a_network_without_one_last_layer_is_refused() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(16, 3), nn.Linear(16, 3)

        def forward(self, images: Tensor) -> Tensor:
            flat = images.flatten(1)
            mean: Tensor = (self.one(flat) + self.two(flat)) / 2
            return mean

    with pytest.raises(RiftError, match="no linear layer returns its logits"):
        classifier_of(Mean(), torch.rand(2, 1, 4, 4))


class OwnWay(nn.Module):
    """A network that uses its batch norm otherwise than by calling it by its name."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv, self.bn, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.way, self.others = way, [self.bn]

    def forward(self, images: Tensor) -> Tensor:
        values = self.conv(images)
        if self.way == "list":
            values = self.others[0](values)
        else:
            values = F.batch_norm(values, self.bn.running_mean, self.bn.running_var)
        logits: Tensor = self.out(values.mean((2, 3)))
        return logits


@pytest.mark.parametrize(("way", "named"), [("list", "batch norm bn:"), ("read", "running_mean")])
def test_a_norm_that_would_escape_its_wings_is_refused(way: str, named: str) -> None:
    model = OwnWay(way)
    with pytest.raises(RiftError, match=rf"{named}.*choose the method at or trades"):
        check_wings(model, torch.rand(2, 1, 8, 8))
    assert isinstance(model.bn, nn.BatchNorm2d)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_the_check_of_wings_leaves_a_network_as_it_was(network: nn.Module) -> None:
    before = copy.deepcopy(network.state_dict())
    modules = dict(network.named_modules())
    check_wings(network.train(), torch.rand(2, network_channels(network), 32, 32))
    assert dict(network.named_modules()) == modules
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def network_channels(network: nn.Module) -> int:
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    return int(first.in_channels)

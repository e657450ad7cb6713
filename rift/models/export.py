"""Models for other programs: a plain state dict with the field's names, and a module around it."""

from importlib.metadata import version

from torch import Tensor, nn

from rift.models.checkpoint import ModelSpec
from rift.models.state import without_normalisation

# What makes the same network in RobustBench; it pools over 4 × 4 pixels, and so takes images of 32 pixels only.
ROBUSTBENCH = {
    "resnet18": (
        "resnet import BasicBlock, ResNet",
        "ResNet(BasicBlock, [2, 2, 2, 2], num_classes={classes})",
    ),
    "resnet34": (
        "resnet import BasicBlock, ResNet",
        "ResNet(BasicBlock, [3, 4, 6, 3], num_classes={classes})",
    ),
    "preact-resnet18": (
        "resnet import PreActBlock, PreActResNet",
        "PreActResNet(PreActBlock, [2, 2, 2, 2], num_classes={classes})",
    ),
    "wrn-28-10": (
        "wide_resnet import WideResNet",
        "WideResNet(depth=28, widen_factor=10, num_classes={classes})",
    ),
    "wrn-34-10": (
        "wide_resnet import WideResNet",
        "WideResNet(depth=34, widen_factor=10, num_classes={classes})",
    ),
}
MODULE = '''"""{architecture} for {classes} classes and {size} × {size} images, exported by rift {version}.

    network = load_model()    # takes images in [0, 1], N×{channels}×{size}×{size}; gives logits; in eval mode

Its weights lie beside this file, in {weights}.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from {imported}


class Model(nn.Module):
    """The network, behind the normalisation that it was trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mu", torch.tensor({mean}).view(1, -1, 1, 1))
        self.register_buffer("sigma", torch.tensor({std}).view(1, -1, 1, 1))
        self.model = {call}

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mu) / self.sigma)


def load_model() -> Model:
    network = Model()
    weights = torch.load(Path(__file__).with_name("{weights}"), map_location="cpu", weights_only=True)
    network.model.load_state_dict(weights)
    return network.eval()
'''


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with the names that the architecture has in the field: without the normalisation."""
    state = without_normalisation(model.state_dict())
    return {name: value.cpu().contiguous() for name, value in state.items()}


def module_source(spec: ModelSpec, weights: str) -> str:
    """Write the source of a module that loads an exported state dict and takes images in [0, 1].

    It is made of RobustBench's own network where that has the architecture for such images, else of rift's.

    Args:
        spec: of the model.
        weights: name of the file of the state dict, which lies beside the module.
    """
    imported = "rift.models import network"
    call = 'network("{architecture}", classes={classes}, channels={channels}, size={size})'
    if spec.architecture in ROBUSTBENCH and spec.size == 32 and len(spec.mean) == 3:
        name, call = ROBUSTBENCH[spec.architecture]
        imported = f"robustbench.model_zoo.architectures.{name}"
    facts = {
        "architecture": spec.architecture,
        "classes": spec.classes,
        "channels": len(spec.mean),
        "size": spec.size,
    }
    return MODULE.format(
        **facts,
        version=version("rift"),
        weights=weights,
        imported=imported,
        mean=list(spec.mean),
        std=list(spec.std),
        call=call.format(**facts),
    )

"""Export for other programs: a plain state dict, and a Python module that loads it."""

import io
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from rift.errors import RiftError
from rift.models.checkpoint import ModelSpec
from rift.models.state import without_normalisation

SAFE = ".safetensors"
"""Ending of a file of safetensors; all other files are of torch.save."""

# Endings of other formats: a file of torch.save under such a name could not be read.
OTHER_FORMATS = (".onnx", ".h5", ".hdf5", ".npz", ".npy", ".pb", ".tflite", ".pt2", ".zip", ".json")

# Import and call that build the same network with RobustBench. Its networks end with 4 × 4 average
# pooling, so they support only images of 32 × 32 pixels.
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
MODULE = '''"""{architecture} for {classes} classes and {size} × {size} images.

rift {version} exported it.

    network = load_model()

The network is in eval mode. It takes images in [0, 1], N×{channels}×{size}×{size}, and returns
logits. Its weights are in the file WEIGHTS, in the folder of this file.
"""

from pathlib import Path

import torch
{imports}from torch import Tensor, nn
from {imported}

WEIGHTS = {weights}


class Model(nn.Module):
    """The network, after the normalisation that it was trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mu", torch.tensor({mean}).view(1, -1, 1, 1))
        self.register_buffer("sigma", torch.tensor({std}).view(1, -1, 1, 1))
        self.model = {call}

    def forward(self, images: Tensor) -> Tensor:
        {body}


def load_model() -> Model:
    network = Model()
    path = Path(__file__).with_name(WEIGHTS)
    weights = {read}
    network.model.load_state_dict(weights)
    return network.eval()
'''
# The same as rift.models.normalisation does.
ENLARGING = """normalised = (images - self.mu) / self.sigma
        return self.model(nn.functional.interpolate(normalised, size=({inside}, {inside})))"""


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's state dict without the normalisation, as contiguous CPU tensors.

    The names match the common implementations.
    """
    state = without_normalisation(model.state_dict())
    return {name: value.cpu().contiguous() for name, value in state.items()}


def check_ending(path: Path) -> None:
    """Check that a state dict may have this name.

    Raises:
        RiftError: the ending is that of another format.
    """
    if path.suffix.lower() in OTHER_FORMATS:
        raise RiftError(
            f"--output {path}: rift writes state dicts of torch, not {path.suffix} files; choose a"
            f" name that ends in .pth or {SAFE}"
        )


def state_content(model: nn.Module, *, safe: bool) -> bytes:
    """Return the content of a file with the model's state dict, without the normalisation.

    Args:
        model: model to export.
        safe: whether the file is safetensors, or else one of torch.save.
    """
    state = plain_state(model)
    if not safe:
        # torch reports a full disk in its own words, so it writes into memory.
        content = io.BytesIO()
        torch.save(state, content)
        return content.getvalue()
    from safetensors.torch import save

    # safetensors refuses tensors that share memory, such as tied weights.
    return save({name: value.clone() for name, value in state.items()}, {"format": "pt"})


def module_source(spec: ModelSpec, weights: str) -> str:
    """Return the source code of a Python module that loads an exported state dict.

    The module imports the network from RobustBench if RobustBench has it for these images, and
    from rift otherwise. The loaded model takes images in [0, 1].

    Args:
        spec: specification of the model.
        weights: file name of the state dict, which is in the same folder as the module.
    """
    imported = "rift.models import network"
    call = "network({architecture!r}, classes={classes}, channels={channels}, size={inside})"
    inside = spec.enlarge or spec.size
    if spec.architecture in ROBUSTBENCH and inside == 32 and len(spec.mean) == 3:
        name, call = ROBUSTBENCH[spec.architecture]
        imported = f"robustbench.model_zoo.architectures.{name}"
    facts = {
        "architecture": spec.architecture,
        "classes": spec.classes,
        "channels": len(spec.mean),
        "size": spec.size,
        "inside": inside,
    }
    body = "return self.model((images - self.mu) / self.sigma)"
    if spec.enlarge is not None:
        body = ENLARGING.format(**facts)
    read = 'torch.load(path, map_location="cpu", weights_only=True)'
    imports = ""
    if weights.endswith(SAFE):
        read, imports = "load_file(path)", "from safetensors.torch import load_file\n"
    return MODULE.format(
        **facts,
        read=read,
        imports=imports,
        version=version("rift"),
        weights=repr(weights),
        imported=imported,
        mean=list(spec.mean),
        std=list(spec.std),
        call=call.format(**facts),
        body=body,
    )

"""``train.compile``: the network by torch.compile, and with CUDA graphs."""

import torch
from torch import nn

from rift.config import CompileName


def compile_network(model: nn.Module, how: CompileName, device: torch.device) -> None:
    """Compile a network in place, as ``train.compile`` asks.

    Args:
        model: network.
        how: ``always`` compiles it; ``graphs`` also records its passes as CUDA graphs, which the
            GPU then repeats without launches by Python; ``auto`` is ``always`` on a GPU, and
            ``never`` on a CPU.
        device: device of the network. A CPU has no CUDA graphs: there, ``graphs`` is ``always``.
    """
    if how == "graphs":
        model.compile(mode="reduce-overhead")
    elif how == "always" or (how == "auto" and device.type == "cuda"):
        model.compile()


def begin_step(how: CompileName) -> None:
    """Tell CUDA graphs that a training step begins.

    From then on they may overwrite what the passes of the last step returned. Without a mark, torch
    takes each pass of the network for a step of its own, and overwrites the logits of TRADES' clean
    images while the attack still needs them.
    """
    if how == "graphs":
        torch.compiler.cudagraph_mark_step_begin()

"""Models: architectures, their normalisation, and weights from files.

Inputs are images in [0, 1], N×C×H×W; outputs are logits, N×classes. ``build`` adds the
normalisation to a network, and keeps the module names of the common implementations.
"""

from rift.models.building import build, network

__all__ = ["build", "network"]

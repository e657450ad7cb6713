"""Models: architectures, their normalisation, and weights from files.

Inputs are images in [0, 1], N×C×H×W; outputs are logits, N×classes. ``build`` puts the normalisation in front of the
network, whose own module names are those of the field.
"""

from rift.models.building import build, network

__all__ = ["build", "network"]

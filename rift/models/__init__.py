"""Models: architectures, input normalisation, and weights from files.

A model takes images in [0, 1] of shape N×C×H×W and returns logits of shape N×classes. ``build``
adds the normalisation to a network and keeps the module names of the common implementations.
"""

from rift.models.building import build, network

__all__ = ["build", "network"]

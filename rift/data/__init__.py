"""Data sets: their sources, their splits, and the images that the core computes on.

``rift.data.images`` needs torch, so it is not imported here: preparing data needs no torch.
"""

from rift.data.prepared import Prepared, load, prepare, save, test_set_digest

__all__ = ["Prepared", "load", "prepare", "save", "test_set_digest"]

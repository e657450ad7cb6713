"""Data sets: where they come from, how they are cut, and the images that the core computes on.

``rift.data.images`` needs torch and is not imported here: preparing data does not wait for it.
"""

from rift.data.prepared import Prepared, load, prepare, save, test_set_digest

__all__ = ["Prepared", "load", "prepare", "save", "test_set_digest"]

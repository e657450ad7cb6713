"""Robust critical fine-tuning (RiFT) of adversarially trained classifiers.

RiFT improves the standard accuracy without a loss of adversarial robustness.
"""

from importlib.metadata import version

__version__ = version("rift")

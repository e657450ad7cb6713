"""Robust critical fine-tuning of adversarially trained classifiers.

It raises the accuracy at no cost in robustness.
"""

from importlib.metadata import version

__version__ = version("rift")

"""Robust critical fine-tuning: more accuracy for adversarially trained classifiers, at no cost in robustness."""

from importlib.metadata import version

__version__ = version("rift")
